"""The backend ``host``: cells run on this machine, on the kernel that is running."""
