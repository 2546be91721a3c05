"""Synthetic depth images of hands and bodies: anatomy -> surface -> ray intersection -> sensor -> example."""
