"""Quickstart: a small A2J on rendered hands, on a laptop's CPU in minutes. Not an experiment of the paper.

Command:      python train.py --config quickstart   (or all of it: make quickstart)
Hardware:     2 cores of an AMD EPYC (Zen 4), no GPU; 11 min 14 s for everything
Paper:        no such experiment; the paper's network is ResNet-50 on 176-pixel crops of real hands
Expected:     below 20 mm mean error on 2,000 held-out rendered hands
Measured:     19.54 mm (mean pose 53.21 mm, crop center 53.45 mm); docs/quickstart.md has the rest
"""

from a2j_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
)


def get_config() -> Config:
    """A half-width ResNet-18 with slim heads on 80-pixel crops."""
    return Config(
        name="quickstart",
        track="synthetic_hand",
        model=ModelConfig(backbone="resnet18", width=32, head_features=64, head_depth=2),
        data=DataConfig(
            crop_size=80,
            eval_split="validation",
            train_frames=24_000,
            validation_frames=512,
            test_frames=2_000,
        ),
        # All hands are rendered in all orientations and sizes already: a gentler scale, no added noise.
        augment=AugmentConfig(scale_range=(0.8, 1.2), noise_probability=0.0),
        # A pixel of an 80-pixel crop is 2.2 times the paper's, in mm: alpha keeps the balance with depth.
        loss=LossConfig(alpha=1.0),
        optim=OptimConfig(
            batch_size=32, epochs=3.75, learning_rate=1.5e-3, schedule="cosine", warmup_steps=100
        ),
        run=RunConfig(eval_every=940),
    )
