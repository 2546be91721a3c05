"""What a training step will take on chips that are not here: compiled ahead of time, bounded, never run."""
