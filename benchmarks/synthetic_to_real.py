"""What a network trained on rendered hands does on a labelled real frame of NYU, beside the authors' prediction.

    python benchmarks/synthetic_to_real.py --checkpoint runs/quickstart --frame depth_1_0000001.png \
        --center center.txt --labels labels.txt --official prediction.txt --out overlay.png

Text files hold uvd triples (px px mm): one centre, 14 labels, 14 predicted joints, in NYU's order.
"""

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table

from a2j_jax.evaluation.metrics import joint_errors
from a2j_jax.geometry import uvd_to_xyz
from a2j_jax.inference.files import predict_files, write_overlay
from a2j_jax.inference.predictor import Predictor
from a2j_jax.synthetic.correspondence import hand_to_nyu14
from a2j_jax.tracks import get_track


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--frame", required=True)
    parser.add_argument("--center", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--official", help="another prediction of the 14 joints, to put beside")
    parser.add_argument("--out", help="overlay PNG")
    arguments = parser.parse_args()

    nyu = get_track("nyu")
    assert nyu.camera is not None
    predictor = Predictor.from_checkpoint(arguments.checkpoint)
    center = np.loadtxt(arguments.center).reshape(3)
    found = list(
        predict_files(predictor, [arguments.frame], [center], None, nyu.camera, nyu.frame_format)
    )
    if arguments.out:
        write_overlay(found, predictor.spec, arguments.out)

    joints, corresponding = hand_to_nyu14(found[0].estimate.joints_uvd)
    rows = {arguments.checkpoint: joints}
    if arguments.official:
        rows["official A2J"] = np.loadtxt(arguments.official).reshape(14, 3)
    rows["every joint at the centre"] = np.tile(center, (14, 1))
    truth = uvd_to_xyz(np.loadtxt(arguments.labels).reshape(14, 3), nyu.camera)
    table = Table(title=f"{arguments.frame}: error in mm")
    table.add_column("joint")
    errors = {}
    for name, uvd in rows.items():
        table.add_column(name, justify="right")
        errors[name] = joint_errors(uvd_to_xyz(uvd, nyu.camera)[None], truth[None])[0]
    for k, joint in enumerate(nyu.skeleton.joints):
        cells = [
            f"{e[k]:.1f}" if corresponding[k] or name == "official A2J" else "–"
            for name, e in errors.items()
        ]
        table.add_row(joint, *cells)
    table.add_section()
    table.add_row(
        f"mean of the {corresponding.sum()} corresponding",
        *(f"{e[corresponding].mean():.2f}" for e in errors.values()),
    )
    Console().print(table)


if __name__ == "__main__":
    main()
