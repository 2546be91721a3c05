"""Data sets of your own, out of a documented folder."""
