"""Table 4 of the paper: A2J on ICVL.

Command:      python train.py --config icvl   (after: a2j build icvl --manual_dir ... --centers ...)
Hardware:     not run yet; the paper names one NVIDIA 1080 Ti
Cost:         64 images a step on each of four TPU v5e: 4.4 GiB, 2.18 TFLOP a chip; at least 0.35 h for the run
              (compiled, not run: a2j plan --config icvl --topology v5e:2x2 --batch 256)
Paper:        6.46 mm mean error on the 1,596 test frames
Expected:     6.46 mm
Measured:     not yet

It starts from ImageNet weights, as the paper does: docs/weights.md has the two commands that fetch them.
The authors' training program for ICVL is not published: the schedule and augmentation are NYU's (35 epochs, x0.2
every 10). The paper: 17 epochs, x0.1 every 7 (--config.optim.preset=paper).
"""

from a2j_jax.config import Config, ModelConfig


def get_config() -> Config:
    """The paper's network; what differs between data sets (crop, augmentation, lambda) belongs to the track."""
    model = ModelConfig(init_from="weights/resnet50.safetensors")
    return Config(name="icvl", track="icvl", model=model)
