"""Errors of a network trained on rendered hands on a labeled real frame of NYU, beside the authors' prediction.

    python benchmarks/synthetic_to_real.py --checkpoint runs/quickstart --frame depth_1_0000001.png \
        --center center.txt --labels labels.txt --official prediction.txt --out overlay.png \
        --shift 8,0,0 --shift 0,8,0 --shift 0,0,20

Text files hold uvd triples (px px mm): one center, 14 labels, 14 predicted joints, in NYU's order. Every --shift
moves the center by so much and predicts again, to show how sensitive the prediction is to it. --again: not as the
network answers at that center, but as `a2j predict --model` does, which moves the crop and looks again.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from a2j_jax import pictures
from a2j_jax.cli.arguments import join_negative_numbers, numbers
from a2j_jax.evaluation.scores import joint_errors
from a2j_jax.evaluation.tables import ABSENT, Table, print_table
from a2j_jax.geometry import uvd_to_xyz
from a2j_jax.inference.frames import FilePrediction, predict_files
from a2j_jax.inference.hands import HandModel, load
from a2j_jax.inference.predictor import Predictor
from a2j_jax.synthetic.hand import hand_to_nyu14
from a2j_jax.tracks import HANDS2017, get_track

NYU = get_track("nyu")
OFFICIAL, AT_CENTER = "official A2J", "every joint at the center"
TILE_INCHES = 4.0


def main() -> None:
    arguments = parse()
    predictor: Predictor | HandModel
    if arguments.again:
        predictor = load(arguments.checkpoint)
    else:
        predictor = Predictor.from_checkpoint(arguments.checkpoint)
    center = np.loadtxt(arguments.center).reshape(3)
    labels = np.loadtxt(arguments.labels).reshape(14, 3)
    found = predict(predictor, arguments.frame, center)
    joints, corresponding = hand_to_nyu14(found.estimate.joints_uvd)
    rows = {Path(arguments.checkpoint).name: joints}
    if arguments.official:
        rows[OFFICIAL] = np.loadtxt(arguments.official).reshape(14, 3)
    rows[AT_CENTER] = np.tile(center, (14, 1))
    errors = {name: errors_mm(uvd, labels) for name, uvd in rows.items()}
    print_joints(arguments.frame, errors, corresponding)
    if arguments.shift:
        moved = {}
        for shift in [(0.0, 0.0, 0.0), *arguments.shift]:
            again = predict(predictor, arguments.frame, center + shift).estimate.joints_uvd
            moved[shift] = errors_mm(hand_to_nyu14(again)[0], labels)[corresponding]
        print_shifts(moved)
    if arguments.out:
        draw(found, labels, rows.get(OFFICIAL), arguments.out)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, shift = parser.add_argument, numbers(3, "DU,DV,DD")
    for name in ("checkpoint", "frame", "center", "labels"):
        add(f"--{name}", required=True)
    add("--again", action="store_true", help="as `a2j predict --model`")
    add("--official", help="another prediction of the 14 joints, to put beside")
    add("--shift", type=shift, action="append", help="of the center, px px mm; repeat it")
    add("--out", help="PNG or SVG: each prediction in color over the labels in black")
    return parser.parse_args(join_negative_numbers(sys.argv[1:]))


def predict(
    predictor: Predictor | HandModel, frame: str, center: NDArray[np.float64]
) -> FilePrediction:
    (found,) = predict_files(predictor, [frame], [center], track=NYU)
    return found


def errors_mm(uvd: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """(14, 3) and (14, 3) uvd -> (14,) mm."""
    assert NYU.camera is not None
    found, truth = (uvd_to_xyz(joints, NYU.camera)[None] for joints in (uvd, labels))
    return joint_errors(found, truth)[0]


def print_joints(
    title: str, errors: dict[str, NDArray[np.float64]], corresponding: NDArray[np.bool_]
) -> None:
    rows = []
    for k, joint in enumerate(NYU.skeleton.joints):
        known = [corresponding[k] or name == OFFICIAL for name in errors]
        cells = zip(errors.values(), known, strict=True)
        rows.append((joint, *(f"{e[k]:.1f}" if shown else ABSENT for e, shown in cells)))
    means = [f"{e[corresponding].mean():.2f}" for e in errors.values()]
    rows.append((f"mean of the {corresponding.sum()} corresponding", *means))
    columns, strong = ("joint", *errors), frozenset({len(rows) - 1})
    print_table(Table(f"{title}: error in mm", columns, tuple(rows), strong), Console())


def print_shifts(errors: dict[tuple[float, ...], NDArray[np.float64]]) -> None:
    """Errors of the corresponding joints by the shift of the center."""
    rows = tuple(
        (*(f"{value:+g}" for value in shift), f"{error.mean():.1f}", f"{error.max():.1f}")
        for shift, error in errors.items()
    )
    columns = ("u px", "v px", "d mm", "mean mm", "worst mm")
    print_table(Table("the same with the center moved", columns, rows), Console())


def draw(
    found: FilePrediction,
    labels: NDArray[np.float64],
    official: NDArray[np.float64] | None,
    out: str | Path,
) -> None:
    """Our 21 joints; those of them that NYU has, over its labels; the official prediction over them."""
    estimate, origin = found.estimate, np.asarray(found.origin_px)
    assert estimate.center_depth_mm is not None
    assert NYU.depth_window_mm is not None
    far = estimate.center_depth_mm + NYU.depth_window_mm

    def tile(joints: NDArray[np.float64], title: str, over_labels: bool = True) -> pictures.Tile:
        truth = labels[:, :2] - origin if over_labels else None
        return pictures.Tile(found.region, joints[:, :2] - origin, truth, title, far=far)

    ours, corresponding = hand_to_nyu14(estimate.joints_uvd)
    tiles = [
        (tile(estimate.joints_uvd, "all 21 joints", over_labels=False), HANDS2017),
        (tile(np.where(corresponding[:, None], ours, np.nan), "NYU's, over labels"), NYU.skeleton),
    ]
    if official is not None:
        tiles.append((tile(official, "official A2J, over labels"), NYU.skeleton))
    figure = pictures.new_figure(TILE_INCHES * len(tiles), TILE_INCHES + 0.2)
    figure.set_layout_engine("constrained")
    for axes, (one, skeleton) in zip(figure.subplots(1, len(tiles)), tiles, strict=True):
        pictures.draw_tile(axes, one, skeleton, TILE_INCHES / 2)
    pictures.save_figure(figure, out)


if __name__ == "__main__":
    main()
