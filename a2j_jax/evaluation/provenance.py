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
from a2j_jax.tracks import TrackRecord, TrackSpec

#: A name and what it is.
Fact = tuple[str, str]
_CROPS = {"box": "boxes from", "center": "centers from"}


def dataset_facts(data_dir: str | Path, track: TrackSpec, split: str) -> list[Fact]:
    """What a built data set knows of itself; what its metadata lack is left out.

    Args:
        data_dir: a TFDS data directory, or the folder of one data set.
        track: what it is of.
        split: whose frames are evaluated; a slice such as "test[:100]" tells of the whole split.

    Raises:
        UserError: there is no such data set.
    """
    info = pipeline.find_dataset(data_dir, track)
    metadata: Mapping[str, Any] = info.info.metadata or {}
    name = split.split("[")[0]
    provenance = _mapping(metadata.get("provenance"))
    centers = crop_sources(data_dir, track, split)
    skipped = _mapping(metadata.get("skipped")).get(name)
    notes = _mapping(provenance.get("notes")).get(name) or ()
    facts = [("data set", str(info.data_path)), ("split", split)]
    if centers:
        facts.append((_CROPS[track.crop_by], _counts(centers)))
    if skipped:
        facts.append(("left out", _counts(skipped)))
    facts += [("note", str(note)) for note in notes]
    statistics = _mapping(metadata.get("statistics"))
    if {"mean", "std"} <= statistics.keys():
        mean, std = float(statistics["mean"]), float(statistics["std"])
        facts.append(("training crops", f"mean {mean:.4f}, std {std:.4f}"))
    return facts


def crop_sources(data_dir: str | Path, track: TrackSpec, split: str) -> dict[str, int]:
    """Where crop centers or boxes of a split are from: source → frames; empty where that is not known."""
    provenance = _mapping(pipeline.metadata(data_dir, track).get("provenance"))
    return crop_counts(_mapping(provenance.get("centers")).get(split.split("[")[0])) or {}


def crop_counts(value: Any) -> dict[str, int] | None:
    """Source of crops → frames, out of metadata; None where they say nothing of the kind."""
    counts = _mapping(value)
    whole = all(isinstance(count, int) for count in counts.values())
    return {str(source): count for source, count in counts.items()} if counts and whole else None


def total_frames(track: TrackSpec, split: str, data_dir: str | Path | None = None) -> int | None:
    """How many frames a split has as its authors name them, or as it was shipped; None where that is not known.

    Args:
        track: the track.
        split: of the data set; a slice of it counts as the split.
        data_dir: of the built data set, which knows what was left out of it.

    Raises:
        UserError: there is no such data set.
    """
    from tfds_builders.datasets import DATASETS  # imports every builder

    name = split.split("[")[0]
    known = [DATASETS[track.name].published_frames.get(name, 0)] if track.name in DATASETS else []
    if data_dir is not None:
        info = pipeline.find_dataset(data_dir, track).info
        metadata: Mapping[str, Any] = info.metadata or {}
        skipped = crop_counts(_mapping(metadata.get("skipped")).get(name)) or {}
        shipped = _mapping(_mapping(metadata.get("provenance")).get("frames")).get(name)
        known.append(info.splits[name].num_examples + sum(skipped.values()))
        known += [shipped] if isinstance(shipped, int) else []
    return max(known, default=0) or None


def with_origin(scores: Scores, data_dir: str | Path, track: TrackSpec, split: str) -> Scores:
    """Scores that say of how many frames they are, and where the crops came from: see `Scores.caveat`.

    Raises:
        UserError: there is no such data set.
    """
    total, centers = total_frames(track, split, data_dir), crop_sources(data_dir, track, split)
    return dataclasses.replace(scores, frames_of=total, centers=centers or None)


def record_of_frames(data_dir: str | Path, track: TrackSpec) -> TrackRecord:
    """What predictions of a data set's frames are of: the track, with the camera that the data set states.

    Raises:
        UserError: there is no such data set.
    """
    stated = pipeline.record_of(data_dir, track)
    own = {n: getattr(stated, n) for n in ("camera", "frame_size")}
    given = {name: value for name, value in own.items() if value is not None}
    return dataclasses.replace(TrackRecord.of(track), **given)


def say_crops(facts: Sequence[Fact]) -> None:
    """Tells where crops are from: numbers of two crop sources cannot be compared."""
    for name, value in facts:
        if name in _CROPS.values():
            logger.info(f"crop {name} {value}")


def track_facts(track: TrackSpec) -> list[Fact]:
    """What of the track bears on the numbers."""
    facts = [("track", f"{track.name}: {track.citation}")]
    if track.notes:
        facts.append(("", track.notes))
    return facts


def software_facts() -> list[Fact]:
    """Which program wrote the report."""
    return [("written by", f"a2j_jax {__version__} ({MARK})")]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _counts(value: Any) -> str:
    """{"labels": 12} → "labels (12 frames)"; anything else as text."""
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(
        f"{name} ({count:,} frames)" if isinstance(count, int) else f"{name}: {count}"
        for name, count in value.items()
    )
