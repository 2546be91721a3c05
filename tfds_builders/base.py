"""The TFDS builder of every data set, whatever reads its frames.

A data set is a *reader* (its frames) and a `TrackSpec` (their constants). Most readers are a
`tfds_builders.reader.RawReader` of a `RawDataset`; `tfds_builders.rendered` renders its frames.

TFDS writes into a temporary folder and renames it at the very end, so that a killed build never
looks complete. Files are `array_record`; TensorFlow is not needed.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import tensorflow_datasets as tfds

from a2j_jax.errors import UserError
from a2j_jax.log import progress
from a2j_jax.tracks import TrackRecord, TrackSpec
from tfds_builders.raw_files import RawDataset, counted
from tfds_builders.shards import (
    Job,
    Tally,
    Workers,
    features,
    pipeline_of,
    shard_ranges,
    write_shards,
    write_shards_by_beam,
)


class Reader(Protocol):
    """The frames of a data set."""

    def frames(self) -> Mapping[str, int]:
        """Split -> number of frames. Splits of zero frames are left out of the data set."""

    def job(self, split: str, indices: range) -> Job:
        """A picklable function that reads some frames; frame i depends on split and i alone."""

    def spec(self) -> dict[str, Any]:
        """Everything the examples depend on, as JSON: a finished build with an equal spec is reused."""

    def provenance(self) -> dict[str, Any]:
        """Facts that evaluation reports, as JSON: `centers`, split -> source of crops -> number of frames."""


@dataclass(frozen=True)
class How:
    """How a build is carried out; the examples do not depend on it.

    Attributes:
      num_processes: that read, cut and write.
      num_shards: files per split; None: one for every 4,096 frames.
      beam_options: build with Apache Beam, with these pipeline options ("" : the local runner);
        None: without. Its workers write, not `num_processes`.
    """

    num_processes: int = 1
    num_shards: int | None = None
    beam_options: str | None = None

    def __post_init__(self) -> None:
        """Validates the numbers and options."""
        for name, value in (("num_processes", self.num_processes), ("num_shards", self.num_shards)):
            if value is not None and value < 1:
                raise UserError(f"{name} {value}: expected 1 or more")
        if self.beam_options is not None:
            pipeline_of(self.beam_options)


@dataclass(eq=False, kw_only=True)
class DepthPoseConfig(tfds.core.BuilderConfig):
    """The configuration of one build: the examples of one crop size, which names it and its folder.

    Attributes:
      track, reader, how: of the examples, of the frames, and see `How`.
      workers: from `worker_pool`; the examples do not depend on it.
      source: whose home page, license and download instructions are kept as metadata.
    """

    name: str = ""
    track: TrackSpec
    reader: Reader
    how: How = How()
    workers: Workers | None = None
    source: type[RawDataset] | None = None

    def __post_init__(self) -> None:
        self.name = f"crop{self.track.crop_size}"


class _Info(tfds.core.DatasetInfo):  # type: ignore[misc]
    """Without a look at Google's bucket: nothing of ours is there, and it leaves a temporary folder."""

    def initialize_from_bucket(self) -> None:
        """Does nothing."""


class DepthPoseBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builder of every data set: a reader's frames, in order, one TFDS split per split; see `builder_named`.

    Attributes:
      tallies: outcome of every split, once it is built.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}

    def __init__(self, **kwargs: Any) -> None:
        """Takes the arguments of TFDS's builders."""
        self.tallies: dict[str, Tally] = {}
        super().__init__(**kwargs)

    @property
    def plan(self) -> DepthPoseConfig:
        """The configuration, with its own type."""
        return cast(DepthPoseConfig, self.builder_config)

    def _info(self) -> tfds.core.DatasetInfo:
        track, reader, source = self.plan.track, self.plan.reader, self.plan.source
        return _Info(
            builder=self,
            description=f"Depth crops of track {track.name}. {track.notes}",
            features=features(track),
            homepage=source and (source.HOMEPAGE or None),
            license=source and (source.LICENSE or None),
            citation=(source and source.BIBTEX) or track.citation,
            # Frames stay in order on disk; training shuffles by random access.
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                spec=reader.spec(),
                provenance=reader.provenance(),
                track=TrackRecord.of(track).to_json(),
                **({"manual_download": source.DOWNLOAD} if source else {}),
            ),
        )

    def _frames(self) -> dict[str, int]:
        return {split: count for split, count in self.plan.reader.frames().items() if count}

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        raise NotImplementedError  # as the next: `_generate_splits` needs neither

    def _generate_examples(self, split: str) -> Any:
        raise NotImplementedError

    def _generate_splits(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> Sequence[tfds.core.SplitInfo]:
        splits = [self._write_split(split, count) for split, count in self._frames().items()]
        self.info.metadata["skipped"] = {
            split: dict(Counter(skipped.reason for skipped in tally.skipped))
            for split, tally in self.tallies.items()
        }
        if (train := self.tallies.get("train")) and train.count:
            self.info.metadata["statistics"] = {"mean": train.mean, "std": train.std}
        return splits

    def _write_split(self, split: str, frames: int) -> tfds.core.SplitInfo:
        ranges = shard_ranges(frames, self.plan.how.num_shards)
        parts = [os.path.join(self.data_dir, f"{split}.part{i:05d}") for i in range(len(ranges))]
        jobs = (self.plan.reader.job(split, indices) for indices in ranges)
        track, beam_options = self.plan.track, self.plan.how.beam_options
        if beam_options is not None:
            shards = write_shards_by_beam(jobs, parts, track, beam_options)
        else:
            with progress(f"{self.name} {split}", frames, "frames") as advance:
                shards = write_shards(jobs, parts, track, self.plan.workers, advance)
        self.tallies[split] = tally = sum((shard.tally for shard in shards), Tally())
        filled = [shard for shard in shards if shard.examples]
        if not filled:
            first = tally.skipped[0]
            raise UserError(
                f"{self.name}: none of the {counted(frames, 'frame')} of split {split!r} could be used; "
                f"the first, {first.frame_id}: {first.reason}"
            )
        template = self._get_filename_template(split_name=split)
        for number, shard in enumerate(filled):
            name = template.sharded_filepath(shard_index=number, num_shards=len(filled))
            os.replace(shard.path, name)
        for shard in shards:
            Path(shard.path).unlink(missing_ok=True)
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=[shard.examples for shard in filled],
            num_bytes=sum(shard.num_bytes for shard in filled),
            filename_template=template,
        )


def builder_named(track: str) -> type[DepthPoseBuilder]:
    """The builder under the name of a track, which is the name of its data set."""

    class Named(DepthPoseBuilder, skip_registration=True):  # type: ignore[call-arg]
        name = track

    return Named
