"""Table 5 of the paper: A2J on ITOP's top view.

Command:      python train.py --config itop_top   (after: a2j build itop_top --manual_dir ...)
Hardware:     not run yet; the paper names one NVIDIA 1080 Ti
Cost:         64 images a step on each of four TPU v5e: 10.4 GiB, 6.01 TFLOP a chip; at least 0.046 h for the run
              (compiled, not run: a2j plan --config itop_front --topology v5e:2x2 --batch 256; the same program)
Paper:        the view's mAP could not be sourced; head 98.38 % (mAP@10 cm)
Expected:     as the paper
Measured:     not yet

It starts from ImageNet weights, as the paper does: docs/weights.md has the two commands that fetch them.
The authors' training program for the top view is not published: everything is as for the front view.
"""

from a2j_jax.config import Config, LossConfig, ModelConfig, OptimConfig

IMAGENET = "weights/resnet50.safetensors"


def get_config() -> Config:
    """The paper's network; what differs between data sets (crop, augmentation, lambda) belongs to the track."""
    return Config(
        name="itop_top",
        track="itop_top",
        model=ModelConfig(init_from=IMAGENET),
        loss=LossConfig(alpha=1.0),
        optim=OptimConfig(batch_size=256),
    )
