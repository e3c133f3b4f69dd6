"""A plugin for an api_version that is no more."""

refbench_api_version = 0
