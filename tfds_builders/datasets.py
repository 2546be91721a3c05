"""The data sets one can build: for each track, its reader and its builder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a2j_jax.errors import UserError
from a2j_jax.files import local_path
from a2j_jax.log import logger
from a2j_jax.track_files import find_track, track_file
from a2j_jax.tracks import near_track
from tfds_builders import folder as own_data
from tfds_builders import hands2017, icvl, itop, k2hpd, nyu
from tfds_builders.base import DepthPoseBuilder
from tfds_builders.raw_files import Distribution
from tfds_builders.rendered import EMBEDDED


@dataclass(frozen=True)
class DataSet:
    """How one track is built from what its authors ship.

    Attributes:
      builder: of the TFDS data set.
      distribution: (folder, **options) -> the reader of single frames.
      download: what to download, and where to put it.
      published_frames: split -> number of frames its authors name.
      options: keyword arguments that `distribution` takes beside the folder.
    """

    builder: type[DepthPoseBuilder]
    distribution: Callable[..., Distribution]
    download: str
    published_frames: Mapping[str, int]
    options: tuple[str, ...] = ()

    def open(self, manual_dir: str | Path, **options: Any) -> Distribution:
        """The reader of a folder.

        Raises:
          UserError: no such folder (with what to download), or an option of another data set.
        """
        folder = local_path(manual_dir, "raw data")
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of raw data", self.download)
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            known = ", ".join(self.options) or "none"
            raise UserError(
                f"data set {self.builder.name!r} has no option {unknown[0]!r} (options: {known})"
            )
        return self.distribution(folder, **options)


def get_dataset(track: str) -> DataSet:
    """How a track is built: one of `DATASETS`, or a folder of one's own with a `track.json`.

    Raises:
      UserError: neither; the message names the nearest.
    """
    if track in DATASETS:
        return DATASETS[track]
    path = track_file(track)
    if path is not None:
        return _own(path)
    known = (*DATASETS, *EMBEDDED)
    raise UserError(
        f"no builder for {track!r}{near_track(track, known)} (there are: {', '.join(known)}; or name a "
        "folder of your own with a track.json)"
    )


def _itop(track: str, builder: type[DepthPoseBuilder]) -> DataSet:
    def distribution(folder: Path) -> Distribution:
        return itop.ItopDistribution(folder, track)

    return DataSet(builder, distribution, itop.DOWNLOAD, itop.PUBLISHED_FRAMES)


def _own(path: Path) -> DataSet:
    track = find_track(path)

    def distribution(
        folder: Path, depth_unit_mm: float | None = None, allow_outside: bool = False
    ) -> Distribution:
        recorded = track.depth_unit_mm
        if depth_unit_mm not in (None, recorded):
            logger.info(
                f"depth unit: {depth_unit_mm:g} mm per count as given; {path} has {recorded:g}"
            )
        return own_data.OwnDistribution(track, folder, depth_unit_mm, allow_outside)

    builder = own_data.builder_for(track)
    return DataSet(builder, distribution, own_data.DOWNLOAD, {}, ("depth_unit_mm", "allow_outside"))


DATASETS: dict[str, DataSet] = {
    "nyu": DataSet(nyu.Nyu, nyu.NyuDistribution, nyu.DOWNLOAD, nyu.PUBLISHED_FRAMES, ("view",)),
    "icvl": DataSet(
        icvl.Icvl, icvl.IcvlDistribution, icvl.DOWNLOAD, icvl.PUBLISHED_FRAMES, ("rotations",)
    ),
    "hands2017": DataSet(
        hands2017.Hands2017,
        hands2017.Hands2017Distribution,
        hands2017.DOWNLOAD,
        hands2017.PUBLISHED_FRAMES,
    ),
    "itop_front": _itop("itop_front", itop.ItopFront),
    "itop_top": _itop("itop_top", itop.ItopTop),
    "k2hpd": DataSet(
        k2hpd.K2hpd,
        k2hpd.K2hpdDistribution,
        k2hpd.DOWNLOAD,
        k2hpd.PUBLISHED_FRAMES,
        ("keypoints_dir",),
    ),
}
