"""The backend ``simulator``: Linux's page-fault path as a model, on any operating system."""
