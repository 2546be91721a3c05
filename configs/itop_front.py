"""Table 5 of the paper: A2J on ITOP's front view, by the authors' log.

Command:      python train.py --config itop_front   (after: a2j build itop_front --manual_dir ...)
Hardware:     not run yet; the paper names one NVIDIA 1080 Ti
Cost:         64 images a step on each of four TPU v5e: 10.4 GiB, 6.01 TFLOP a chip; at least 0.046 h for the run
              (compiled, not run: a2j plan --config itop_front --topology v5e:2x2 --batch 256)
Paper:        88.0 % mAP@10 cm on the 4,863 test frames
Expected:     88.0 % at the best epoch, 87.9 % at the last, as in their log; their predictions score 88.018 % here
Measured:     not yet

It starts from ImageNet weights, as the paper does: docs/weights.md has the two commands that fetch them.
The authors' log has 27 epochs, x0.2 every 10, lambda 3 and alpha 1. The paper: 26 epochs, x0.1 every 10, alpha 0.5
(--config.optim.preset=paper --config.loss.preset=paper).
"""

from a2j_jax.config import Config, ModelConfig, OptimConfig


def get_config() -> Config:
    """The paper's network; what differs between data sets (crop, augmentation, lambda) belongs to the track."""
    model = ModelConfig(init_from="weights/resnet50.safetensors")
    return Config(
        name="itop_front", track="itop_front", model=model, optim=OptimConfig(batch_size=256)
    )
