"""Virtual machines that the backends boot: built kernels, a QEMU process, its log's guard."""
