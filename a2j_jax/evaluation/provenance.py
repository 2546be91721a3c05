"""Where the numbers of a report come from: the data set, its crop centers, the program."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from a2j_jax import __version__
from a2j_jax.data import pipeline
from a2j_jax.evaluation.scores import Scores
from a2j_jax.files import MARK
from a2j_jax.log import logger
from a2j_jax.tracks import PUBLISHED_FRAMES, TrackRecord, TrackSpec

#: A name and its value.
Fact = tuple[str, str]
# How facts name the source of crops, by `TrackSpec.crop_by`.
_CROPS = {"box": "boxes from", "center": "centers from"}


def dataset_facts(data_dir: str | Path, track: TrackSpec, split: str) -> list[Fact]:
    """What a built data set states about itself, as far as its metadata have it.

    Args:
        data_dir: a TFDS data directory, or the folder of one data set.
        track: of the data set.
        split: that is evaluated; a slice such as "test[:100]" counts as the split.

    Raises:
        UserError: there is no such data set.
    """
    info = pipeline.find_dataset(data_dir, track)
    metadata: Mapping[str, Any] = info.info.metadata or {}
    name = split.split("[")[0]
    centers = crop_counts(_mapping(metadata, "provenance", "centers").get(name))
    skipped = _mapping(metadata, "skipped").get(name)
    facts = [("data set", str(info.data_path)), ("split", split)]
    if centers:
        facts.append((_CROPS[track.crop_by], _counts(centers)))
    if skipped:
        facts.append(("left out", _counts(skipped)))
    notes = _mapping(metadata, "provenance", "notes").get(name) or ()
    facts += [("note", str(note)) for note in notes]
    statistics = _mapping(metadata, "statistics")
    if {"mean", "std"} <= statistics.keys():
        mean, std = float(statistics["mean"]), float(statistics["std"])
        facts.append(("training crops", f"mean {mean:.4f}, std {std:.4f}"))
    return facts


def crop_counts(value: Any) -> dict[str, int] | None:
    """Source of crops → frames, from metadata; None where they state nothing of the kind."""
    counts = value if isinstance(value, Mapping) else {}
    whole = all(isinstance(count, int) for count in counts.values())
    return {str(source): count for source, count in counts.items()} if counts and whole else None


def total_frames(track: TrackSpec, split: str, data_dir: str | Path | None = None) -> int | None:
    """How many frames a split has as its authors name them, or as it was shipped; None where that is unknown.

    Args:
        track: the track.
        split: of the data set; a slice of it counts as the split.
        data_dir: of the built data set, which knows what was left out of it.

    Raises:
        UserError: there is no such data set.
    """
    name = split.split("[")[0]
    known = [PUBLISHED_FRAMES.get(track.name, {}).get(name, 0)]
    if data_dir is not None:
        info = pipeline.find_dataset(data_dir, track).info
        metadata: Mapping[str, Any] = info.metadata or {}
        skipped = crop_counts(_mapping(metadata, "skipped").get(name)) or {}
        shipped = _mapping(metadata, "provenance", "frames").get(name)
        known.append(info.splits[name].num_examples + sum(skipped.values()))
        known += [shipped] if isinstance(shipped, int) else []
    return max(known, default=0) or None


def split_origin(
    data_dir: str | Path, track: TrackSpec, split: str
) -> tuple[int | None, dict[str, int] | None]:
    """`total_frames` of a split, and where its crops came from (source → frames); None where unknown.

    Raises:
        UserError: there is no such data set.
    """
    centers = _mapping(pipeline.metadata(data_dir, track), "provenance", "centers")
    return total_frames(track, split, data_dir), crop_counts(centers.get(split.split("[")[0]))


def with_origin(scores: Scores, data_dir: str | Path, track: TrackSpec, split: str) -> Scores:
    """Scores with their `split_origin`: see `Scores.caveat`."""
    total, centers = split_origin(data_dir, track, split)
    return dataclasses.replace(scores, frames_of=total, centers=centers)


def record_of_frames(data_dir: str | Path, track: TrackSpec) -> TrackRecord:
    """The record of predictions of a data set's frames: the track's, with the camera that the data set states.

    Raises:
        UserError: there is no such data set.
    """
    stated = pipeline.record_of(data_dir, track)
    own = {n: getattr(stated, n) for n in ("camera", "frame_size")}
    given = {name: value for name, value in own.items() if value is not None}
    return dataclasses.replace(TrackRecord.of(track), **given)


def say_crops(facts: Sequence[Fact]) -> None:
    """Log the source of crops: numbers of two sources cannot be compared."""
    for name, value in facts:
        if name in _CROPS.values():
            logger.info(f"crop {name} {value}")


def closing_facts(track: TrackSpec) -> list[Fact]:
    """The last lines of a report: the track, and the program that wrote it."""
    notes = [("", track.notes)] if track.notes else []
    written = ("written by", f"a2j_jax {__version__} ({MARK})")
    return [("track", f"{track.name}: {track.citation}"), *notes, written]


def _mapping(value: Any, *keys: str) -> Mapping[str, Any]:
    """A mapping inside others; empty where metadata have something else."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _counts(value: Any) -> str:
    """{"labels": 12} → "labels (12 frames)"; anything else as text."""
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(
        f"{name} ({count:,} frames)" if isinstance(count, int) else f"{name}: {count}"
        for name, count in value.items()
    )
