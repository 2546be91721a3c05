"""K2HPD: bodies in 8-bit depth images, labelled in two dimensions."""
