"""Mean and standard deviation of a data set's normalised-but-for-them crops: the `mean` and `std` of a `TrackSpec`.

a2j build synthetic_hand --train 3000 --validation 0 --test 0 --data_dir /tmp/statistics
python benchmarks/crop_statistics.py synthetic_hand --data_dir /tmp/statistics
"""

import argparse
import dataclasses

import numpy as np

from a2j_jax.data import augment, pipeline
from a2j_jax.log import progress
from a2j_jax.tracks import get_track, with_crop_size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("track")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--split", default="train")
    parser.add_argument("--crop_size", type=int)
    arguments = parser.parse_args()

    track = dataclasses.replace(get_track(arguments.track), mean=0.0, std=1.0)
    if arguments.crop_size:
        track = with_crop_size(track, arguments.crop_size)
    frames = pipeline.num_frames(arguments.data_dir, track, arguments.split)
    batches = pipeline.eval_batches(arguments.data_dir, track, arguments.split, 64)
    count, total, squares = 0, 0.0, 0.0
    with progress("crops", frames, "frames") as advance:
        for batch in batches:
            images = augment.evaluation_images(batch["canvas"], batch["center_uvd"][:, 2], track)
            kept = np.asarray(images, np.float64)[batch["mask"]]
            count += kept.size
            total += kept.sum()
            squares += np.square(kept).sum()
            advance(len(kept))
    mean = total / count
    print(f"mean {mean:.2f}  std {np.sqrt(squares / count - mean**2):.2f}")


if __name__ == "__main__":
    main()
