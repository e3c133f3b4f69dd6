"""refbench: what does it cost to give fresh memory a non-zero initial content?"""

from refbench.version import VERSION as __version__

__all__ = ["__version__"]
