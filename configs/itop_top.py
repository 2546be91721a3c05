"""Table 5 of the paper: A2J on ITOP's top view.

Command:      python train.py --config itop_top   (after: a2j build itop_top --manual_dir ...)
Hardware:     not run yet; the paper names one NVIDIA 1080 Ti
Cost:         64 images a step on each of four TPU v5e: 10.4 GiB, 6.01 TFLOP a chip; at least 0.046 h for the run
              (compiled, not run: a2j plan --config itop_front --topology v5e:2x2 --batch 256; the same program)
Paper:        80.5 % mAP@10 cm (V2V*, an ensemble of 10 models: 83.44 %)
Expected:     as the paper
Measured:     not yet

It starts from ImageNet weights, as the paper does: docs/weights.md has the two commands that fetch them.
The authors' training program for the top view is not published: everything is as for the front view. The paper: 26
epochs, x0.1 every 10, alpha 0.5 (--config.optim.preset=paper --config.loss.preset=paper).
"""

from a2j_jax.config import Config, ModelConfig, OptimConfig


def get_config() -> Config:
    """The paper's network; what differs between data sets (crop, augmentation, lambda) belongs to the track."""
    model = ModelConfig(init_from="weights/resnet50.safetensors")
    return Config(name="itop_top", track="itop_top", model=model, optim=OptimConfig(batch_size=256))
