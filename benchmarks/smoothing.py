"""What smoothing over time gains on the authors' published predictions of NYU's test split.

    python benchmarks/smoothing.py --predictions nyu_861_epoch32_UVD.txt --labels nyu_keypointsUVD_test.mat

Frames 1 to 2,440 show one person, the others another one: two sequences of 30 frames a second.
"""

import argparse
import time

import numpy as np
from rich.console import Console
from scipy.io import loadmat

from a2j_jax.evaluation import tables
from a2j_jax.evaluation.scores import joint_errors, mean_error
from a2j_jax.geometry import Float64, uvd_to_xyz
from a2j_jax.inference import smoothing
from a2j_jax.tracks import get_track

PERSONS = slice(0, 2440), slice(2440, None)
RATE_HZ = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--predictions", required=True)
    parser.add_argument("--labels", required=True)
    arguments = parser.parse_args()
    camera = get_track("nyu").camera
    assert camera is not None
    predicted = uvd_to_xyz(np.loadtxt(arguments.predictions).reshape(-1, 14, 3), camera)
    truth = uvd_to_xyz(loadmat(arguments.labels)["keypoints3D"], camera)
    started = time.process_time()
    rows = smoothed(predicted)
    seconds = time.process_time() - started
    cells = tuple(
        (name, f"{mean_error(joint_errors(xyz, truth)):.3f}", f"{jitter(xyz):.1f}")
        for name, xyz in rows.items()
    )
    columns = ("", "mean error, mm", "jitter, mm")
    tables.print_table(tables.Table(f"{len(truth):,} frames", columns, cells), Console())
    print(
        f"labels have a jitter of {jitter(truth):.1f} mm; {seconds:.1f} CPU seconds for the table"
    )


def smoothed(xyz_mm: Float64) -> dict[str, Float64]:
    """Joints (N, 14, 3) mm smoothed in several ways, person by person."""
    bones, times = get_track("nyu").skeleton.bones, np.arange(len(xyz_mm)) / RATE_HZ
    found: dict[str, list[Float64]] = {}
    for person in PERSONS:
        xyz, at = xyz_mm[person], times[person]
        states: list[smoothing.SmoothState] = []
        for joints, now in zip(xyz, at, strict=True):
            before = states[-1] if states else None
            states.append(smoothing.smooth(before, joints, now, bones))
        lengths = np.median(smoothing.bone_lengths(xyz, bones), axis=0)
        for name, part in {
            "as published": xyz,
            "One-Euro": np.stack([state.filtered.xyz_mm for state in states]),
            "One-Euro, bones: smooth": np.stack([state.xyz_mm for state in states]),
            "One-Euro of a recording": smoothing.one_euro_sequence(xyz, at),
            "bones of a recording": smoothing.project_bones(xyz, lengths, bones),
            "both of a recording: smooth_sequence": smoothing.smooth_sequence(xyz, at, bones),
        }.items():
            found.setdefault(name, []).append(part)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def jitter(xyz_mm: Float64) -> float:
    """Mean distance of joints (N, K, 3) from the middle between the frame before and the one after, mm."""
    return float(np.linalg.norm(np.diff(xyz_mm, 2, axis=0), axis=-1).mean() / 2.0)


if __name__ == "__main__":
    main()
