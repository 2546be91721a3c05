"""Mean and standard deviation of a track's crops, gathered while a data set is written."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from a2j_jax.geometry import center_crop
from a2j_jax.tracks import TrackSpec


@dataclass(frozen=True)
class Moments:
    """Sums over pixels: added up shard by shard, in order, whoever counted them.

    Attributes:
      count: of pixels.
      total: of their values, in the track's image unit.
      squares: of their squares.
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.count + other.count, self.total + other.total, self.squares + other.squares
        )

    @property
    def mean(self) -> float:
        """Of all pixels."""
        return self.total / self.count

    @property
    def std(self) -> float:
        """Of all pixels (population)."""
        return max(self.squares / self.count - self.mean**2, 0.0) ** 0.5


def crop_moments(
    canvas: npt.NDArray[np.uint16], center_depth_mm: float, track: TrackSpec
) -> Moments:
    """Sums over one crop, in the unit that `TrackSpec.mean` and `.std` normalise.

    Args:
      canvas: (S + 2m, S + 2m) in storage units; its centre is the crop.
      center_depth_mm: depth of the centre; ignored where the track's reference is zero.
      track: the constants.
    """
    unit = track.storage_unit_mm / track.image_unit_mm
    image = center_crop(canvas, track.crop_size).astype(np.float64) * unit
    if track.depth_reference == "center":
        image -= center_depth_mm / track.image_unit_mm
        if track.depth_window_mm is not None:
            image[np.abs(image) >= track.depth_window_mm / track.image_unit_mm] = 0.0
    # Not a dot product: BLAS would wake all its threads for each of a million small crops.
    return Moments(image.size, float(image.sum()), float(np.square(image).sum()))
