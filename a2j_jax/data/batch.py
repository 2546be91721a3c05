"""The arrays of an example and of a batch: the one place of their names, shapes, dtypes and units.

A batch is a dict of arrays with B rows each, an example one such row:

* `canvas` (B, S + 2m, S + 2m) uint16: the crop and its surroundings, in the track's storage unit, 0 = no reading;
* `joints_uvd` (B, K, 3 or 2) float32: px, px, mm of the full frame; `valid` (B, K) bool: which joints are labeled;
* `box_px`, `window_px` (B, 4) float64: the crop box, clipped to the frame and before clipping, px;
* `center_uvd` (B, 3) float32: px, px, mm; `camera` (B, 4) float32: fx, fy, u0, v0, px;
* `index` (B,) int64: the frame's position in its split;
* in evaluation only, `frame_id` (B,) bytes: the frame's name; `mask` (B,) bool: False marks padding and substitutes for
  examples that cannot be read, which do not count.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Example = dict[str, Any]
Batch = Mapping[str, Any]
FloatArray = NDArray[np.float64]

#: The arrays that a training step reads; the others are for evaluation and stay on the host.
DEVICE_KEYS = ("canvas", "box_px", "window_px", "center_uvd", "joints_uvd", "valid")


def on_device(batch: Batch) -> dict[str, Any]:
    """The arrays of a batch that a training step reads."""
    return {name: batch[name] for name in DEVICE_KEYS}
