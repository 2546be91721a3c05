"""Table 6 of the paper: A2J on K2HPD, in the plane.

Command:      python train.py --config k2hpd   (after: a2j build k2hpd --manual_dir ...)
Hardware:     not run yet; the paper names one NVIDIA 1080 Ti
Cost:         64 images a step on each of four TPU v5e: 10.2 GiB, 5.24 TFLOP a chip; at least 0.14 h for the run
              (compiled, not run: a2j plan --config k2hpd --topology v5e:2x2 --batch 256)
Paper:        PDJ 76.3 % at 0.05 of the torso, 94.4 at 0.10, 97.6 at 0.15, 98.6 at 0.20; average 91.7 %
Expected:     as the paper
Measured:     not yet

It starts from ImageNet weights, as the paper does: docs/weights.md has the two commands that fetch them.
The authors' training program for K2HPD is not published: the schedule is that of ITOP's log,
lambda and alpha are NYU's. The paper: 26 epochs, x0.1 every 10 (--config.optim.preset=paper).
"""

from a2j_jax.config import Config, ModelConfig


def get_config() -> Config:
    """The paper's network; what differs between data sets (crop, augmentation, lambda) belongs to the track."""
    model = ModelConfig(init_from="weights/resnet50.safetensors")
    return Config(name="k2hpd", track="k2hpd", model=model)
