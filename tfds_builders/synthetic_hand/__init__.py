"""The embedded data set of rendered hands."""
