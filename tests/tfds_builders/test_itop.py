"""ITOP as downloaded: which frames count, where their joints are, broken files, and unpacking."""

import gzip
import os
import pickle
import shutil
import tempfile

import h5py
import numpy as np
import pytest
from scipy import io

from a2j_jax.errors import UnreadableFrame, UserError
from a2j_jax.tracks import PUBLISHED_FRAMES, get_track
from tests.data.made_files import changed, refusal
from tests.distributions import itop as raw
from tests.faults import files_of_at_most
from tfds_builders import itop
from tfds_builders.build import build_raw
from tfds_builders.itop import Itop, find_dataset, unpacked
from tfds_builders.raw_files import project

FRONT = get_track("itop_front")
TRACKS = {"itop_front": "side", "itop_top": "top"}


@pytest.fixture
def front(tmp_path):
    """Two splits of the front view."""
    labels = raw.write(tmp_path, {"train": 3, "test": 4})
    return Itop(tmp_path, FRONT), labels


def rewrite(path, **changes):
    """Replaces arrays of a file by others, or by a function of the old; None: removes them."""
    with h5py.File(path, "r+") as file:
        for key, change in changes.items():
            old = file[key][()] if key in file else None
            if old is not None:
                del file[key]
            if change is not None:
                file[key] = change(old) if callable(change) else change


@pytest.mark.parametrize("track", TRACKS)
def test_frames_and_labels_are_what_was_written(tmp_path, track):
    labels = raw.write(tmp_path, {"train": 5, "test": 4}, track=track)
    distribution = Itop(tmp_path, get_track(track))
    splits = distribution.splits()
    assert list(splits) == ["train", "test"]
    assert distribution.spec() == {"view": TRACKS[track]}
    for name, split in splits.items():
        assert len(split) == len(labels[name])
        assert split.total == len(split) + (len(split) + 1) // 2
        assert split.joints_uvd.dtype == np.float32
        np.testing.assert_array_equal(split.joints_uvd, labels[name])
        with h5py.File(tmp_path / f"ITOP_{TRACKS[track]}_{name}_labels.h5") as file:
            np.testing.assert_array_equal(split.rows, np.flatnonzero(file["is_valid"]))
            assert list(split.frame_ids) == [file["id"][row].decode() for row in split.rows]
        with h5py.File(tmp_path / f"ITOP_{TRACKS[track]}_{name}_depth_map.h5") as file:
            meters = file["data"][()].astype(np.float64)
        for i in range(len(split)):
            depth = distribution.read_depth(split.sources[i])
            assert depth.dtype == np.float32
            np.testing.assert_allclose(depth, meters[split.rows[i]] * 1000, rtol=1e-6)
        assert any("frames marked invalid" in note for note in split.notes)


def test_published_joints_project_into_the_published_boxes(official):
    for view, track in (("side", "itop_front"), ("top", "itop_top")):
        folder = official / f"itop_{view}"
        xyz = io.loadmat(folder / f"itop_{view}_keypoints3D_test.mat")["keypoints3D"]
        boxes = io.loadmat(folder / f"itop_{view}_bndbox_test.mat")["FRbndbox_test"]
        assert len(xyz) == PUBLISHED_FRAMES["itop_front"]["test"]
        uvd = project(xyz.astype(np.float64) * 1000, get_track(track))
        inside = (uvd[..., :2] > boxes[:, None, :2] - 5) & (uvd[..., :2] < boxes[:, None, 2:] + 5)
        assert inside.mean() > 0.99
        np.testing.assert_allclose(uvd[..., 2], xyz[..., 2] * 1000, rtol=1e-6)


def test_a_file_in_a_folder_of_its_name_is_found(front, tmp_path):
    distribution, labels = front
    path = tmp_path / "ITOP_side_test_depth_map.h5"
    inside = path.rename(tmp_path / "x")
    path.mkdir()
    inside.rename(path / path.name)
    split = distribution.splits()["test"]
    assert distribution.read_depth(split.sources[0]).max() > 0
    assert len(split) == len(labels["test"])


def test_the_other_view_is_mentioned_where_only_that_is_there(tmp_path):
    raw.write(tmp_path, {"test": 1}, track="itop_top")
    with pytest.raises(UserError, match="other view: track itop_top"):
        Itop(tmp_path, FRONT).splits()
    (tmp_path / "ITOP_side_test_images.h5").touch()  # of the right view, but not one that is needed
    with pytest.raises(UserError, match=r"found there$"):
        Itop(tmp_path, FRONT).splits()


@pytest.mark.parametrize("packed", [False, True])
def test_files_a_folder_deeper_and_in_lower_case(tmp_path, packed):
    labels = raw.write(tmp_path / "sub", {"test": 2}, packed=packed)["test"]
    for path in sorted((tmp_path / "sub").iterdir()):
        path.rename(path.with_name(path.name.lower()))
    raw.write(tmp_path, {"test": 1}, track="itop_top")
    distribution = Itop(tmp_path, FRONT)
    ((name, split),) = distribution.splits().items()  # one split is enough
    assert name == "test"
    np.testing.assert_array_equal(split.joints_uvd, labels)
    assert distribution.read_depth(split.sources[0]).any()


@pytest.mark.parametrize("gone", ["labels", "depth_map"])
def test_half_a_split_and_unreadable_files_are_named(front, tmp_path, gone):
    path = tmp_path / f"ITOP_side_test_{gone}.h5"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=rf"{path.name}: not readable as an HDF5"):
        front[0].splits()
    path.unlink()
    with pytest.raises(UserError, match=f"add {path.name}"):
        front[0].splits()


@pytest.mark.parametrize(
    ("part", "key", "array", "message"),
    [
        ("depth_map", "data", np.zeros((6, 120, 160), np.float16), r"\(6, 120, 160\) float16; exp"),
        ("depth_map", "data", np.zeros((6, 240, 320), np.uint16), "depth in meters"),
        ("depth_map", "data", None, r"has no `data` \(it has: id\)"),
        ("depth_map", "id", np.zeros(5), r"`id` is \(5,\)"),
        ("labels", "is_valid", None, r"has no `is_valid`"),
        ("labels", "is_valid", np.ones(5, np.uint8), r"is \(6, 15, 3\) float16; expected \(5"),
        ("labels", "real_world_coordinates", np.zeros((6, 19, 3)), r"expected \(6, 15, 3\)"),
        ("labels", "real_world_coordinates", np.zeros((4, 15, 3)), r"is \(4, 15, 3\)"),
        ("labels", "id", raw.frame_ids(7)[1:], "`id`s are not the same"),
        ("labels", "is_valid", np.zeros(6, np.uint8), "not one of 6 frames is marked valid"),
    ],
)
def test_wrong_contents_are_named(front, tmp_path, part, key, array, message):
    rewrite(tmp_path / f"ITOP_side_test_{part}.h5", **{key: array})
    with pytest.raises(UserError, match=message):
        front[0].splits()


def test_labels_of_another_split_are_refused(front, tmp_path):
    shutil.copy(tmp_path / "ITOP_side_train_labels.h5", tmp_path / "ITOP_side_test_labels.h5")
    rewrite(tmp_path / "ITOP_side_test_depth_map.h5", id=None)  # the numbers of frames are enough
    with pytest.raises(UserError, match=r"has 6 frames, ITOP_side_test_labels.h5 labels 5"):
        front[0].splits()


def test_joints_without_a_position_are_not_labeled(front, tmp_path):
    rows = front[0].splits()["test"].rows
    with h5py.File(tmp_path / "ITOP_side_test_labels.h5", "r+") as file:
        file["real_world_coordinates"][rows[1], 2] = np.nan
        file["real_world_coordinates"][rows[2], 3] = 0.0  # no depth: the camera itself
    split = front[0].splits()["test"]
    assert np.argwhere(np.isnan(split.joints_uvd).all(axis=-1)).tolist() == [[1, 2], [2, 3]]
    assert np.isnan(split.joints_uvd).sum() == 6
    assert any("2 joints of 2 frames not labeled" in note for note in split.notes)


def column(values):
    return values[:, None]


SAME = np.array(["same"] * 6, h5py.string_dtype())


@pytest.mark.parametrize(
    ("depth_map", "labels", "named"),
    [
        ({"id": np.arange(6)}, {}, "{id}"),  # numbers, which cannot be compared with names
        ({"id": None}, {}, "{id}"),
        ({}, {"id": None}, "{id}"),
        ({"id": None}, {"id": None}, "{row}"),
        ({"id": SAME}, {"id": SAME}, "same@{row}"),
        ({"id": column}, {"id": column, "is_valid": column}, "{id}"),  # as MATLAB writes
    ],
)
def test_names_of_frames(front, tmp_path, depth_map, labels, named):
    before = front[0].splits()["test"]
    rewrite(tmp_path / "ITOP_side_test_depth_map.h5", **depth_map)
    rewrite(tmp_path / "ITOP_side_test_labels.h5", **labels)
    split = front[0].splits()["test"]
    rows = zip(before.frame_ids, before.rows, strict=True)
    assert list(split.frame_ids) == [named.format(id=name, row=row) for name, row in rows]
    np.testing.assert_array_equal(split.rows, before.rows)


def test_no_reading_is_zero(front, tmp_path):
    distribution = front[0]
    file_name, row = distribution.splits()["test"].sources[0]
    with h5py.File(tmp_path / file_name, "r+") as file:
        file["data"][row, 0, :4] = [np.nan, np.inf, -1.0, 2.5]
    assert distribution.read_depth((file_name, row))[0, :4].tolist() == [0, 0, 0, 2500]


def test_a_frame_that_cannot_be_read_is_the_frames_problem(front):
    with pytest.raises(UnreadableFrame, match=r"ITOP_side_test_depth_map.h5, row 99: not readable"):
        front[0].read_depth(("ITOP_side_test_depth_map.h5", 99))


def test_files_are_opened_once_per_process(front, tmp_path, monkeypatch):
    distribution = pickle.loads(pickle.dumps(front[0]))
    source = distribution.splits()["test"].sources[0]
    frame = distribution.read_depth(source)
    (tmp_path / source[0]).unlink()
    np.testing.assert_array_equal(distribution.read_depth(source), frame)
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as after a fork
    with pytest.raises(UnreadableFrame, match="no such file"):
        distribution.read_depth(source)


@pytest.mark.parametrize(
    ("part", "key", "message"),
    [
        ("depth_map", "data", r"depth in counts of 1 mm.*expected meters"),
        ("labels", "real_world_coordinates", r"above 1e\+06 px or mm; are they in another unit"),
    ],
)
def test_files_in_mm_are_refused_before_the_build(tmp_path, part, key, message):
    raw.write(tmp_path / "raw", {"train": 3})
    path = tmp_path / "raw" / f"ITOP_side_train_{part}.h5"
    rewrite(path, **{key: lambda meters: meters.astype(np.float32) * 1000})
    with pytest.raises(UserError, match=message):
        build_raw("itop_front", tmp_path / "raw", tmp_path / "data", crop_size=32)
    assert not (tmp_path / "data").exists()


def test_hdf5_leads_nowhere_else(tmp_path):
    np.arange(6.0).tofile(tmp_path / "raw")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["data"] = np.arange(6.0)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.arange(6.0)
        file["soft"] = h5py.SoftLink("/data")
        file["external"] = h5py.ExternalLink("other.h5", "data")
        file.create_dataset("raw", (6,), "f8", external=[(str(tmp_path / "raw"), 0, 48)])
        layout = h5py.VirtualLayout((6,), "f8")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "data", (6,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("huge", (1 << 40,), "f8", chunks=(1 << 10,))
        file.create_dataset("nothing", data=h5py.Empty("f8"))
        file.create_group("group")
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(find_dataset(file, "data", (6,), "f", ""), np.arange(6.0))
        for keys, words in (
            ("absent group", "has no"),
            ("soft external raw virtual", "another place"),
            ("huge nothing", "more data"),
        ):
            for key in keys.split():
                assert words in refusal(find_dataset, file, key, (None,), "f", "")


@pytest.mark.parametrize("part", ["depth_map", "labels"])
def test_changed_files_are_refused_or_read(tmp_path, part):
    """HDF5 has no checksums: values may differ, but nothing crashes, hangs or leaves another kind of error."""
    raw.write(tmp_path, {"test": 4})
    path = tmp_path / f"ITOP_side_test_{part}.h5"
    whole, rng, refused = path.read_bytes(), np.random.default_rng(3), 0
    for _ in range(100):
        path.write_bytes(changed(whole, rng))
        itop._depth_map.cache_clear()
        try:
            distribution = Itop(tmp_path, FRONT)
            for source in distribution.splits()["test"].sources:
                distribution.read_depth(source)
        except UserError:
            refused += 1
    assert refused > 10
    itop._depth_map.cache_clear()


CONTENT = os.urandom(1 << 20) * 3


@pytest.fixture
def packed(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    path = tmp_path / "data" / "ITOP_side_test_labels.h5.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(CONTENT, 1))
    return path


def everything_below(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_copy_is_made_once_for_each_download(packed, capfd):
    copy = unpacked(packed)
    assert copy == packed.with_name("ITOP_side_test_labels.unpacked.h5")
    assert copy.read_bytes() == CONTENT
    assert "unpacking to" in capfd.readouterr().err
    before = copy.stat().st_mtime_ns
    assert unpacked(packed) == copy
    assert copy.stat().st_mtime_ns == before
    assert not capfd.readouterr().err
    assert everything_below(packed.parent) == [packed.name, copy.name]
    packed.write_bytes(gzip.compress(b"another", 1))
    later = before + 10**9  # as if downloaded a second later
    os.utime(packed, ns=(later, later))
    assert unpacked(packed).read_bytes() == b"another"
    # Its clock being ahead of ours, it is not unpacked for ever.
    assert copy.stat().st_mtime_ns >= later


def test_a_read_only_folder_sends_the_copy_elsewhere(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK)
    copy = unpacked(packed)
    assert copy.is_relative_to(tmp_path / "temporary")
    assert copy.read_bytes() == CONTENT
    assert copy.parent.stat().st_mode & 0o077 == 0
    before = copy.stat().st_mtime_ns
    assert unpacked(packed).stat().st_mtime_ns == before
    twin = tmp_path / "twin" / packed.name
    twin.parent.mkdir()
    twin.write_bytes(gzip.compress(b"another", 1))
    assert unpacked(twin).read_bytes() == b"another"
    assert unpacked(packed) == copy
    # A folder of somebody else is not used.
    copy.parent.chmod(0o770)
    with pytest.raises(UserError, match="others may write there"):
        unpacked(packed)
    copy.parent.chmod(0o700)
    copy.parent.rename(tmp_path / "theirs")
    copy.parent.symlink_to(tmp_path / "theirs")
    with pytest.raises(UserError, match="is a link"):
        unpacked(packed)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(UserError, match="cannot be used for unpacking"):
        unpacked(packed)


@pytest.mark.parametrize(
    ("content", "largest", "message"),
    # A time in the header would go into the test's name, and differ between the processes that run tests.
    [
        (gzip.compress(CONTENT, 1)[:-1000], 1 << 30, "truncated, or not a gzip file"),
        (gzip.compress(b"x" * 99, mtime=0)[:20], 1 << 30, "truncated, or not a gzip file"),
        (b"<html>", 1 << 30, "truncated, or not a gzip file"),
        (None, 1 << 20, "cannot be written"),  # a full disk
    ],
)
def test_what_cannot_be_unpacked_leaves_nothing(packed, content, largest, message):
    if content:
        packed.write_bytes(content)
    with files_of_at_most(largest), pytest.raises(UserError, match=message):
        unpacked(packed)
    assert everything_below(packed.parent) == [packed.name]
