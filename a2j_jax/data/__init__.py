"""Examples on their way to the network: depth files, crops, augmentation, and batches on devices."""
