"""Where the files that kernels are made of are kept: patches, configurations, modules."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
PATCHES = HERE / "patches"
"""One folder a kernel series, ``6.12``, and one beside it, ``6.12-v1``, for tests alone."""
CONFIGS = HERE / "configs"
MODULES = HERE / "modules"
