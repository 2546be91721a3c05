"""Table 2 of the paper: A2J on HANDS 2017, frame-based.

Command:      python train.py --config hands2017   (after: a2j build hands2017 --manual_dir ... --centers ...)
Hardware:     not run yet; the paper names one NVIDIA 1080 Ti
Cost:         64 images a step on each of four TPU v5e: 4.5 GiB, 2.21 TFLOP a chip; at least 1 h for the run
              (compiled, not run: a2j plan --config hands2017 --topology v5e:2x2 --batch 256)
Paper:        8.57 mm mean error on the challenge's 295,510 test frames (seen subjects 6.92 mm, unseen 9.95 mm)
Expected:     8.57 mm, from the challenge's server: its labels are not public
Measured:     not yet

It starts from ImageNet weights, as the paper does: docs/weights.md has the two commands that fetch them.
The authors' training program for HANDS 2017 is not published: the schedule and augmentation are NYU's (35 epochs,
x0.2 every 10). The paper: 17 epochs, x0.1 every 7 (--config.optim.preset=paper). Checkpoints are ranked by the last
2 % of the training frames, which are left out of training.
"""

from a2j_jax.config import Config, DataConfig, ModelConfig


def get_config() -> Config:
    """The paper's network; what differs between data sets (crop, augmentation, lambda) belongs to the track."""
    model = ModelConfig(init_from="weights/resnet50.safetensors")
    data = DataConfig(train_split="train[:98%]", eval_split="train[98%:]")
    return Config(name="hands2017", track="hands2017", model=model, data=data)
