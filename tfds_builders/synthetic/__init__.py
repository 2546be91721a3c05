"""The embedded data sets: rendered hands and bodies."""
