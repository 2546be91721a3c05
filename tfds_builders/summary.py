"""What a build says: of the labels before it starts, of the frames when it is done."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from a2j_jax.errors import UserError
from a2j_jax.progress import PlainTable, print_table, say
from a2j_jax.tracks import TrackSpec
from tfds_builders.depth_pose import DepthPoseBuilder
from tfds_builders.raw import RawSplit
from tfds_builders.statistics import window_mm
from tfds_builders.wording import WARNING, counted, marked

SKIPPED_FILE = "skipped.tsv"
_FAULTS_NAMED = 3  # in an error
# Shares of a split's frames up to which disagreement is a note, not a warning.
_FEW, _SOME = 0.01, 0.05


def say_labels(
    name: str,
    split: RawSplit,
    track: TrackSpec,
    published: int | None,
    max_frames: int | None,
    strict: bool = False,
) -> None:
    """Says how many frames a split has, and what is unusual about it and its labels.

    Args:
      name: of the split.
      split: all of it.
      track: whose labels they should be.
      published: number of frames its authors name; None: not known.
      max_frames: to be used, from its beginning; None: all.
      strict: faults are errors.

    Raises:
      UserError: the labels are another skeleton's; or, strict, there are faults.
    """
    found = len(split) if split.total is None else split.total
    used = "" if max_frames is None else f", the first {min(max_frames, len(split)):,} to be used"
    say(f"{name}: {counted(len(split), 'frame')}{used}")
    if published is not None and published not in (len(split), found):
        say(f"{name}: {WARNING}{published:,} frames were published; is the download complete?")
    for note in split.notes:
        say(f"{name}: {marked(note)}")
    if strict and split.faults:
        more = len(split.faults) - _FAULTS_NAMED
        faults = "; ".join(split.faults[:_FAULTS_NAMED]) + (f"; {more:,} more" if more > 0 else "")
        raise UserError(f"split {name!r}: {faults} (--strict)")
    for fault in split.faults:
        say(f"{name}: {WARNING}{fault}")
    if split.joints_uvd is None:
        say(f"{name}: no labels: these frames can be predicted, not scored")
        return
    expected = (len(split), track.num_joints, track.joint_dims)
    if split.joints_uvd.shape != expected:
        raise UserError(
            f"{name}: labels of shape {split.joints_uvd.shape}, track {track.name!r} needs "
            f"{expected}: is this the right version of the data set?"
        )
    _say_unusual(name, split.joints_uvd, track)


def _say_unusual(name: str, joints: npt.NDArray[np.float32], track: TrackSpec) -> None:
    missing = np.isnan(joints).any(axis=-1)
    last = np.array(track.frame_size, np.float32) - 1
    uv = joints[..., :2]
    outside = np.any((uv < 0) | (uv > last), axis=-1) & ~missing
    if outside.any():
        say(
            f"{name}: note: {counted(outside.sum(), 'joint')} in "
            f"{counted(np.any(outside, axis=1).sum(), 'frame')}: outside the frame; kept, and they count"
        )


def say_crops(
    name: str, track: TrackSpec, notes: Sequence[str], sources: Mapping[str, int]
) -> None:
    """Says where the crops of a split come from.

    Args:
      name: of the split.
      track: crops by centre or by box.
      notes: of its `CropPlan`.
      sources: source -> number of frames.
    """
    for note in notes:
        say(f"{name}: {marked(note)}")
    what = "centers" if track.crop_by == "center" else "boxes"
    counts = ", ".join(f"{count:,} ({source})" for source, count in sources.items())
    say(f"{name}: {what}: {counts}")


def summarise(builder: DepthPoseBuilder, folder: Path, track: TrackSpec, seconds: float) -> None:
    """Prints what was written, what was left out and why, and the statistics of the crops."""
    splits = builder.info.splits
    say(f"built {folder}")
    table = PlainTable()
    for column in ("split", "frames", "left out", "shards", "MB"):
        table.add_column(column, justify="left" if column == "split" else "right")
    total_bytes = 0
    for name, split in splits.items():
        paths = [Path(path) for path in split.filepaths]
        num_bytes = sum(path.stat().st_size for path in paths)
        total_bytes += num_bytes
        skipped = len(builder.reports[name].skipped)
        table.add_row(
            name,
            f"{split.num_examples:,}",
            f"{skipped:,}",
            str(len(paths)),
            f"{num_bytes / 1e6:.1f}",
        )
    print_table(table)
    frames = sum(split.num_examples for split in splits.values())
    say(
        f"{counted(frames, 'frame')} in {seconds:.1f} s ({frames / seconds:.0f} frames/s), "
        f"{total_bytes / frames / 1e3:.1f} kB per frame"
    )
    _say_skipped(builder, folder)
    _say_disagreement(builder, track)
    _say_statistics(builder, track)


def _say_skipped(builder: DepthPoseBuilder, folder: Path) -> None:
    skipped = [(name, s) for name, report in builder.reports.items() for s in report.skipped]
    if not skipped:
        return
    for (name, reason), count in Counter((name, s.reason) for name, s in skipped).items():
        first = next(s.frame_id for n, s in skipped if (n, s.reason) == (name, reason))
        say(f"{WARNING}{counted(count, 'frame')} of {name} left out: {reason} (the first: {first})")
    lines = ["split\tindex\tframe\treason"]
    lines += [f"{name}\t{s.index}\t{s.frame_id}\t{s.reason}" for name, s in skipped]
    (folder / SKIPPED_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    say(f"all of them: {folder / SKIPPED_FILE}")


def _say_disagreement(builder: DepthPoseBuilder, track: TrackSpec) -> None:
    """Frames where depth, center and labels disagree, over all frames; few of them are a note."""
    near = f"no reading within {window_mm(track):g} mm of their"
    farthest = f"beyond {65535 * track.storage_unit_mm:,.0f} mm, stored as that"
    for name, report in builder.reports.items():
        frames, found = builder.info.splits[name].num_examples, report.moments
        for count, what, share in (
            (found.no_center, f"{near} center", _FEW),
            (found.no_labels, f"{near} labels", _FEW),
            (found.apart, "labels outside the crop, or far from its center", _SOME),
            (found.beyond, f"readings {farthest}", 1.0),
        ):
            if count:
                kind = WARNING if count > share * frames else "note: "
                say(f"{kind}{name}: {count:,} of {counted(frames, 'frame')}: {what}")


def _say_statistics(builder: DepthPoseBuilder, track: TrackSpec) -> None:
    found = builder.info.metadata.get("statistics")
    if found:
        say(
            f"training crops: mean {found['mean']:.4f}, std {found['std']:.4f} "
            f"(track {track.name!r}: {track.mean:.4f}, {track.std:.4f})"
        )
