"""The asv suites: read from today's work tree, run against the refbench of each commit."""
