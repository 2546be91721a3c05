"""Score files of predictions against labels, several methods at once: `a2j eval --predictions`.

Rows of one set of joints are paired with the frames of another by name, by number or by position.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from a2j_jax.data import pipeline
from a2j_jax.errors import UserError, printable
from a2j_jax.evaluation import evaluate, report
from a2j_jax.evaluation.evaluate import Fact, Frames
from a2j_jax.evaluation.joint_files import JointSet, numbered, read_joints
from a2j_jax.evaluation.plots import Comparison
from a2j_jax.evaluation.scores import NotFiniteError, with_subsets
from a2j_jax.files import local_path, read_contents
from a2j_jax.log import logger
from a2j_jax.tracks import TrackRecord, TrackSpec, with_crop_size

_DATA_SET, _LABELS = "the data set", "the labels"


def fitting_track(
    track: TrackSpec, files: Mapping[str, str | Path], data_dir: str | Path
) -> TrackSpec:
    """The track at the crop size of the only data set below `data_dir`; of several, that of the files, else its own.

    Raises:
      UserError: no data set of this track, or a file that cannot be read.
    """
    sizes = pipeline.crop_sizes(data_dir, track)
    if len(sizes) > 1:
        stated = {read_joints(path, track).record.crop_size for path in files.values()}
        sizes = [size for size in sizes if size in stated]
    return with_crop_size(track, sizes[0]) if len(sizes) == 1 else track


def compare_predictions(
    files: Mapping[str, str | Path],
    track: TrackSpec,
    *,
    labels: str | Path | None = None,
    data_dir: str | Path | None = None,
    split: str = "test",
    out: str | Path | None = None,
    overwrite: bool = False,
    subset_files: Mapping[str, str | Path] | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Score files of joints, print a table and, if asked to, write a report.

    Args:
      files: name of the method -> its file, of any format of `read_joints`.
      track: of all files; with a data set, at its crop size.
      labels: file of ground truth. None: the data set's own.
      data_dir: a built data set, for the depth, the crop centers and cameras, and without `labels` the ground truth.
      split: of the data set, or of the labels.
      out: folder for the report; None: no report.
      overwrite: replace files in `out` that a2j_jax did not write.
      subset_files: name -> list of frames to be scored separately too, see `read_subsets`.
      command: shown in the report.

    Returns:
      JSON-ready scores: of a single method `Scores.to_json`, of several
      {"track", "frames", "frames_of", "methods": {name: that}}.

    Raises:
      UserError: neither labels nor data set, a file that cannot be read or is of another track, window or
        camera, other frames than the labels', or a file in the way of the report.
    """
    subset_files = subset_files or {}
    if out is not None:
        report.check_report(out, overwrite, [*files.values(), *subset_files.values(), labels or ""])
    comparison = compared_files(files, track, labels, data_dir, split, subset_files)
    evaluate.log_crops(comparison.facts)
    report.print_scores(comparison.scores)
    methods = {name: one.to_json() for name, one in comparison.scores.items()}
    contents = methods[comparison.main]
    if len(methods) > 1:
        shared = {name: contents[name] for name in ("track", "frames", "frames_of")}
        contents = {**shared, "methods": methods}
    if out is not None:
        report.write_report(replace(comparison, command=command), out, contents)
    return contents


def compared_files(
    files: Mapping[str, str | Path],
    track: TrackSpec,
    labels: str | Path | None = None,
    data_dir: str | Path | None = None,
    split: str = "test",
    subset_files: Mapping[str, str | Path] | None = None,
) -> Comparison:
    """Score files of joints on the frames that all of them have; arguments and errors as `compare_predictions`."""
    if labels is None and data_dir is None:
        raise UserError("predictions need something to be scored against: labels, or a data set")
    lists = read_subsets(subset_files or {})
    facts: list[Fact] = [(f"predictions, {name}", str(path)) for name, path in files.items()]
    record, total = TrackRecord.of(track), evaluate.published_frames(track, split)
    known: str | None = split
    if labels is not None:
        truth = every = _read_file(labels, track, record)
        facts.append(("labels", str(labels)))
        known = truth.about.get("split") if data_dir is None else split
    if data_dir is not None:
        data = evaluate.SplitToScore(data_dir, split)
        with data.batches(track, "reading labels") as batches:
            frames = every = evaluate.read_frames(batches, track)
        info = evaluate.split_info(pipeline.find_dataset(data_dir, track), track, split)
        facts, record, total = facts + info.facts, info.record, info.total or 0
        if labels is not None:
            rows = rows_of(truth, frames, _LABELS, _DATA_SET)
            found = truth.rows(rows[rows >= 0])
            kept = frames.rows(rows >= 0)
            frames = replace(kept, joints_uvd=found.joints_uvd, valid=found.labeled)
        truth = frames
    comparison = score_files(files, track, truth, record, total, split=known)
    subsets = frame_numbers(lists, every.numbers, every.frame_id)
    scored = comparison.labels
    scores = with_subsets(comparison.scores, subsets, scored.numbers, track, scored.joints_uvd)
    comparison = replace(comparison, scores=scores, facts=facts)
    if data_dir is None:
        return comparison
    # A frame's position in the split, by its row among those that are left.
    positions = np.searchsorted(every.numbers, scored.numbers)
    read = pipeline.example_reader(data_dir, track, split)
    return replace(comparison, fetch=lambda row: read(int(positions[row])))


def score_files(
    files: Mapping[str, str | Path],
    track: TrackSpec,
    labels: JointSet,
    record: TrackRecord,
    total: int = 0,
    split: str | None = None,
) -> Comparison:
    """Score files of joints, by name, on the frames that all of them have; warns where these are not all frames.

    Args:
      labels: ground truth; `Frames` of a data set, or of a file.
      record: what the files must state, if anything.
      total: frames of the split as published, if that is known.
      split: of the labeled frames; None: unknown.

    Raises:
      UserError: a file that cannot be read, is of something else or of other frames, or in another unit.
    """
    of, count = _DATA_SET if isinstance(labels, Frames) else _LABELS, len(labels.joints_uvd)
    sets = {name: _read_file(path, track, record) for name, path in files.items()}
    shown = {name: printable(str(path)) for name, path in files.items()}
    rows_in = {}
    for name, one in sets.items():
        if split is not None:
            check_split(shown[name], one, labels, split)
        rows_in[name] = rows = rows_of(one, labels, shown[name], of)
        there = rows >= 0
        check_unit(shown[name], one.joints_uvd[rows[there]], labels.rows(there), of)
    kept = np.flatnonzero(np.all([rows >= 0 for rows in rows_in.values()], axis=0))
    for name, rows in rows_in.items():
        if (rows < 0).any():
            logger.info(
                f"warning: {shown[name]}: holds {np.sum(rows >= 0):,} of the {count:,} frames of {of}; "
                f"only these {len(kept):,} frames are scored, and every row is marked"
            )
    if not len(kept):
        raise UserError(f"no frame of {of} is in all of {', '.join(shown.values())}")
    labels = replace(labels.rows(kept), index=labels.numbers[kept])
    joints = {name: sets[name].joints_uvd[rows[kept]] for name, rows in rows_in.items()}
    scores = {}
    for name, uvd in joints.items():
        try:
            found = evaluate.score_frames(uvd, labels, track)
        except NotFiniteError as error:
            raise UserError(f"{shown[name]}: {error}, but has a label") from error
        centers = _frame_counts(sets[name].about.get("centers"))
        scores[name] = replace(found, frames_of=max(total, count), centers=centers)
    return Comparison(track, scores, labels, joints)


def _read_file(path: str | Path, track: TrackSpec, record: TrackRecord) -> JointSet:
    """Read a file of joints, log what the reader assumed, and check the record that the file states."""
    joints = read_joints(path, track)
    # The size of the network's input does not affect the joints it is asked for.
    other = joints.record.differences(record, but=("crop_size", "storage_unit_mm"))
    if other:
        raise UserError(
            f"{printable(str(path))}: joints are of something else than what they are scored against: "
            f"{'; '.join(other)}"
        )
    for note in joints.notes:
        logger.info(f"{path}: {note}")
    return joints


def _frame_counts(value: Any) -> dict[str, int] | None:
    """Source of crops -> number of frames, as a file states them; None where it states nothing of the kind."""
    counts = value if isinstance(value, dict) else {}
    return counts if counts and all(isinstance(count, int) for count in counts.values()) else None


# Suffixes of frames: the same frame may be stored as another kind of file.
_FRAME_SUFFIX = re.compile(r"\.(?:png|npy|npz|tiff?|pgm|exr|bin|jpe?g|h5)$", re.IGNORECASE)
# Folders that name a frame's split.
_SPLIT_FOLDERS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_SPLIT_FOLDERS |= {"val": "validation", "validation": "validation"}
# Depths this near to a power of ten times the labels' (decimal logarithm) are in another unit, not wrong.
_OF_A_UNIT = 0.08
# Up to 18 digits fit 64 bits; no data set has that many frames.
_NUMBER = re.compile(r"[0-9]{1,18}")


def match_names(names: Sequence[str], wanted: Sequence[str], where: str) -> NDArray[np.int64]:
    r"""(N,) positions of the wanted frames among M names, which are from the file `where`; -1 where there is none.

    Leading folders may be missing on either side (`test_seq_1/image_0000.png` is
    `D:\icvl\Testing\Depth\test_seq_1\image_0000.PNG`), as long as only one frame fits. Suffixes and letter case
    may differ where that finds more frames.

    Raises:
      UserError: a name that occurs twice, or fits several.
    """
    rows = _match(names, wanted, _key, where)
    found = np.count_nonzero(rows >= 0)
    if found < min(len(names), len(wanted)):
        loosely = _match(names, wanted, lambda n: _FRAME_SUFFIX.sub("", _key(n)).casefold(), where)
        if np.count_nonzero(loosely >= 0) > found:
            return loosely
    return rows


def _key(name: str) -> str:
    parts = [part for part in name.strip().replace("\\", "/").split("/") if part not in ("", ".")]
    stem, dot, suffix = (parts[-1] if parts else "").rpartition(".")
    return "/".join([*parts[:-1], stem + dot + suffix.lower() if dot else suffix])


def _tails(name: str) -> Iterator[str]:
    """`a/b/c` -> itself, `b/c`, `c`."""
    parts = name.split("/")
    return ("/".join(parts[first:]) for first in range(len(parts)))


def _match(
    names: Sequence[str], wanted: Sequence[str], key: Callable[[str], str], where: str
) -> NDArray[np.int64]:
    keys, wanted_keys = [key(name) for name in names], [key(name) for name in wanted]
    if keys == wanted_keys:
        return np.arange(len(keys))
    by_key: dict[str, int] = {}
    by_tail: dict[str, list[int]] = {}
    for row, one in enumerate(keys):
        first = by_key.setdefault(one, row)
        if first != row:
            raise UserError(
                f"{where}: rows {first + 1} and {row + 1} are both frame {_shown(names[row])}; expected every "
                "frame once"
            )
        for tail in _tails(one):
            by_tail.setdefault(tail, []).append(row)

    def ambiguous(name: str, one: str, other: str) -> UserError:
        return UserError(
            f"{where}: frame {_shown(name)} may be {_shown(one)} or {_shown(other)}; write the names with "
            "their folders"
        )

    rows = np.full(len(wanted), -1, np.int64)
    taken: dict[int, int] = {}
    for position, one in enumerate(wanted_keys):
        fits = [by_key[one]] if one in by_key else by_tail.get(one, [])
        fits = fits or [by_key[tail] for tail in _tails(one) if tail in by_key][:1]
        if len(fits) > 1:
            raise ambiguous(wanted[position], names[fits[0]], names[fits[1]])
        for row in fits:
            other = taken.setdefault(row, position)
            if other != position:
                raise ambiguous(names[row], wanted[other], wanted[position])
            rows[position] = row
    return rows


def _shown(name: str) -> str:
    return repr(printable(name, 80))


def rows_of(joints: JointSet, truth: JointSet, where: str, of: str) -> NDArray[np.int64]:
    """(N,) rows of the file `where` that belong to the N labeled frames, from `of`; -1 for a frame that the file lacks.

    By name where both name their frames, else by number where both have numbers. Rows without either are
    all frames of the split in order, or exactly the labeled ones.

    Raises:
      UserError: each has frames that the other lacks, they share none, a name occurs twice or fits several;
        or the number of rows without names or numbers is not that of the frames.
    """
    found, count = len(joints.joints_uvd), len(truth.joints_uvd)
    if joints.frame_id is not None and truth.frame_id is not None:
        names, wanted = joints.frame_id.tolist(), truth.frame_id.tolist()
        rows = match_names(names, wanted, where)
    elif joints.index is not None:
        if truth.index is None and joints.index[-1] >= count:
            raise UserError(
                f"{where}: holds frame {joints.index[-1]:,} (counted from 0), but {of}: {count:,} frames "
                "without numbers: expected one row per frame of the split"
            )
        names, wanted = joints.index.tolist(), truth.numbers.tolist()
        rows = np.searchsorted(joints.index, truth.numbers).clip(0, found - 1)
        rows = np.where(joints.index[rows] == truth.numbers, rows, -1)
    elif found == count:
        return np.arange(found)
    elif truth.index is not None and found > truth.index[-1]:
        return truth.index
    else:
        last = "" if truth.index is None else f", the last is number {truth.index[-1]:,}"
        raise UserError(
            f"{where}: {found:,} frames without names or numbers, but {of}: {count:,} frames{last}: expected "
            "one row per frame, in the same order"
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


def check_split(where: str, joints: JointSet, labels: JointSet, split: str) -> None:
    """Refuse joints of another split than the labels': NYU and HANDS 2017 name the frames of all splits alike."""
    stated = str(joints.about.get("split", split))
    if joints.frame_id is not None and labels.frame_id is not None:
        names = (labels.frame_id.tolist(), joints.frame_id.tolist())
        of_labels, of_file = (set(map(_split_folder, some)) for some in names)
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


def check_unit(where: str, uvd: NDArray[np.float64], labels: JointSet, of: str) -> None:
    """Refuse joints (N, K, 2 or 3) whose depths are those of the labels times a power of ten."""
    there = labels.labeled & np.isfinite(uvd).all(-1)
    if uvd.shape[-1] != 3 or not there.any():
        return
    found, wanted = (float(np.median(joints[there][:, 2])) for joints in (uvd, labels.joints_uvd))
    power = math.log10(found / wanted) if found > 0 and wanted > 0 else 0.0
    if abs(power) > 0.5 and abs(power - round(power)) < _OF_A_UNIT:
        raise UserError(
            f"{where}: its depths are {10.0 ** round(power):g} times those of {of} (medians {found:.4g} and "
            f"{wanted:.4g}); expected mm in both: is one in cm, dm or tenths of mm?"
        )


class FrameList(NamedTuple):
    """A file that lists frames, and its lines that are not empty, one frame each."""

    path: Path
    lines: tuple[str, ...]


def read_subsets(files: Mapping[str, str | Path]) -> dict[str, FrameList]:
    """Read lists of frames, name of the subset -> its file, one frame per line; `frame_numbers` finds the frames.

    Raises:
      UserError: a file that cannot be read, is no text, or is empty.
    """
    return {name: _read_list(local_path(file)) for name, file in files.items()}


def _read_list(path: Path) -> FrameList:
    try:
        text = read_contents(path, "a list of frames").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text; expected a frame per line") from error
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not lines:
        raise UserError(f"{path}: is empty; expected a frame per line")
    return FrameList(path, lines)


def frame_numbers(
    lists: Mapping[str, FrameList],
    index: NDArray[np.int64],
    frame_id: NDArray[np.str_] | None,
    unreadable: int = 0,
) -> dict[str, NDArray[np.int64]]:
    """Find the listed frames in a data set: name of the subset -> (n,) distinct numbers of frames, ascending.

    A line begins with a frame's number, counted from 0, or with its name, with or without leading folders; the
    rest is ignored, so that a file of labels is a list of its frames too. Where all lines begin with digits alone,
    these are numbers. Names of HANDS 2017 and NYU are numbers too (`image_D00000001.png` is 0), unless
    the data set's names say otherwise.

    Args:
      lists: of `read_subsets`.
      index, frame_id: (N,) numbers and names of the data set's frames; None: unknown.
      unreadable: further frames of the data set; as many names may be missing.

    Raises:
      UserError: a name that is not in the data set, or that fits several frames; or one that is no number, where
        the data set's names are unknown.
    """
    names = None if frame_id is None else frame_id.tolist()
    return {name: np.unique(_found(one, index, names, unreadable)) for name, one in lists.items()}


def _found(
    frames: FrameList, index: NDArray[np.int64], names: list[str] | None, unreadable: int
) -> NDArray[np.int64]:
    words = [re.split(r"[\s,;]", line)[0] for line in frames.lines]
    wrong = next((word for word in words if not _NUMBER.fullmatch(word)), None)
    if wrong is None:
        return np.array(words, np.int64)
    numbers, known = numbered(words), index if names is None else numbered(names)
    if numbers is not None and known is not None and np.array_equal(known, index):
        return numbers
    where = printable(str(frames.path))
    if names is None:
        raise UserError(
            f"{where}: line begins with {printable(wrong, 60)!r}, but the frames that are scored have no names; "
            "expected image_D%08d.png or a number from 0"
        )

    def joined(listed: list[str]) -> tuple[list[str], NDArray[np.bool_]]:
        """The listed names that are no frame of the data set, and (N,) which frames are listed."""
        distinct = list(dict.fromkeys(listed))
        rows = match_names(distinct, names, where)
        unused = np.setdiff1d(np.arange(len(distinct)), rows)
        return [distinct[row] for row in unused], rows >= 0

    missing, found = joined(words)
    if missing:  # those names may hold spaces or commas
        lines = (line.partition("\t")[0].strip() for line in frames.lines)
        pairs = zip(lines, words, strict=True)
        missing, found = joined([line if word in missing else word for line, word in pairs])
    if len(missing) > unreadable:
        raise UserError(
            f"{where}: {len(missing):,} of its names are not among the {len(names):,} frames of the data set, the "
            f"first is {printable(missing[0], 60)!r}; expected names like {printable(names[0], 60)!r}, of this split, "
            "or numbers from 0"
        )
    return index[found]
