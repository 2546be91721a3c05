"""A tiny K2HPD: gray and RGB frames of both splits in one folder, labels in lines of three kinds."""

import dataclasses

import numpy as np
from PIL import Image

from a2j_jax.geometry import Camera, xyz_to_uvd
from a2j_jax.tracks import get_track
from tests.distributions.bodies import draw_body, draw_people

# A Kinect 2 at half its resolution, y down. The data set itself comes without one.
_CAMERA = Camera(182.0, 182.0, 128.0, 106.0)


def write(folder, frames: dict[str, int], annotations_in: str = ""):
    """Writes frames and labels; every third frame is RGB, every fourth has no zero in it.

    Args:
      folder: made where needed.
      frames: split -> frames.
      annotations_in: folder of the label files below `folder`: "" or "depth_data".

    Returns:
      Split -> (N, 19, 2) px, px float32, whole numbers.
    """
    track = dataclasses.replace(get_track("k2hpd"), camera=_CAMERA)
    images = folder / "depth_data" / "depth_images"
    images.mkdir(parents=True, exist_ok=True)
    labels, first = {}, 1
    for number, (split, count) in enumerate(sorted(frames.items())):
        rng = np.random.default_rng(number)
        across, up, near = np.moveaxis(draw_people(rng, track.skeleton.joints, count), -1, 0)
        # The sensor's image is mirrored: the person's left is on the left.
        xyz = np.stack([-across, 1.0 - up, 2.6 - near], axis=-1) * 1000.0
        uvd = xyz_to_uvd(xyz, _CAMERA)
        lines = []
        for i in range(count):
            name = f"{first + i:08d}.png"
            levels = _levels(rng, draw_body(uvd[i], track, 4000), zeros=i % 4 != 3)
            _save(images / name, levels, as_rgb=i % 3 == 2)
            lines.append(name + _numbers(np.rint(uvd[i, :, :2]).astype(int), i))
        text = "\n".join(lines) + "\n\n"
        (folder / annotations_in / f"{split}_annos.txt").write_text(text)
        labels[split] = np.rint(uvd[..., :2]).astype(np.float32)
        first += count
    return labels


def _levels(rng, depth_mm: np.ndarray, zeros: bool) -> np.ndarray:
    """(H, W) uint8: near is dark; 0 where there is no reading."""
    levels = np.clip((depth_mm.astype(np.float64) - 1500) / 12, 9, 240)
    if zeros:
        levels[rng.random(levels.shape) < 0.02] = 0
    return levels.astype(np.uint8)


def _save(path, levels: np.ndarray, as_rgb: bool) -> None:
    if as_rgb:  # green and blue must not be taken for the depth
        levels = np.stack([levels, levels // 2, 255 - levels], axis=-1)
    Image.fromarray(levels).save(path)


def _numbers(uv: np.ndarray, line: int) -> str:
    """Spaces, commas, tabs, or x and y apart in another way than the pairs; some trailing."""
    pairs = uv.tolist()
    return [
        " " + " ".join(f"{x} {y}" for x, y in pairs) + " ",
        "," + ",".join(f"{x},{y}" for x, y in pairs),
        "\t" + "\t".join(f"{x}\t{y}" for x, y in pairs) + "\t",
        "  " + "  ".join(f"{x}, {y}" for x, y in pairs) + "\r",
    ][line % 4]
