"""Quickstart: a small A2J on rendered hands, on a laptop's CPU in minutes. Not an experiment of the paper."""

from a2j_jax.config import AugmentConfig, Config, DataConfig, ModelConfig, OptimConfig, RunConfig


def get_config() -> Config:
    """A half-width ResNet-18 on 96-pixel crops."""
    return Config(
        name="quickstart",
        track="synthetic_hand",
        model=ModelConfig(backbone="resnet18", width=32, head_features=96, head_depth=3),
        data=DataConfig(
            crop_size=96,
            eval_split="validation",
            train_frames=20_000,
            validation_frames=512,
            test_frames=2_000,
        ),
        augment=AugmentConfig(scale_range=(0.8, 1.2), noise_probability=0.0),
        optim=OptimConfig(
            batch_size=32, epochs=3, learning_rate=1e-3, schedule="cosine", warmup_steps=100
        ),
        run=RunConfig(eval_every=500),
    )
