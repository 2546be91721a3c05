"""Synthetic depth images of hands: anatomy → surface → ray intersection → sensor → example."""
