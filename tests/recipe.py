"""The made-up weights and inputs on which the official program's outputs were recorded."""

import json
from pathlib import Path

import numpy as np

SEED = 1


def state_dict(names_file: Path, num_joints: int) -> dict[str, np.ndarray]:
    """Recipe weights in the official naming; `names_file` lists [name, shape] in state-dict order."""
    tensors = {}
    for i, (name, shape) in enumerate(json.loads(names_file.read_text())):
        shape = list(shape)
        if ".output." in name:
            shape[0] = 16 * num_joints * (2 if name.startswith("regressionModel") else 1)
        tensors[name] = _tensor(np.random.default_rng([SEED, i]), name, shape).astype(np.float32)
    return tensors


def _tensor(rng: np.random.Generator, name: str, shape: list[int]) -> np.ndarray:
    if name.endswith("running_mean"):
        return 0.1 * rng.standard_normal(shape)
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape)
    if len(shape) == 4:
        return rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    if len(shape) == 2:
        return rng.standard_normal(shape) * np.sqrt(1 / shape[1])
    if name.endswith("weight"):
        damped = 0.25 if name.endswith("bn3.weight") and "layer" in name else 1.0
        return damped * rng.uniform(0.5, 1.5, shape)
    return 0.1 * rng.standard_normal(shape)


def images(batch: int, height: int, width: int) -> np.ndarray:
    """Recipe input (B, H, W, 1) float32."""
    x = np.random.default_rng([SEED, 777]).standard_normal((batch, 1, height, width))
    return x.astype(np.float32).transpose(0, 2, 3, 1)


def training_data() -> tuple[np.ndarray, np.ndarray]:
    """Four batches of four: images (4, 4, 96, 96, 1) and joints (4, 4, 14, 3) as (u, v, d), float32."""
    rng = np.random.default_rng([SEED, 888])
    x = rng.standard_normal((4, 4, 1, 96, 96)).astype(np.float32)
    row_column = rng.uniform(0, 96, (4, 4, 14, 2))
    depth = rng.uniform(-100, 100, (4, 4, 14, 1))
    joints = np.concatenate([row_column[..., ::-1], depth], axis=-1).astype(np.float32)
    return x.transpose(0, 1, 3, 4, 2), joints
