"""Where the object is in depth, when only its box is known."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from a2j_jax.errors import UserError


def depth_in_box(
    depth_mm: NDArray[np.floating], box_px: ArrayLike, depth_window_mm: float
) -> float:
    """Depth of the object that fills the front of a box: the θ of a hand track.

    The nearest surface is found first (2nd percentile of the readings: a stray near pixel does not
    count); readings farther than 2 × the depth window behind it are background; the median of the
    rest is the object's depth. The published centres of a hand are such means over its pixels.

    Args:
        depth_mm: (H, W) mm, 0 = no reading.
        box_px: (4,) x0 y0 x1 y1, clipped to the frame, px.
        depth_window_mm: the track's; the object is at most twice this deep.

    Returns:
        mm.

    Raises:
        UserError: no reading inside the box.
    """
    x0, y0, x1, y1 = (int(edge) for edge in np.asarray(box_px, np.float64))
    inside = depth_mm[y0 : y1 + 1, x0 : x1 + 1]
    readings = inside[inside > 0]
    if readings.size == 0:
        raise UserError(
            f"box {x0},{y0},{x1},{y1}: no depth reading inside; expected a box around the object"
        )
    nearest = np.percentile(readings, 2.0)
    return float(np.median(readings[readings <= nearest + 2.0 * depth_window_mm]))
