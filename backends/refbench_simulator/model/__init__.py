"""The kernel as a model: address spaces, folios, files, faults. It knows no programs."""
