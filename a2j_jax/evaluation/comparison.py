"""Several sets of predictions of the same frames, and what is known of those frames: what a report shows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from a2j_jax import geometry
from a2j_jax.evaluation.evaluate import Batch, Frames, to_camera
from a2j_jax.evaluation.score import Scores, marked
from a2j_jax.tracks import TrackSpec

FloatArray = NDArray[np.float64]
#: row of a comparison → that example, as the input pipeline stores it.
FetchExample = Callable[[int], Batch]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods side by side on N frames of K joints.

    Attributes:
        spec: the track.
        scores: method → scores of the same frames; the first is the one a report is about.
        labels_uvd: (N, K, D) px px mm, or px px on a 2D track.
        valid: (N, K) bool, which labels exist.
        joints_uvd: method → (N, K, D) predictions, of the methods that are drawn (a baseline is not).
        frames: boxes, centres and cameras; None: labels and predictions are all there is.
        fetch: row → example with its `canvas`; None: no depth to draw on.
        index: (N,) number of each frame in its distribution; None: they are counted.
        own_rows: table → row of the paper's Tables 7 to 10 that the main method is (`paper_tables.rows_of`).
    """

    spec: TrackSpec
    scores: Mapping[str, Scores]
    labels_uvd: FloatArray
    valid: NDArray[np.bool_]
    joints_uvd: Mapping[str, FloatArray] = field(default_factory=dict)
    frames: Frames | None = None
    fetch: FetchExample | None = None
    index: NDArray[np.int64] | None = None
    own_rows: Mapping[str, str] = field(default_factory=dict)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(N,) number of each frame."""
        return np.arange(len(self.labels_uvd)) if self.index is None else self.index

    def marked(self) -> "Comparison":
        """The same, methods called by names that say what keeps them from standing beside published ones."""
        names = dict(zip(self.scores, marked(self.scores), strict=True))
        joints = {names[name]: uvd for name, uvd in self.joints_uvd.items()}
        return replace(self, scores=marked(self.scores), joints_uvd=joints)

    @property
    def unit(self) -> str:
        """Of all errors: "mm", or "px" on a 2D track."""
        return next(iter(self.scores.values())).unit

    @property
    def main(self) -> str:
        """The method the report is about."""
        return next(iter(self.scores))


def joint_depths_mm(comparison: Comparison) -> FloatArray | None:
    """Distance of every labelled joint from the camera's plane, (N, K) mm; None on a 2D track."""
    if comparison.spec.joint_dims == 2:
        return None
    return np.asarray(comparison.labels_uvd, np.float64)[..., 2]


def center_distances(comparison: Comparison) -> tuple[FloatArray, str]:
    """How far every labelled joint lies from where the crop was centred.

    Returns:
        (N, K) distances, NaN for a joint without label, and what they are, with the unit:

        * crop around a 3D centre: mm from it, in space;
        * crop by a box: px of the crop, in the image, from the middle of the box;
        * no data set, so no crop: mm (px in 2D) from the mean of the frame's labelled joints.
    """
    spec, frames = comparison.spec, comparison.frames
    labels = np.where(comparison.valid[..., None], comparison.labels_uvd, np.nan)
    if frames is not None and spec.crop_by == "box":
        in_crop = geometry.frame_to_crop(labels[..., :2], frames.box_px, spec.crop_size)
        distance = np.linalg.norm(in_crop - spec.crop_size / 2.0, axis=-1)
        return distance, "distance from the crop center (px of the crop)"
    points = labels
    if spec.joint_dims == 3:
        points = to_camera(labels, _cameras(comparison))
    if frames is not None and spec.joint_dims == 3:
        centers = to_camera(frames.center_uvd[:, None], frames.camera)
        return np.linalg.norm(points - centers, axis=-1), "distance from the crop center (mm)"
    count = np.maximum(comparison.valid.sum(1), 1)[:, None, None]
    middle = np.nansum(points, axis=1, keepdims=True) / count
    distance = np.linalg.norm(points - middle, axis=-1)
    return distance, f"distance from the mean labeled joint ({comparison.unit})"


def _cameras(comparison: Comparison) -> FloatArray:
    """(N, 4) camera of every frame: its own, or the track's."""
    if comparison.frames is not None:
        return comparison.frames.camera
    assert comparison.spec.camera is not None, "a 3D track has a camera"
    return np.tile(comparison.spec.camera.as_array(), (len(comparison.labels_uvd), 1))
