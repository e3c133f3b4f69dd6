"""Building kernels: source, patches, configuration, modules, and what is kept of them."""
