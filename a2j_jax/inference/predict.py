"""The compiled path from a batch of crops to joints, which evaluation, `Predictor` and figures share."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from a2j_jax.data import augment
from a2j_jax.data.batch import Batch
from a2j_jax.models.a2j import PoseNetwork
from a2j_jax.models.anchors import Estimate, jit_with_decoding
from a2j_jax.runs import sharding
from a2j_jax.tracks import TrackSpec

#: (variables, batch) -> joints (B, K, D) in crop coordinates and confidence (B, K)
Predict = Callable[[Any, Batch], Estimate]


def make_predict_fn(
    model: PoseNetwork, track: TrackSpec, devices: Sequence[jax.Device] | None = None
) -> Predict:
    """Network and decoding, compiled for the crops of a track.

    Args:
      model: the network.
      track: sizes and normalization of the crops.
      devices: of this process, which share the rows of a batch, whatever their number; all by default.

    Returns:
      A function of variables, as `place_variables` places them on these devices, and of a batch, of which it reads
      `canvas` and `center_uvd`. It does not wait for the device.
    """
    layout = sharding.local_layout(devices)

    def network(variables: Any, canvas: jax.Array, center_depth_mm: jax.Array) -> Any:
        return model.apply(
            variables, augment.evaluation_images(canvas, center_depth_mm, track), train=False
        )

    compiled = jit_with_decoding(
        network,
        track.crop_size,
        in_shardings=(layout.everywhere, layout.spread, layout.spread),
        out_shardings=layout.spread,
    )

    def predict(variables: Any, batch: Batch) -> Estimate:
        rows: tuple[np.ndarray, ...] = (
            np.asarray(batch["canvas"]),
            np.asarray(batch["center_uvd"])[:, 2],
        )
        count = len(rows[0])
        padding = -count % len(layout.devices)
        if padding:
            rows = tuple(np.concatenate([x, x[:1].repeat(padding, 0)]) for x in rows)
        found = compiled(variables, *jax.device_put(rows, layout.spread))
        return jax.tree.map(lambda x: np.asarray(x)[:count], found) if padding else found

    return predict


def place_variables(variables: Any, devices: Sequence[jax.Device] | None = None) -> Any:
    """Variables, whole on each of these devices of this process; on all of them by default."""
    return jax.device_put(sharding.whole_here(variables), sharding.local_layout(devices).everywhere)
