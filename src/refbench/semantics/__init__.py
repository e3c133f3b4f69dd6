"""The semantics suite: is a mechanism right, before it is timed? See docs/semantics.md."""
