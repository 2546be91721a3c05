"""Table 3 of the paper: A2J on NYU, by the official program's schedule.

Command:      python train.py --config nyu   (after: a2j build nyu --manual_dir ... --centers ...)
Hardware:     not run yet; the paper names one NVIDIA 1080 Ti
Paper:        8.61 mm mean error on the 8,252 test frames
Expected:     8.61 mm; the authors' predictions score 8.6098 mm here
Measured:     not yet

Other tracks train the same way: --config nyu --config.track=icvl, say. What differs between data sets (crop,
augmentation, lambda) belongs to the track.
"""

from a2j_jax.config import Config


def get_config() -> Config:
    """The defaults are the paper's network and the official program's optimiser."""
    return Config(name="nyu", track="nyu")
