"""A plugin that raises while it is imported."""

raise RuntimeError("the board farm's library is not here")
