"""Raw distributions: what a data set's authors ship, before anything is cut or stored.

A data set brings two things, its `Distribution` (which frames there are, and how to read one) and its
`TrackSpec`. Where to crop comes from `tfds_builders.centers`; everything else is here, once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from a2j_jax.errors import UnreadableFrame as UnreadableFrame
from a2j_jax.text import as_utf8


@dataclass(frozen=True, eq=False)
class RawSplit:
    """One split as shipped, indexed but not read. Row i is its i-th frame that counts.

    Attributes:
      frame_ids: how the distribution calls each of the N frames; unique in the split.
      sources: what `Distribution.read_depth` needs for each frame.
      joints_uvd: (N, K, 3) px, px, mm or (N, K, 2) px, full frame; NaN: not labelled; None: the
        split's labels are not public.
      rows: (N,) row of each frame among all `total` rows of the distribution, where some do not
        count (frames that are marked invalid, rotated copies left out).
      total: rows of the whole distribution. Published per-frame files have N or `total` rows.
      crops: (N, 3) centres px, px, mm or (N, 4) boxes px to crop by, shipped with the frames; NaN
        rows: not given.
      boxes_px: (N, 4) x0, y0, x1, y1 px, shipped with the frames: where the object is, a hint.
      numbers: (N,) distinct, from 0: number of each frame in the published split, by its own name, where
        names carry one. It is the `index` of its example, and the row of a published per-frame file that
        covers the whole split while only some frames are here.
      notes: what was found odd while indexing, one line each, with counts and file names.
      faults: the same of frames that cannot be used, or are missing: `--strict` makes them errors.
    """

    frame_ids: Sequence[str]
    sources: Sequence[Any]
    joints_uvd: npt.NDArray[np.float32] | None
    rows: npt.NDArray[np.int64] | None = None
    total: int | None = None
    crops: npt.NDArray[np.float64] | None = None
    boxes_px: npt.NDArray[np.float64] | None = None
    numbers: npt.NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Names are stored as UTF-8."""
        object.__setattr__(self, "frame_ids", [as_utf8(name) for name in self.frame_ids])

    def __len__(self) -> int:
        return len(self.frame_ids)


class Distribution(Protocol):
    """A data set as its authors ship it. Small and picklable: a folder and options, no arrays."""

    def splits(self) -> Mapping[str, RawSplit]:
        """Index what is there.

        Raises:
          UserError: nothing is, with what to download and where to put it.
        """

    def read_depth(self, source: Any) -> npt.NDArray[Any]:
        """One frame, (H, W) uint16 or float32 mm, 0 = no reading (K2HPD: grey levels, not distances).

        Raises:
          UnreadableFrame: missing, truncated or of the wrong kind.
        """

    def spec(self) -> dict[str, Any]:
        """Options that the examples depend on, as JSON; no paths."""
