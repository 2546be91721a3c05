"""The quickstart in batches of 1,024: the learning rate scaled linearly, with a warm-up. No experiment of the paper.

Command:      a2j train --config large_batch
Hardware:     meant for several devices; any batch by --config.optim.batch_size
Paper:        no such experiment; scaling and warm-up are those of Goyal et al. 2017, arXiv 1706.02677
Expected:     a larger error than the quickstart's: as many epochs are fewer steps
Measured:     on a smaller network and crops, docs/scaling.md ("Large batches")
"""

import dataclasses

from a2j_jax.config import Config
from a2j_jax.config_files import load_config


def get_config() -> Config:
    """The quickstart's learning rate is for its 32 images."""
    small = load_config("quickstart")
    optim = dataclasses.replace(
        small.optim, batch_size=1024, base_batch_size=32, warmup_steps=0, warmup_epochs=0.5
    )
    return dataclasses.replace(
        small,
        name="large_batch",
        optim=optim,
        run=dataclasses.replace(small.run, eval_every=None, eval_epochs=1.25),
    )
