"""Table 3 of the paper: A2J on NYU, by the official program's schedule.

Command:      python train.py --config nyu   (after: a2j build nyu --manual_dir ... --centers ...)
Hardware:     not run yet; the paper names one NVIDIA 1080 Ti
Cost:         64 images a step on each of four TPU v5e: 4.4 GiB, 2.16 TFLOP a chip; at least 0.077 h for the run
              (compiled, not run: a2j plan --config nyu --topology v5e:2x2 --batch 256)
Paper:        8.61 mm mean error on the 8,252 test frames
Expected:     8.61 mm; the authors' predictions score 8.6098 mm here
Measured:     not yet

It starts from ImageNet weights, as the paper does: docs/weights.md has the two commands that fetch them.
The authors' program trains for 35 epochs, x0.2 every 10. The paper: 34 epochs, x0.1 every 10
(--config.optim.preset=paper).
"""

from a2j_jax.config import Config, ModelConfig


def get_config() -> Config:
    """The paper's network; what differs between data sets (crop, augmentation, lambda) belongs to the track."""
    model = ModelConfig(init_from="weights/resnet50.safetensors")
    return Config(name="nyu", track="nyu", model=model)
