"""The challenge's text file: exact bytes, and read back."""

from pathlib import Path

import numpy as np
import pytest

from a2j_jax import geometry
from a2j_jax.errors import UserError
from a2j_jax.evaluation.joint_files import JointSet, frame_index, read_joints, write_submission
from a2j_jax.evaluation.scores import score_joint_sets
from a2j_jax.tracks import get_track

HANDS = get_track("hands2017")
XYZ = np.random.default_rng(0).normal([0, 0, 500], 60, (4, 21, 3))


def test_every_field_ends_in_a_tab(tmp_path: Path) -> None:
    write_submission(tmp_path / "s.txt", XYZ)
    lines = (tmp_path / "s.txt").read_bytes().split(b"\n")
    assert lines[-1] == b""
    assert len(lines) == 5
    fields = lines[2].split(b"\t")
    assert fields[0] == b"frame/images/image_D00000003.png"
    assert fields[-1] == b""
    np.testing.assert_allclose([float(f) for f in fields[1:-1]], XYZ[2].ravel(), atol=5e-5)


def test_it_reads_back_in_any_order(tmp_path: Path) -> None:
    order = [2, 0, 3, 1]
    write_submission(tmp_path / "s.txt", XYZ[order], order)
    back = read_joints(tmp_path / "s.txt", HANDS)
    assert HANDS.camera is not None
    np.testing.assert_allclose(geometry.uvd_to_xyz(back.joints_uvd, HANDS.camera), XYZ, atol=1e-4)
    np.testing.assert_array_equal(back.index, np.arange(4))
    assert any("projected" in note for note in back.notes)


def test_labels_of_some_frames_score_those(tmp_path: Path) -> None:
    """The seen, or the unseen subjects: as the annotations, without a folder."""
    write_submission(tmp_path / "s.txt", XYZ)
    moved = XYZ[[1, 3]] + [[[3.0, 4.0, 0.0]], [[0.0, 0.0, 0.0]]]
    rows = zip((2, 4), moved.reshape(2, -1), strict=True)
    text = "\n".join(f"image_D{n:08d}.png\t" + "\t".join(map(str, row)) for n, row in rows)
    (tmp_path / "labels.txt").write_text(text)
    predicted, labels = (read_joints(tmp_path / f, HANDS) for f in ("s.txt", "labels.txt"))
    scores = score_joint_sets(predicted, labels, HANDS)
    assert scores.frames == 2
    assert scores.mean_error == pytest.approx(2.5, abs=1e-3)
    swapped = score_joint_sets(labels, predicted, HANDS)
    assert (swapped.frames, swapped.frames_of) == (2, 4)


def test_names() -> None:
    np.testing.assert_array_equal(frame_index(["image_D00000007.png"]), [6])
    np.testing.assert_array_equal(frame_index(["frame\\images\\image_D00957032.png"]), [957031])
    assert frame_index(["image_D00000001.png", "test_seq_1/image_0000.png"]) is None


def test_what_cannot_be_written(tmp_path: Path) -> None:
    broken = XYZ.copy()
    broken[2, 5] = np.nan
    with pytest.raises(UserError, match=r"s\.txt.*1 frames.*frame 2"):
        write_submission(tmp_path / "s.txt", broken)
    assert not (tmp_path / "s.txt").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_submission(tmp_path / "file" / "s.txt", XYZ)
    with pytest.raises(ValueError, match="shape"):
        write_submission(tmp_path / "s.txt", XYZ[0])


def test_other_tracks_names_are_only_names(tmp_path: Path) -> None:
    uvd = np.random.default_rng(1).uniform(10, 200, (2, 16, 3))
    text = "\n".join(
        f"test_seq_1/image_{n:04d}.png " + " ".join(map(str, frame.ravel())) + " "
        for n, frame in enumerate(uvd)
    )
    (tmp_path / "labels.txt").write_text(text)
    joints: JointSet = read_joints(tmp_path / "labels.txt", get_track("icvl"))
    np.testing.assert_allclose(joints.joints_uvd, uvd)
    assert joints.index is None
