"""ITOP: bodies seen from the front and from above."""
