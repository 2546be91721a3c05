"""What a data set's own protocol adds to the scores: ITOP's mAP@10 cm, K2HPD's PDJ.

The unit of every number here is a fraction, 0 to 1; papers print percent. `TrackSpec.protocol` says
which protocol a track has, the skeleton which joints are pooled (`Skeleton.groups`, `.regions`,
`.torso`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from a2j_jax.evaluation import metrics
from a2j_jax.tracks import TrackSpec

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
