"""The backend ``qemu``: cells run on a kernel of one's choice, booted in QEMU."""
