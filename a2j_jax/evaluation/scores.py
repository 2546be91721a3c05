"""Predicted joints against labels of one track: errors in millimeters or pixels, and the numbers of the paper's tables.

Everything starts from one table, `errors (N, K)`: the distance between predicted and labeled joint k of frame n, NaN
where the joint has no label, in the unit of the joints. 3D tracks are scored in mm, after uvd -> xyz with the camera;
2D tracks in px of `(u, v)`. Never measure `uvd` directly: pixels and millimeters do not add. A prediction that is
itself not finite is refused: it must not drop out of the mean as if it were unlabeled.

Functions of the table come first, then the protocols, `Scores`, and scores of predictions. `TrackSpec.protocol` adds
the numbers of the data set's own protocol, as fractions (papers print percent).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.geometry import Float64
from a2j_jax.log import logger
from a2j_jax.tracks import TrackSpec

#: A frame's error: that of its worst joint, or the mean over its joints.
FrameError = Literal["worst", "mean"]
FRAME_ERRORS: tuple[FrameError, ...] = get_args(FrameError)
#: mAP@10 cm: a joint counts when it is strictly nearer than this, mm.
MAP_RADIUS_MM = 100.0
#: PDJ is reported at these fractions of the torso diameter, and as their mean.
PDJ_RATIOS = (0.05, 0.10, 0.15, 0.20)
#: Success rates are reported at these (mm, or px on a 2D track); the curve has the rest.
THRESHOLDS = (10.0, 20.0, 30.0, 40.0)
#: The success curve, and the area under it, end here (mm or px).
CURVE_LIMIT = 80.0
# Sources of crops that are not published ones begin so (`tfds_builders.crop_plan`).
_GUESSED = ("depth", "labels")


class NotFiniteError(ValueError):
    """A labeled joint is NaN or infinite."""


def joint_errors(predicted: ArrayLike, truth: ArrayLike, valid: ArrayLike | None = None) -> Float64:
    """Euclidean distance of every joint of every frame.

    Args:
      predicted: (N, K, 3) xyz in mm, or (N, K, 2) uv in px.
      truth: same shape and unit.
      valid: (N, K) bool, False where a joint has no label; None: all are labeled.

    Returns:
      (N, K) float64 in the unit of the input, NaN where `valid` is False.

    Raises:
      ValueError: no frames, shapes that differ, or a labeled joint that is not finite.
    """
    p, t = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if p.shape != t.shape or p.ndim != 3 or p.shape[-1] not in (2, 3):
        raise ValueError(
            f"predicted {p.shape} and truth {t.shape} must both be (frames, joints, 2 or 3)"
        )
    if not p.size:
        raise ValueError(f"nothing to measure: predicted joints have shape {p.shape}")
    labeled = np.ones(p.shape[:2], bool) if valid is None else np.asarray(valid, bool)
    if labeled.shape != p.shape[:2]:
        raise ValueError(f"valid {labeled.shape} must be (frames, joints) = {p.shape[:2]}")
    for name, values in (("predicted", p), ("truth", t)):
        bad = labeled & ~np.isfinite(values).all(-1)
        if bad.any():
            frame, joint = np.argwhere(bad)[0]
            raise NotFiniteError(f"{name} joint {joint} of frame {frame} is not finite")
    return np.linalg.norm(np.where(labeled[..., None], p - t, np.nan), axis=-1)


def mean_error(errors: ArrayLike) -> float:
    """Mean over every labeled joint of every frame of (N, K) errors: the field's "mean 3D error"."""
    return float(_labeled(errors).compressed().mean())


def per_joint_error(errors: ArrayLike) -> Float64:
    """Mean over frames, joint by joint: (K,); NaN for a joint that no frame labels."""
    return _labeled(errors).mean(0).filled(np.nan)


def frame_errors(errors: ArrayLike, by: FrameError) -> Float64:
    """Error of each frame, the largest or the mean of its labeled joints: (N,); NaN without labels."""
    table = _labeled(errors)
    return (table.max(1) if by == "worst" else table.mean(1)).filled(np.nan)


def success_rate(
    errors: ArrayLike, thresholds: Sequence[float] | ArrayLike, by: FrameError = "worst"
) -> Float64:
    """(T,) fractions of frames whose worst (or mean) joint error is strictly below each of (T,) thresholds.

    By the worst joint it is the success rate of the NYU and ICVL papers (Taylor et al., CVPR 2012). Frames without any
    label do not count.
    """
    found = frame_errors(errors, by)
    ordered = np.sort(found[np.isfinite(found)])
    # side="left" counts the frames strictly below the threshold.
    return np.searchsorted(ordered, np.asarray(thresholds, np.float64), side="left") / ordered.size


def success_auc(errors: ArrayLike, limit: float, by: FrameError = "worst") -> float:
    """Area under the success curve from 0 to `limit`, divided by `limit`: 1 is perfect.

    Exact, not a sum over a grid: a frame with error e is a success on (e, limit], so it contributes
    max(0, 1 − e/limit).
    """
    found = frame_errors(errors, by)
    return float(np.clip(1.0 - found[np.isfinite(found)] / limit, 0.0, None).mean())


def rate_below(errors: ArrayLike, threshold: float) -> float:
    """Fraction of all labeled joints *strictly* nearer than `threshold`; NaN where none is labeled.

    With `errors` in mm and a threshold of 100 this is ITOP's mAP@10 cm. Joints are pooled, so a
    group of columns (left and right shoulder) is scored by passing just those.
    """
    table = np.asarray(errors, np.float64)
    values = table[np.isfinite(table)]
    return float((values < threshold).mean()) if values.size else float("nan")


def pdj(errors: ArrayLike, diameters: ArrayLike, ratios: Sequence[float]) -> Float64:
    """Percentage of detected joints, as fractions: error <= ratio × torso diameter (inclusive).

    Args:
      errors: (N, K) in the unit of `diameters`, NaN = unlabeled.
      diameters: (N,) torso diameter of each frame; NaN: the frame does not count.
      ratios: (T,) of the torso diameter.

    Returns:
      (T, K) fractions of each joint's labeled frames, NaN where it has none (Wang et al., ACM MM 2016; Sapp and
      Taskar, CVPR 2013).
    """
    table = np.asarray(errors, np.float64)
    torso = np.asarray(diameters, np.float64)[:, None]
    unknown = ~(np.isfinite(table) & np.isfinite(torso))
    near = [np.ma.array(table <= ratio * torso, mask=unknown).mean(0) for ratio in ratios]
    return np.array([rates.filled(np.nan) for rates in near])


def json_list(values: ArrayLike) -> list[Any]:
    """An array as nested lists for JSON: null where a number is not finite."""
    array = np.asarray(values)
    if array.dtype.kind == "f":
        unknown, array = ~np.isfinite(array), array.astype(object)
        array[unknown] = None
    return list(array.tolist())


def _labeled(errors: ArrayLike) -> np.ma.MaskedArray:
    """The table as float64 (N, K), unlabeled joints masked; ValueError if nothing in it is labeled."""
    table = np.ma.masked_invalid(np.asarray(errors, np.float64))
    if table.ndim != 2:
        raise ValueError(f"errors must be (frames, joints), got shape {table.shape}")
    if not table.count():
        raise ValueError(f"no labeled joint among {len(table)} frames: nothing to measure")
    return table


# --- Protocols


@dataclass(frozen=True)
class ProtocolScores:
    """The numbers of a data set's own protocol, as fractions; NaN for joints and parts without labels.

    Attributes:
      title: "mAP@10 cm" (ITOP) or "mean PDJ" (K2HPD).
      mean: over all labeled joints of all frames; of PDJ, the mean over its ratios.
      per_joint: (K,) the same in skeleton order.
      parts: the columns of the paper's table: groups of joints with left and right pooled, then regions; or PDJ at each
        ratio.
      main_parts: labels of the parts for a report's headline.
      json: what `Scores.to_json` adds: `map_10cm` (the mean), `map_10cm_groups` and `map_10cm_per_joint`; or
        `pdj` ({"0.05": …}), `pdj_mean`, `pdj_per_joint` ({"0.05": [K numbers]}) and `pdj_mean_per_joint`.
    """

    title: str
    mean: float
    per_joint: tuple[float, ...]
    parts: Mapping[str, float]
    main_parts: tuple[str, ...]
    json: Mapping[str, Any]


def score_map(errors_mm: Float64, track: TrackSpec) -> ProtocolScores:
    """mAP@10 cm of (N, K) errors in mm, NaN = unlabeled."""

    def rate(joints: Iterable[int]) -> float:
        return rate_below(errors_mm[:, list(joints)], MAP_RADIUS_MM)

    every = range(errors_mm.shape[1])
    mean, per_joint = rate(every), tuple(rate([joint]) for joint in every)
    pooled = (*track.skeleton.groups, *track.skeleton.regions)
    groups = {name: rate(joints) for name, joints in pooled}
    return ProtocolScores(
        title="mAP@10 cm",
        mean=mean,
        per_joint=per_joint,
        parts={name.replace("_", " "): value for name, value in groups.items()},
        main_parts=("upper body", "lower body"),
        json={
            "map_10cm": mean,
            "map_10cm_groups": dict(zip(groups, json_list([*groups.values()]), strict=True)),
            "map_10cm_per_joint": json_list(per_joint),
        },
    )


def score_pdj(errors_px: Float64, labels: ArrayLike, track: TrackSpec) -> ProtocolScores | None:
    """PDJ of (N, K) errors in px, NaN = unlabeled; None without a torso in the skeleton, or a labeled one in any frame.

    The torso of the (N, K, 2) labels is the yardstick: from one joint to the midpoint of two others, see
    `Skeleton.torso`. A frame with an unlabeled torso joint does not count.
    """
    if track.skeleton.torso is None:
        return None
    end, middle = track.skeleton.torso
    joints = np.asarray(labels, np.float64)
    diameters = np.linalg.norm(joints[:, end] - joints[:, list(middle)].mean(1), axis=-1)
    diameters[~np.isfinite(errors_px[:, [end, *middle]]).all(1)] = np.nan
    counted = np.isfinite(errors_px) & np.isfinite(diameters)[:, None]
    if not counted.any():
        return None
    table = pdj(errors_px, diameters, PDJ_RATIOS)
    weights = counted.sum(0)
    at = np.nansum(table * weights, axis=1) / weights.sum()  # pooled: every labeled joint once
    per_joint = table.mean(axis=0).tolist()
    keys = [f"{ratio:.2f}" for ratio in PDJ_RATIOS]
    parts = {f"PDJ at {key}": float(value) for key, value in zip(keys, at, strict=True)}
    return ProtocolScores(
        title="mean PDJ",
        mean=float(at.mean()),
        per_joint=tuple(per_joint),
        parts=parts,
        main_parts=tuple(parts),
        json={
            "pdj": dict(zip(keys, at.tolist(), strict=True)),
            "pdj_mean": float(at.mean()),
            "pdj_per_joint": dict(zip(keys, json_list(table), strict=True)),
            "pdj_mean_per_joint": json_list(per_joint),
        },
    )


@dataclass(frozen=True)
class Scores:
    """The scores of one set of predictions.

    Attributes:
      track: name of the track.
      unit: "mm" (3D) or "px" (2D), of every error below.
      frames: how many frames were counted.
      mean_error: mean over labeled joints and frames.
      per_joint: (K,) mean per joint in skeleton order, NaN for a joint no frame labels.
      joint_names: (K,) names to go with `per_joint`.
      success_rate: "worst" or "mean" -> threshold -> fraction of frames whose worst (mean) joint is nearer.
      success_auc: "worst" or "mean" -> area under that success curve up to `CURVE_LIMIT`, as a fraction of it.
      errors: (N, K) the table all of it comes from, NaN = unlabeled; for curves and pictures.
      protocol: the data set's own protocol; None: it is the mean error.
      frames_of: how many the split has as published, or as shipped; None: unknown.
      centers: where the crops came from, source -> frames; None: unknown, as for a file of others.
      subsets: name -> scores of some of the frames.
    """

    track: str
    unit: str
    frames: int
    mean_error: float
    per_joint: tuple[float, ...]
    joint_names: tuple[str, ...]
    success_rate: Mapping[FrameError, Mapping[float, float]]
    success_auc: Mapping[FrameError, float]
    errors: Float64
    protocol: ProtocolScores | None = None
    frames_of: int | None = None
    centers: Mapping[str, int] | None = None
    subsets: Mapping[str, "Scores"] = field(default_factory=dict)

    @property
    def caveat(self) -> str:
        """The reasons why these numbers cannot be compared to published ones: "3 of 8,252 frames, crops from depth"."""
        parts = [self.frames_text] if self.frames < (self.frames_of or 0) else []
        centers = self.centers or {}
        some = "some " if len(centers) > 1 else ""
        parts += [f"{some}crops from {name}" for name in centers if name.startswith(_GUESSED)]
        return ", ".join(parts)

    @property
    def frames_text(self) -> str:
        """How many frames were scored, and of how many if not all: "3 of 8,252 frames"."""
        of = f" of {self.frames_of:,}" if self.frames < (self.frames_of or 0) else ""
        return f"{self.frames:,}{of} frames"

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; units are in the names (`mean_error_mm` or `mean_error_px`).

        `per_joint_*` is a list in skeleton order (null for a joint without labels), `success_rate` maps the threshold
        as text ("10") to the fraction, `auc` is the area under that curve; both are of the worst joint.
        """
        rates = {
            by: {f"{threshold:g}": rate for threshold, rate in found.items()}
            for by, found in self.success_rate.items()
        }
        subsets = {name: one.to_json() for name, one in self.subsets.items()}
        return {
            "track": self.track,
            "frames": self.frames,
            "frames_of": self.frames_of,
            "centers": None if self.centers is None else dict(self.centers),
            "caveat": self.caveat,
            f"mean_error_{self.unit}": self.mean_error,
            f"per_joint_{self.unit}": json_list(self.per_joint),
            "joint_names": list(self.joint_names),
            "success_rate": rates["worst"],
            f"success_auc_{CURVE_LIMIT:g}{self.unit}": self.success_auc["worst"],
            "auc": self.success_auc["worst"],
            "success_rate_mean_joint": rates["mean"],
            "auc_mean_joint": self.success_auc["mean"],
            **(self.protocol.json if self.protocol else {}),
            **({"subsets": subsets} if subsets else {}),
        }


def score_errors(errors: Float64, track: TrackSpec, labels_uvd: ArrayLike | None = None) -> Scores:
    """Summarize a table of (N, K) errors, NaN = unlabeled, in mm (3D) or px (2D), by the track's protocol.

    PDJ measures in the torsos of the (N, K, 2 or 3) labels, and is left out without them.
    """
    rates = {by: success_rate(errors, THRESHOLDS, by) for by in FRAME_ERRORS}
    protocol = score_map(errors, track) if track.protocol == "map_10cm" else None
    if track.protocol == "pdj" and labels_uvd is not None:
        protocol = score_pdj(errors, np.asarray(labels_uvd, np.float64)[..., :2], track)
    return Scores(
        track=track.name,
        unit=track.error_unit,
        frames=len(errors),
        mean_error=mean_error(errors),
        per_joint=tuple(per_joint_error(errors).tolist()),
        joint_names=tuple(track.skeleton.joints),
        success_rate={
            by: dict(zip(THRESHOLDS, rate.tolist(), strict=True)) for by, rate in rates.items()
        },
        success_auc={by: success_auc(errors, CURVE_LIMIT, by) for by in rates},
        errors=errors,
        protocol=protocol,
    )


def score_predictions(
    predicted_uvd: ArrayLike,
    labels_uvd: ArrayLike,
    track: TrackSpec,
    valid: ArrayLike | None = None,
    cameras: NDArray[np.floating] | None = None,
) -> Scores:
    """Score joints against labels.

    Args:
      predicted_uvd: (N, K, 3) px px mm, or (N, K, 2) px.
      labels_uvd: the same shape.
      valid: (N, K) bool, False where a joint has no label.
      cameras: (N, 4) fx fy u0 v0 of each frame; None: `track.camera`.

    Raises:
      ValueError: shapes that differ or do not fit the track, no frames, joints not finite.
    """
    predicted, labels = (np.asarray(a, np.float64) for a in (predicted_uvd, labels_uvd))
    if predicted.shape != labels.shape:
        raise ValueError(f"predicted {predicted.shape} and labels {labels.shape} must be alike")
    labels_in_frame = labels
    if track.joint_dims == 3:
        if cameras is None:
            if track.camera is None:
                raise ValueError(f"track '{track.name}' has no camera: pass cameras")
            cameras = track.camera.as_array()[None]
        predicted, labels = (to_camera(uvd, cameras) for uvd in (predicted, labels))
    return score_errors(joint_errors(predicted, labels, valid), track, labels_in_frame)


def to_camera(uvd: Float64, cameras: NDArray[np.floating]) -> Float64:
    """(N, K, 3) px px mm with each frame's own (N, 4) camera, or one (1, 4) -> mm. One call per distinct camera."""
    xyz = np.empty_like(uvd)
    distinct, which = np.unique(cameras, axis=0, return_inverse=True)
    for number, values in enumerate(distinct):
        taken = np.broadcast_to(which.reshape(-1) == number, len(uvd))
        xyz[taken] = geometry.uvd_to_xyz(uvd[taken], geometry.Camera.from_array(values))
    return xyz


def marked(scores: Mapping[str, Scores]) -> dict[str, Scores]:
    """Scores under names that hold their caveats: "A2J (3 of 8,252 frames)"."""
    return {(f"{n} ({one.caveat})" if one.caveat else n): one for n, one in scores.items()}


def with_subsets(
    scores: Mapping[str, Scores],
    subsets: Mapping[str, NDArray[np.int64]],
    index: NDArray[np.int64],
    track: TrackSpec,
    labels_uvd: Float64,
) -> dict[str, Scores]:
    """Add the scores of subsets of the frames (HANDS 2017's seen and unseen subjects, say) to those of all frames.

    Args:
      scores: method -> scores of the same N frames.
      subsets: name -> numbers of its frames; frames that were not evaluated are left out.
      index: (N,) number of each evaluated frame.
      labels_uvd: (N, K, D) labels.

    Raises:
      UserError: none of a subset's frames was evaluated.
    """
    rows = {name: np.flatnonzero(np.isin(index, numbers)) for name, numbers in subsets.items()}
    for name, taken in rows.items():
        listed = f"of its {len(subsets[name]):,} frames"
        if not taken.size:
            raise UserError(
                f"subset {name!r}: none {listed} is among the {len(index):,} that are scored "
                f"(numbers {index.min()} to {index.max()})"
            )
        if taken.size < len(subsets[name]):
            logger.info(f"subset {name!r}: {taken.size:,} {listed} are scored")

    def parts(errors: Float64) -> dict[str, Scores]:
        return {n: score_errors(errors[at], track, labels_uvd[at]) for n, at in rows.items()}

    return {method: replace(one, subsets=parts(one.errors)) for method, one in scores.items()}
