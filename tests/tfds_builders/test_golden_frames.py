"""The official program's own frames, shipped as each data set ships them, come out as its crops and labels.

Everything between the raw file and the network's input is in this: file format, label conventions, published centers
or boxes, crop, storage as integers, normalization.
"""

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from a2j_jax.data import augment, crops, pipeline
from a2j_jax.tracks import get_track
from tests.distributions import hands2017, icvl, nyu
from tests.distributions.drawing import save_depth_png, save_packed_png
from tfds_builders.build import build_raw

Golden = dict[str, np.ndarray]


def ship_nyu(folder, golden, _):
    for number, frame in enumerate(golden["frames"], start=1):
        save_packed_png(folder / f"dataset/test/depth_1_{number:07d}.png", frame)
    nyu.write_labels(folder / "dataset/test/joint_data.mat", np.stack([golden["joints_uvd"]] * 3))


def ship_icvl(folder, golden, _):
    names = [f"test_seq_1/image_{number:04d}.png" for number in range(len(golden["frames"]))]
    for name, frame in zip(names, golden["frames"], strict=True):
        save_depth_png(folder / "Testing/Depth" / name, frame)
    icvl.write_labels(folder / "Testing", names, golden["joints_uvd"])


def ship_hands2017(folder, golden, _):
    """Its test labels are not public: the training split stands in, with its own center file."""
    for row, frame in enumerate(golden["frames"]):
        save_depth_png(folder / "training/images" / hands2017.image_name(row), frame)
    hands2017.write_labels(folder / "training/Training_Annotation.txt", golden["joints_uvd"])


def ship_itop(folder, golden, track):
    """In float32, which HDF5 allows: the made-up frames have more digits than float16."""
    view = {"itop_front": "side", "itop_top": "top"}[track.name]
    count = len(golden["frames"])
    ids = np.array([f"00_{n:05d}" for n in range(count)], "S8")
    with h5py.File(folder / f"ITOP_{view}_test_depth_map.h5", "w") as file:
        file["data"], file["id"] = golden["frames"], ids
    with h5py.File(folder / f"ITOP_{view}_test_labels.h5", "w") as file:
        file["real_world_coordinates"], file["id"] = golden["joints_world_m"], ids
        file["is_valid"] = np.ones(count, np.uint8)
        file["visible_joints"] = np.ones((count, 15), np.int16)
        file["image_coordinates"] = np.rint(golden["joints_pixel"]).astype(np.int16)


CASES = [
    ("nyu", "nyu", ship_nyu, "test", 1e-4),
    ("icvl", "icvl", ship_icvl, "test", 1e-4),
    ("hands2017", "hands2017", ship_hands2017, "train", 1e-4),
    ("itop_front", "itop_side", ship_itop, "test", 1e-3),
    ("itop_top", "itop_top", ship_itop, "test", 1e-3),
]


@pytest.mark.parametrize(("name", "published", "ship", "split", "bar"), CASES)
def test_raw_files_become_the_official_crops(name, published, ship, split, bar, parity, tmp_path):
    track = get_track(name)
    with np.load(parity / f"preprocess_{published}.npz") as archive:
        golden = {key: archive[key] for key in archive.files}
    raw, centers = tmp_path / "raw", tmp_path / "published"
    raw.mkdir()
    centers.mkdir()
    ship(raw, golden, track)
    if track.crop_by == "center":
        contents = {"centre_pixel": golden["centers_uvd"][:, None].astype(float)}
        savemat(centers / f"{published}_center_{split}.mat", contents)
    else:
        savemat(centers / f"{published}_bndbox_{split}.mat", {"FRbndbox_test": golden["boxes"]})

    build_raw(name, raw, tmp_path / "data", centers=centers)
    count = len(golden["frames"])
    batch = next(pipeline.eval_batches(tmp_path / "data", track, split, count))
    depth = batch["center_uvd"][:, 2]
    images = np.asarray(augment.evaluation_images(batch["canvas"], depth, track))[..., 0]
    np.testing.assert_allclose(images, golden["crop"][:, 0], atol=bar, rtol=0)
    labels = crops.joints_to_crop(batch["joints_uvd"], batch["box_px"], depth, track)
    labels = labels[..., [1, 0, 2]]  # the official order: row, column, depth
    np.testing.assert_allclose(labels, golden["label"], atol=1e-3, rtol=0)
    sources = pipeline.metadata(tmp_path / "data", track)["provenance"]["centers"][split]
    kind = "center" if track.crop_by == "center" else "bndbox"
    assert sources == {f"{published}_{kind}_{split}.mat": count}
