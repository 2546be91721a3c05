"""Messages of a build: labels and crops before it starts, its outcome, and a finished data set that is reused."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from a2j_jax.errors import UserError
from a2j_jax.files import read_json
from a2j_jax.log import PlainTable, logger, print_table
from a2j_jax.tracks import TrackSpec
from tfds_builders.base import DepthPoseBuilder
from tfds_builders.raw_files import WARNING, RawSplit, counted, outside_frame
from tfds_builders.shards import MOST_COUNTS, window_mm

SKIPPED_FILE = "skipped.tsv"
_LONGEST = 60  # characters of one value in a message
_FAULTS_NAMED = 3  # in an error
# Shares of a split's frames up to which disagreement is a note, not a warning.
_FEW, _SOME = 0.01, 0.05


def _log(text: str) -> None:
    """Logs a line, as a warning if it contains that word."""
    logger.log(logging.WARNING if WARNING in text else logging.INFO, text)


# --- A data set that is there already


def reuse(
    folder: Path, spec: Mapping[str, Any], num_shards: int | None = None, strict: bool = False
) -> None:
    """Reports that a finished data set is used as it is, and what a user may not expect of it.

    Raises:
      UserError: it was built from something else than the wanted spec (`tfds_builders.base.Reader.spec`) or an unknown
        source, or (strict) misses frames.
    """
    stored, wanted = read_spec(folder), json.loads(json.dumps(spec))
    if stored != wanted:
        changed = "; ".join(differences(stored, wanted)) if stored else "not built by this program"
        raise UserError(
            f"{folder} holds another data set ({changed or 'by another version of this program'}); "
            "delete that folder to build it again, or name another --data_dir"
        )
    again = f"delete {folder} to build it again"
    left_out = [
        f"{counted(sum(reasons.values()), 'frame')} of {split} ({', '.join(reasons)})"
        for split, reasons in _read_metadata(folder).get("skipped", {}).items()
        if reasons
    ]
    if strict and left_out:
        raise UserError(f"{folder} was built without {' and '.join(left_out)} (--strict); {again}")
    _log(f"{folder} is built already; nothing to do")
    for part in left_out:
        _log(f"{WARNING}{part}: left out when it was built; once fixed, {again}")
    splits = tfds.builder_from_directory(folder).info.splits
    shards = {name: split.num_shards for name, split in splits.items()}
    if num_shards is not None and set(shards.values()) != {num_shards}:
        there = ", ".join(f"{counted(count, 'shard')} of {name}" for name, count in shards.items())
        _log(f"{WARNING}--num_shards {num_shards} changes nothing, it has {there}; {again}")


def read_spec(folder: Path) -> dict[str, Any] | None:
    """The spec that the data set in a folder was built from; None where there is none."""
    spec: dict[str, Any] | None = _read_metadata(folder).get("spec")
    return spec


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Lists the differences between two specs, one short phrase each, e.g. "half_window_mm: 110 there, 120 wanted".

    Digests of a split (`digest: split: what`) are not shown: they "differ", which adds nothing where
    the number of frames does.
    """
    one, other = _leaves(there), _leaves(wanted)
    differing = [path for path in {**one, **other} if one.get(path) != other.get(path)]
    resized = {path[-1] for path in differing if path[0] == "frames"}
    phrases = []
    for path in differing:
        name, values = " ".join(path), [str(leaves.get(path, "nothing")) for leaves in (one, other)]
        if path[0] == "digest" and path[1] in resized:
            continue
        if path[0] == "digest":
            phrases.append(f"{' '.join(path[2:]) or 'contents'} of split {path[1]} differ")
        elif max(map(len, values)) > _LONGEST:
            phrases.append(f"{name} differ")
        else:
            phrases.append(f"{name}: {values[0]} there, {values[1]} wanted")
    return phrases


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / "metadata.json"
    stored = read_json(path, "the metadata of a data set") if path.exists() else {}
    if not isinstance(stored, dict):
        raise UserError(f"{path}: damaged; delete {folder} and build it again")
    return stored


def _leaves(spec: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every value that is no mapping, by the keys that lead to it."""
    leaves: dict[tuple[str, ...], Any] = {}
    for key, value in spec.items():
        here = (*path, str(key))
        leaves |= _leaves(value, here) if isinstance(value, Mapping) else {here: value}
    return leaves


# --- Before a build


def report_labels(
    name: str,
    split: RawSplit,
    track: TrackSpec,
    published: int | None,
    max_frames: int | None,
    strict: bool = False,
) -> None:
    """Prints how many frames a split has, and what is unusual about it and its labels.

    The authors state `published` frames (None: not known), of which the first `max_frames` (None: all) will be used.

    Raises:
      UserError: the labels are another skeleton's; or, strict, there are faults.
    """
    found = len(split) if split.total is None else split.total
    used = "" if max_frames is None else f", the first {min(max_frames, len(split)):,} to be used"
    _log(f"{name}: {counted(len(split), 'frame')}{used}")
    if published is not None and published not in (len(split), found):
        _log(f"{name}: {WARNING}{published:,} frames were published; is the download complete?")
    _report_notes(name, split.notes)
    if strict and split.faults:
        more = len(split.faults) - _FAULTS_NAMED
        faults = "; ".join(split.faults[:_FAULTS_NAMED]) + (f"; {more:,} more" if more > 0 else "")
        raise UserError(f"split {name!r}: {faults} (--strict)")
    _report_notes(name, [WARNING + fault for fault in split.faults])
    joints = split.joints_uvd
    if joints is None:
        _log(f"{name}: no labels: these frames can be predicted, not scored")
        return
    expected = (len(split), track.num_joints, track.joint_dims)
    if joints.shape != expected:
        raise UserError(
            f"{name}: labels of shape {joints.shape}, track {track.name!r} needs "
            f"{expected}: is this the right version of the data set?"
        )
    outside = outside_frame(joints, track)
    if outside.any():
        frames = counted(np.any(outside, axis=1).sum(), "frame")
        note = f"{counted(outside.sum(), 'joint')} in {frames}: outside the frame; kept, and they count"
        _report_notes(name, [note])


def report_crops(
    name: str, track: TrackSpec, notes: Sequence[str], sources: Mapping[str, int]
) -> None:
    """Prints where the crops of a split come from: the notes of its `CropPlan`, and source -> number of frames."""
    _report_notes(name, notes)
    what = "centers" if track.crop_by == "center" else "boxes"
    counts = ", ".join(f"{count:,} ({source})" for source, count in sources.items())
    _log(f"{name}: {what}: {counts}")


def _report_notes(name: str, notes: Sequence[str]) -> None:
    for note in notes:
        _log(f"{name}: {note if note.startswith(WARNING) else f'note: {note}'}")


# --- After a build


def summarize(builder: DepthPoseBuilder, folder: Path, track: TrackSpec, seconds: float) -> None:
    """Prints what was written, what was left out and why, and the statistics of the crops."""
    splits = builder.info.splits
    _log(f"built {folder}")
    table = PlainTable()
    for column in ("split", "frames", "left out", "shards", "MB"):
        table.add_column(column, justify="left" if column == "split" else "right")
    total_bytes = 0
    for name, split in splits.items():
        num_bytes = sum(Path(path).stat().st_size for path in split.filepaths)
        total_bytes += num_bytes
        skipped = len(builder.tallies[name].skipped)
        numbers = (f"{split.num_examples:,}", f"{skipped:,}", f"{len(split.filepaths)}")
        table.add_row(name, *numbers, f"{num_bytes / 1e6:.1f}")
    print_table(table)
    frames = sum(split.num_examples for split in splits.values())
    _log(
        f"{counted(frames, 'frame')} in {seconds:.1f} s ({frames / seconds:.0f} frames/s), "
        f"{total_bytes / frames / 1e3:.1f} kB per frame"
    )
    _report_skipped(builder, folder)
    _report_disagreement(builder, track)
    if found := builder.info.metadata.get("statistics"):
        _log(
            f"training crops: mean {found['mean']:.4f}, std {found['std']:.4f} "
            f"(track {track.name!r}: {track.mean:.4f}, {track.std:.4f})"
        )


def _report_skipped(builder: DepthPoseBuilder, folder: Path) -> None:
    skipped = [(name, s) for name, tally in builder.tallies.items() for s in tally.skipped]
    if not skipped:
        return
    for (name, reason), count in Counter((name, s.reason) for name, s in skipped).items():
        first = next(s.frame_id for n, s in skipped if (n, s.reason) == (name, reason))
        _log(
            f"{WARNING}{counted(count, 'frame')} of {name} left out: {reason} (the first: {first})"
        )
    lines = ["split\tindex\tframe\treason"]
    lines += [f"{name}\t{s.index}\t{s.frame_id}\t{s.reason}" for name, s in skipped]
    (folder / SKIPPED_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    _log(f"all of them: {folder / SKIPPED_FILE}")


def _report_disagreement(builder: DepthPoseBuilder, track: TrackSpec) -> None:
    """Frames where depth, center and labels disagree; few of them are a note."""
    near = f"no reading within {window_mm(track):g} mm of their"
    farthest = f"beyond {MOST_COUNTS * track.storage_unit_mm:,.0f} mm, stored as that"
    for name, found in builder.tallies.items():
        frames = builder.info.splits[name].num_examples
        for count, what, share in (
            (found.no_center, f"{near} center", _FEW),
            (found.no_labels, f"{near} labels", _FEW),
            (found.apart, "labels outside the crop, or far from its center", _SOME),
            (found.beyond, f"readings {farthest}", 1.0),
        ):
            if count:
                kind = WARNING if count > share * frames else "note: "
                _log(f"{kind}{name}: {count:,} of {counted(frames, 'frame')}: {what}")
