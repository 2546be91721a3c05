"""The network of `hand-small`, which ships with the package: hands of all kinds, before depth cameras of all kinds.

Command:      make hand-small   (renders, trains, evaluates, packs the weights)
Hardware:     2 cores of an AMD EPYC (Zen 4), no GPU
Paper:        no such experiment
Measured:     docs/models.md
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
    """The quickstart's network on 96-pixel crops, trained seven times as long on varied scenes."""
    return Config(
        name="hand_small",
        track="synthetic_hand",
        model=ModelConfig(backbone="resnet18", width=32, head_features=64, head_depth=2),
        data=DataConfig(
            dir="data/varied",
            scenes="varied",
            crop_size=96,
            eval_split="validation",
            train_frames=120_000,
            validation_frames=2_000,
            test_frames=2_000,
        ),
        # Scenes have centers that are 12 mm off, and sizes and orientations of all kinds, already.
        augment=AugmentConfig(scale_range=(0.85, 1.15), noise_probability=0.0, center_shift_mm=6.0),
        loss=LossConfig(alpha=0.85),  # as in the quickstart, for pixels of this size
        optim=OptimConfig(
            batch_size=32,
            epochs=5,
            learning_rate=1.5e-3,
            schedule="cosine",
            warmup_steps=200,
            ema_decay=0.999,
        ),
        run=RunConfig(eval_every=1_875, save_minutes=5.0),
    )
