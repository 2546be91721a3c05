"""What a data set's own protocol adds to the scores: ITOP's mAP@10 cm, K2HPD's PDJ.

The unit of every number here is a fraction, 0 to 1; papers print percent. `TrackSpec.protocol` says
which protocol a track has, the skeleton which joints are pooled (`Skeleton.groups`, `.regions`,
`.torso`).

Predicted joints against labels of one track: the numbers of the paper's tables.

3D tracks are scored in millimetres, after uvd → xyz with the camera; 2D tracks in pixels. On top of
these come the numbers of the data set's own protocol (`a2j_jax.evaluation.scores`).

Scores of some frames beside those of all: HANDS 2017's seen and unseen subjects, or any list of frames.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from a2j_jax import geometry
from a2j_jax.errors import UserError, printable
from a2j_jax.evaluation import metrics
from a2j_jax.evaluation.joint_files import JointSet, match_names, numbered
from a2j_jax.files import local_path, regular_file
from a2j_jax.log import logger
from a2j_jax.tracks import TrackRecord, TrackSpec

#: mAP@10 cm: a joint counts when it is strictly nearer than this, mm.
MAP_RADIUS_MM = 100.0
#: PDJ is reported at these fractions of the torso diameter, and as their mean.
PDJ_RATIOS = (0.05, 0.10, 0.15, 0.20)


@dataclass(frozen=True)
class MapScores:
    """ITOP's protocol: the fraction of joints nearer than 10 cm.

    Attributes:
        mean: over all labelled joints of all frames.
        per_joint: (K,) in skeleton order, NaN for a joint without labels.
        groups: name → fraction, left and right pooled (the columns of the paper's Table 5), then
            the regions upper_body, lower_body and full_body; NaN for a group without labels.
    """

    mean: float
    per_joint: tuple[float, ...]
    groups: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """`map_10cm` (the mean), `map_10cm_groups` and `map_10cm_per_joint`, fractions."""
        return {
            "map_10cm": self.mean,
            "map_10cm_groups": {name: _or_none(value) for name, value in self.groups.items()},
            "map_10cm_per_joint": [_or_none(value) for value in self.per_joint],
        }


@dataclass(frozen=True)
class PdjScores:
    """K2HPD's protocol: the fraction of joints nearer than a ratio of the torso diameter.

    Attributes:
        at: ratio → fraction over all labelled joints of all frames.
        mean: of the values of `at`.
        per_joint: ratio → (K,) in skeleton order, NaN for a joint without labels.
        mean_per_joint: (K,) mean over the ratios.
    """

    at: Mapping[float, float]
    mean: float
    per_joint: Mapping[float, tuple[float, ...]]
    mean_per_joint: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """`pdj` ({"0.05": …}), `pdj_mean`, `pdj_per_joint` and `pdj_mean_per_joint`, fractions."""
        return {
            "pdj": {f"{ratio:.2f}": value for ratio, value in self.at.items()},
            "pdj_mean": self.mean,
            "pdj_per_joint": {
                f"{ratio:.2f}": [_or_none(value) for value in values]
                for ratio, values in self.per_joint.items()
            },
            "pdj_mean_per_joint": [_or_none(value) for value in self.mean_per_joint],
        }


def score_map(errors_mm: NDArray[np.float64], spec: TrackSpec) -> MapScores:
    """mAP@10 cm of (N, K) errors in mm, NaN = unlabelled."""

    def rate(joints: Sequence[int]) -> float:
        return metrics.rate_below(errors_mm[:, list(joints)], MAP_RADIUS_MM)

    pooled = (*spec.skeleton.groups, *spec.skeleton.regions)
    return MapScores(
        mean=metrics.rate_below(errors_mm, MAP_RADIUS_MM),
        per_joint=tuple(rate([joint]) for joint in range(errors_mm.shape[1])),
        groups={name: rate(joints) for name, joints in pooled},
    )


def score_pdj(
    errors_px: NDArray[np.float64], labels: ArrayLike, spec: TrackSpec
) -> PdjScores | None:
    """PDJ of (N, K) errors in px, NaN = unlabelled.

    Args:
        errors_px: from `metrics.joint_errors`.
        labels: (N, K, 2) px, whose torso is the yardstick. A frame with an unlabelled torso joint
            does not count.
        spec: the track.

    Returns:
        None where the skeleton names no torso, or no frame has a labelled one.
    """
    if spec.skeleton.torso is None:
        return None
    end, middle = spec.skeleton.torso
    measured = np.isfinite(errors_px[:, [end, *middle]]).all(1)
    diameters = metrics.torso_diameter(labels, spec.skeleton.torso)
    diameters = np.where(measured, diameters, np.nan)
    counted = np.isfinite(errors_px) & np.isfinite(diameters)[:, None]
    if not counted.any():
        return None
    table = metrics.pdj(errors_px, diameters, PDJ_RATIOS)
    weights = counted.sum(0)
    at = np.nansum(table * weights, axis=1) / weights.sum()  # pooled: every labelled joint once
    return PdjScores(
        at=dict(zip(PDJ_RATIOS, at.tolist(), strict=True)),
        mean=float(at.mean()),
        per_joint={
            ratio: tuple(row) for ratio, row in zip(PDJ_RATIOS, table.tolist(), strict=True)
        },
        mean_per_joint=tuple(table.mean(axis=0).tolist()),
    )


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


#: Success rates are always reported at these (mm, or px on a 2D track); the curve has the rest.
THRESHOLDS = (10.0, 20.0, 30.0, 40.0)
#: The success curve, and the area under it, end here (mm or px).
CURVE_LIMIT = 80.0
# Beginnings of sources of crops that are not published ones (`tfds_builders.crop_plan`).
_GUESSED = ("depth", "labels")
# Folders that say which split a frame is of.
_SPLIT_FOLDERS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_SPLIT_FOLDERS |= {"val": "validation", "validation": "validation"}
# So near to a power of ten, as a decimal logarithm, depths are in another unit rather than wrong.
_OF_A_UNIT = 0.08


@dataclass(frozen=True)
class Scores:
    """What one set of predictions is worth.

    Attributes:
        track: name of the track.
        unit: "mm" (3D) or "px" (2D), of every error below.
        frames: how many frames were counted.
        frames_of: how many the split has as published, or as shipped; None: not known.
        centers: where the crops came from, source → frames; None: not known, as of a file of others.
        mean_error: mean over labelled joints and frames.
        per_joint: (K,) mean per joint in skeleton order, NaN for a joint no frame labels.
        joint_names: (K,) names to go with `per_joint`.
        success_rate: threshold → fraction of frames whose worst joint is nearer.
        success_auc: area under the success curve up to `CURVE_LIMIT`, as a fraction of it.
        errors: (N, K) the table all of it comes from, NaN = unlabelled; for curves and pictures.
        success_rate_mean_joint: threshold → fraction of frames whose mean joint error is below.
        success_auc_mean_joint: area under that curve, as `success_auc`.
        map_10cm: ITOP's protocol, None on other tracks.
        pdj: K2HPD's protocol, None on other tracks.
        subsets: name → scores of some of the frames (`a2j_jax.evaluation.scores`).
    """

    track: str
    unit: str
    frames: int
    mean_error: float
    per_joint: tuple[float, ...]
    joint_names: tuple[str, ...]
    success_rate: Mapping[float, float]
    success_auc: float
    errors: NDArray[np.float64]
    success_rate_mean_joint: Mapping[float, float]
    success_auc_mean_joint: float
    map_10cm: MapScores | None = None
    pdj: PdjScores | None = None
    frames_of: int | None = None
    centers: Mapping[str, int] | None = None
    subsets: Mapping[str, "Scores"] = field(default_factory=dict)

    @property
    def caveat(self) -> str:
        """What keeps these numbers from standing beside published ones: "3 of 8,252 frames, crops from depth"."""
        parts = []
        if self.frames_of is not None and self.frames < self.frames_of:
            parts.append(f"{self.frames:,} of {self.frames_of:,} frames")
        for source, count in (self.centers or {}).items():
            if source.startswith(_GUESSED):
                some = "" if count >= sum((self.centers or {}).values()) else "some "
                parts.append(f"{some}crops from {source}")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; units are in the names (`mean_error_mm` or `mean_error_px`).

        `per_joint_*` is a list in skeleton order (null for a joint without labels), `success_rate`
        maps the threshold as text ("10") to the fraction. `auc` is the area under that curve, of
        the worst joint; the protocols' keys are those of `MapScores` and `PdjScores`.
        """
        protocol = self.map_10cm or self.pdj
        subsets = {name: one.to_json() for name, one in self.subsets.items()}
        return {
            "track": self.track,
            "frames": self.frames,
            "frames_of": self.frames_of,
            "centers": None if self.centers is None else dict(self.centers),
            "caveat": self.caveat,
            f"mean_error_{self.unit}": self.mean_error,
            f"per_joint_{self.unit}": [e if np.isfinite(e) else None for e in self.per_joint],
            "joint_names": list(self.joint_names),
            "success_rate": _by_threshold(self.success_rate),
            f"success_auc_{CURVE_LIMIT:g}{self.unit}": self.success_auc,
            "auc": self.success_auc,
            "success_rate_mean_joint": _by_threshold(self.success_rate_mean_joint),
            "auc_mean_joint": self.success_auc_mean_joint,
            **(protocol.to_json() if protocol else {}),
            **({"subsets": subsets} if subsets else {}),
        }


def score_errors(
    errors: NDArray[np.float64], spec: TrackSpec, labels_uvd: ArrayLike | None = None
) -> Scores:
    """Summarise a table of errors.

    Args:
        errors: (N, K), NaN = unlabelled, in mm (3D) or px (2D).
        spec: the track; its protocol decides what is added.
        labels_uvd: (N, K, 2 or 3) the labels; PDJ measures in their torsos and is left out
            without them.
    """
    worst = metrics.success_rate(errors, THRESHOLDS)
    mean = metrics.success_rate(errors, THRESHOLDS, by="mean")
    pdj = None
    if spec.protocol == "pdj" and labels_uvd is not None:
        pdj = score_pdj(errors, np.asarray(labels_uvd, np.float64)[..., :2], spec)
    return Scores(
        track=spec.name,
        unit="mm" if spec.joint_dims == 3 else "px",
        frames=len(errors),
        mean_error=metrics.mean_error(errors),
        per_joint=tuple(metrics.per_joint_error(errors).tolist()),
        joint_names=tuple(spec.skeleton.joints),
        success_rate=dict(zip(THRESHOLDS, worst.tolist(), strict=True)),
        success_auc=metrics.success_auc(errors, CURVE_LIMIT),
        errors=errors,
        success_rate_mean_joint=dict(zip(THRESHOLDS, mean.tolist(), strict=True)),
        success_auc_mean_joint=metrics.success_auc(errors, CURVE_LIMIT, by="mean"),
        map_10cm=score_map(errors, spec) if spec.protocol == "map_10cm" else None,
        pdj=pdj,
    )


def score_predictions(
    predicted_uvd: ArrayLike,
    labels_uvd: ArrayLike,
    spec: TrackSpec,
    valid: ArrayLike | None = None,
    camera: geometry.Camera | None = None,
) -> Scores:
    """Score joints that share one camera, the track's own unless given.

    Args:
        predicted_uvd: (N, K, 3) px px mm, or (N, K, 2) px.
        labels_uvd: the same shape.
        spec: the track.
        valid: (N, K) bool, False where a joint has no label.
        camera: instead of `spec.camera`.

    Raises:
        ValueError: shapes that differ or do not fit the track, no frames, joints not finite.
    """
    predicted, labels = (np.asarray(a, np.float64) for a in (predicted_uvd, labels_uvd))
    labels_in_frame = labels
    if spec.joint_dims == 3:
        camera = camera or spec.camera
        if camera is None:
            raise ValueError(f"track '{spec.name}' has no camera of its own: give one")
        predicted, labels = (geometry.uvd_to_xyz(a, camera) for a in (predicted, labels))
    return score_errors(metrics.joint_errors(predicted, labels, valid), spec, labels_in_frame)


def score_joint_sets(predicted: JointSet, labels: JointSet, spec: TrackSpec) -> Scores:
    """Score a prediction file against a label file, both read by `joint_files.read_joints`.

    Frames are paired by `rows_of`; those of either file that the other lacks count for nothing, and `frames_of`
    says of how many labelled frames the score is.

    Raises:
        UserError: as `check_record`, of either; as `prediction_rows`.
    """
    for where, joints in (("the predictions", predicted), ("the labels", labels)):
        check_record(where, joints, TrackRecord.of(spec))
    split = labels.about.get("split")
    rows = prediction_rows(predicted, labels, "the predictions", "the labels", split)
    there = rows >= 0
    found, truth = predicted.rows(rows[there]), labels.rows(there)
    scores = score_predictions(found.joints_uvd, truth.joints_uvd, spec, truth.valid)
    return replace(scores, frames_of=len(rows))


def marked(scores: Mapping[str, Scores]) -> dict[str, Scores]:
    """Scores by names that say what keeps them from standing beside published ones: "A2J (3 of 8,252 frames)"."""
    return {(f"{n} ({one.caveat})" if one.caveat else n): one for n, one in scores.items()}


def check_record(where: str, joints: JointSet, record: TrackRecord) -> None:
    """Refuses joints that state another track, window or camera than `record`.

    Args:
        where: what has the joints, for the message.
        joints: that may state what they are of.
        record: of what they are scored against.

    Raises:
        UserError: naming what differs.
    """
    # The size of the network's input is no part of what it is asked for.
    other = joints.record.differences(record, but=("crop_size", "storage_unit_mm"))
    if other:
        raise UserError(
            f"{where}: joints are of something else than what they are scored against: "
            f"{'; '.join(other)}"
        )


def prediction_rows(
    predicted: JointSet, labels: JointSet, where: str, of: str, split: str | None = None
) -> NDArray[np.int64]:
    """Which row of some predictions belongs to each labeled frame, where they can be of the same frames at all.

    Args:
        predicted: M rows.
        labels: the N labeled frames.
        where: what has the predictions, for messages.
        of: what has the labels, for messages.
        split: of the labels; None: not known.

    Returns:
        (N,) row numbers as `rows_of`.

    Raises:
        UserError: as `rows_of`; or the predictions are of another split, or their depths in another unit.
    """
    _check_split(where, predicted, labels, split)
    rows = rows_of(predicted, labels, where, of)
    there = rows >= 0
    _check_unit(where, predicted.joints_uvd[rows[there]], labels.rows(there), of)
    return rows


def rows_of(joints: JointSet, truth: JointSet, where: str, of: str) -> NDArray[np.int64]:
    """Which row of a file belongs to each labelled frame.

    By name where both name their frames, else by number where both have numbers. Rows without either are
    all frames of the split in order, or exactly the labelled ones.

    Args:
        joints: M rows of the file.
        truth: the N labelled frames.
        where: the file, for messages.
        of: what has the labels, for messages.

    Returns:
        (N,) row numbers; -1 for a frame that the file lacks.

    Raises:
        UserError: each has frames that the other lacks, none is in both, a name is there twice or fits several;
            or rows without names or numbers that are not as many as the frames.
    """
    found, count = len(joints.joints_uvd), len(truth.joints_uvd)
    if joints.frame_id is not None and truth.frame_id is not None:
        names, wanted = joints.frame_id.tolist(), truth.frame_id.tolist()
        rows = match_names(names, wanted, where)
    elif joints.index is not None and truth.index is not None:
        names, wanted = joints.index.tolist(), truth.index.tolist()
        rows = np.searchsorted(joints.index, truth.index).clip(0, found - 1)
        rows = np.where(joints.index[rows] == truth.index, rows, -1)
    elif joints.index is not None:
        if joints.index[-1] >= count:
            raise UserError(
                f"{where}: holds frame {joints.index[-1]:,} (counted from 0), but {of}: {count:,} frames "
                "without numbers: expected one row per frame of the split"
            )
        rows = np.full(count, -1, np.int64)
        rows[joints.index] = np.arange(found)
        return rows
    elif found == count:
        return np.arange(found)
    elif truth.index is not None and found > truth.index[-1]:
        return truth.index
    else:
        raise UserError(
            f"{where}: {found:,} frames without names or numbers, but {of}: {count:,} frames"
            + ("" if truth.index is None else f", the last is number {truth.index[-1]:,}")
            + ": expected one row per frame, in the same order"
        )
    missing = np.flatnonzero(rows < 0)
    unused = np.setdiff1d(np.arange(found), rows)
    if missing.size and (unused.size or missing.size == count):
        one, other = (printable(str(x), 80) for x in (names[unused[0]], wanted[missing[0]]))
        raise UserError(
            f"{where}: {unused.size:,} of {found:,} frames are not in {of} (the first: frame {one}), and "
            f"{missing.size:,} of {of} not in it (the first: frame {other}); expected the same frames, named alike"
        )
    return rows


def _by_threshold(rates: Mapping[float, float]) -> dict[str, float]:
    return {f"{threshold:g}": rate for threshold, rate in rates.items()}


def _check_split(where: str, joints: JointSet, labels: JointSet, split: str | None) -> None:
    """Refuses joints of another split: NYU and HANDS 2017 call the frames of all of them alike."""
    if split is None:
        return
    stated = str(joints.about.get("split", split))
    if joints.frame_id is not None and labels.frame_id is not None:
        of_labels = {_split_folder(name) for name in labels.frame_id.tolist()}
        of_file = {_split_folder(name) for name in joints.frame_id.tolist()}
        if of_labels == {None} and len(of_file) == 1:
            stated = of_file.pop() or stated
    one, other = (name.split("[")[0] for name in (stated, split))
    if one != other and (joints.about.get("split") or other in _SPLIT_FOLDERS.values()):
        raise UserError(
            f"{where}: holds frames of split {one!r}, the labels are of split {other!r}"
        )


def _split_folder(name: str) -> str | None:
    folders = name.lower().replace("\\", "/").split("/")[-3:-1]
    return next((_SPLIT_FOLDERS[f] for f in reversed(folders) if f in _SPLIT_FOLDERS), None)


def _check_unit(where: str, uvd: NDArray[np.float64], labels: JointSet, of: str) -> None:
    """Refuses depths that are those of the labels times a power of ten."""
    if uvd.shape[-1] != 3:
        return
    there = labels.labeled & np.isfinite(uvd).all(-1)
    found, wanted = uvd[there][:, 2], labels.joints_uvd[there][:, 2]
    if not len(found) or not (np.median(found) > 0 and np.median(wanted) > 0):
        return
    power = float(np.log10(np.median(found) / np.median(wanted)))
    if abs(power) > 0.5 and abs(power - round(power)) < _OF_A_UNIT:
        raise UserError(
            f"{where}: its depths are {10.0 ** round(power):g} times those of {of} (medians {np.median(found):.4g} and "
            f"{np.median(wanted):.4g}); expected mm in both: is one in cm, dm or tenths of mm?"
        )


# Up to 18 digits fit 64 bits; no data set has that many frames.
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclasses.dataclass(frozen=True)
class FrameList:
    """A file that lists frames.

    Attributes:
      path: of the file.
      lines: that are not empty, one frame each.
    """

    path: Path
    lines: tuple[str, ...]


def read_subsets(files: Mapping[str, str | Path]) -> dict[str, FrameList]:
    """Reads lists of frames, one frame per line; `frame_numbers` finds the frames.

    Args:
      files: name of the subset → its file.

    Raises:
      UserError: a file that cannot be read, is no text, or is empty.
    """
    return {name: _read(local_path(path)) for name, path in files.items()}


def frame_numbers(
    lists: Mapping[str, FrameList],
    index: NDArray[np.int64],
    frame_id: NDArray[np.str_] | None,
    unreadable: int = 0,
) -> dict[str, NDArray[np.int64]]:
    """Finds the listed frames in a data set.

    A line begins with a frame's number, counted from 0, or with its name, with or without leading folders; what
    follows is not looked at, so that a file of labels is a list of its frames too. In lists where all lines begin with
    digits alone these are numbers. Names of HANDS 2017 and NYU are numbers too (`image_D00000001.png` is 0), unless
    the data set's names say otherwise.

    Args:
      lists: name of the subset → its list.
      index: (N,) numbers of the data set's frames.
      frame_id: (N,) their names; None: not known.
      unreadable: frames that the data set has beside these; as many names may be missing.

    Returns:
      name → (n,) distinct numbers of frames, ascending.

    Raises:
      UserError: a name that is not in the data set, or that fits several frames; or one that means no number, where
        the data set's names are not known.
    """
    names = None if frame_id is None else frame_id.tolist()
    return {name: np.unique(_found(one, index, names, unreadable)) for name, one in lists.items()}


def with_subsets(
    scores: Mapping[str, Scores],
    subsets: Mapping[str, NDArray[np.int64]],
    index: NDArray[np.int64],
    spec: TrackSpec,
    labels_uvd: NDArray[np.float64],
) -> dict[str, Scores]:
    """Adds the scores of subsets of the frames to those of all frames.

    Args:
      scores: method → scores of the same N frames.
      subsets: name → numbers of its frames; frames that were not evaluated are left out of it.
      index: (N,) number of each evaluated frame.
      spec: the track.
      labels_uvd: (N, K, D) labels.

    Raises:
      UserError: none of a subset's frames was evaluated.
    """
    rows = {name: np.isin(index, numbers) for name, numbers in subsets.items()}
    for name, taken in rows.items():
        if not taken.any():
            raise UserError(
                f"subset {name!r}: none of its {len(subsets[name]):,} frames is among the {len(index):,} that "
                f"are scored (numbers {index.min()} to {index.max()})"
            )
        if taken.sum() < len(subsets[name]):
            logger.info(
                f"subset {name!r}: {taken.sum():,} of its {len(subsets[name]):,} frames are scored"
            )

    def of(one: Scores, taken: NDArray[np.bool_]) -> Scores:
        return score_errors(one.errors[taken], spec, labels_uvd[taken])

    return {
        method: dataclasses.replace(
            one, subsets={name: of(one, taken) for name, taken in rows.items()}
        )
        for method, one in scores.items()
    }


def _read(path: Path) -> FrameList:
    regular_file(path, "a list of frames")
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text; expected a frame per line") from error
    if not any(lines):
        raise UserError(f"{path}: is empty; expected a frame per line")
    return FrameList(path, tuple(filter(None, lines)))


def _found(
    frames: FrameList, index: NDArray[np.int64], names: list[str] | None, unreadable: int
) -> NDArray[np.int64]:
    words = [re.split(r"[\s,;]", line)[0] for line in frames.lines]
    wrong = next((word for word in words if not _NUMBER.fullmatch(word)), None)
    if wrong is None:
        return np.array(words, np.int64)
    numbers = numbered(words)
    if numbers is not None and (names is None or np.array_equal(_numbered(names), index)):
        return numbers
    where = printable(str(frames.path))
    if names is None:
        raise UserError(
            f"{where}: line begins with {printable(wrong, 60)!r}, but the frames that are scored have no names; "
            "expected image_D%08d.png or a number from 0"
        )
    missing, found = _joined(words, names, where)
    if missing:  # those names may hold spaces or commas
        whole = [line.partition("\t")[0].strip() for line in frames.lines]
        listed = [
            line if word in missing else word for line, word in zip(whole, words, strict=True)
        ]
        missing, found = _joined(listed, names, where)
    if len(missing) > unreadable:
        raise UserError(
            f"{where}: {len(missing):,} of its names are not among the {len(names):,} frames of the data set, the "
            f"first is {printable(missing[0], 60)!r}; expected names like {printable(names[0], 60)!r}, of this split, "
            "or numbers from 0"
        )
    return index[found]


def _joined(listed: list[str], names: list[str], where: str) -> tuple[list[str], NDArray[np.bool_]]:
    """The listed names that are none of a data set's N frames, and (N,) which frames are listed."""
    distinct = list(dict.fromkeys(listed))
    rows = match_names(distinct, names, where)
    return [distinct[row] for row in np.setdiff1d(np.arange(len(distinct)), rows)], rows >= 0


def _numbered(names: list[str]) -> NDArray[np.int64]:
    numbers = numbered(names)
    return np.empty(0, np.int64) if numbers is None else numbers
