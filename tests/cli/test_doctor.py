"""`a2j doctor`: a table, a picture, and one line for what is no frame."""

import numpy as np
import pytest
from PIL import Image

from tests.inference.test_hands import disk

CAMERA = "300,300,160,120"


@pytest.fixture
def frame(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray((disk(200) * 8).astype(np.uint16)).save("frame.png")
    Image.fromarray(np.full((240, 320), 90, np.uint8)).save("8bit.png")
    np.save("color.npy", np.ones((240, 320, 3), np.uint16))
    return tmp_path / "frame.png"


def test_a_table_and_a_picture(a2j, checkpoints, frame, tmp_path):
    line = ["doctor", frame, "--model", checkpoints / "synthetic_hand", "--camera", CAMERA]
    outcome = a2j(*line)
    assert "guessed" in outcome.out
    assert "0.125 (SR300, SR305: 0.6 m)" in " ".join(outcome.out.split())
    with Image.open(tmp_path / "doctor.png") as picture:
        assert picture.width > 1000


def test_one_frame_of_many(a2j, refused, disks, frame, tmp_path):
    """Of a recording or a folder, the first one by default, and all hands in it."""
    two = np.minimum(disk(80), disk(250, depth=620))
    np.save(tmp_path / "clip.npy", np.array([disk(200), two, disk(200)], np.uint16))
    line = f"doctor clip.npy --camera {CAMERA} --out new.png"
    outcome = a2j(line)
    assert "clip.npy#0: one of 3 frames; another one: --frame N" in outcome.err
    assert "more than" not in outcome.out
    outcome = a2j(f"{line} --frame 1")
    assert "clip.npy#1" in "".join(outcome.out.split())
    assert "more than 1" in outcome.out
    outcome = a2j(f"{line} --frame 1 --hands 2")
    assert "hand 1: place" in outcome.out
    assert "frame 3: expected 0 to 2" in refused(f"{line} --frame 3")
    for other in ("8bit.png", "color.npy", "new.png"):
        (tmp_path / other).unlink()
    folder = f"doctor {tmp_path} --camera {CAMERA} --out new.svg --frame"
    said = "".join(a2j(f"{folder} 2").out.split())  # a long path is wrapped in the table's title
    assert "clip.npy#2" in said
    assert "frame.png" in "".join(a2j(f"{folder} 3").out.split())
    (tmp_path / "clip.npy").write_bytes((tmp_path / "clip.npy").read_bytes()[:-9])
    assert "clip.npy#2: truncated" in refused(f"{line} --frame 2")
    assert "frame 1: expected 0 to 0" in refused(f"doctor frame.png --camera {CAMERA} --frame 1")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("doctor frame.png", "--camera FX,FY,CX,CY"),
        ("doctor missing.png --camera 300,300,160,120", "missing.png"),
        ("doctor frame.png --camera 300,300,160", "FX,FY,CX,CY"),
        (
            "doctor color.npy --camera 300,300,160,120",
            "color.npy: has the shape of a color picture",
        ),
        (
            "doctor 8bit.png --camera 300,300,160,120",
            "8bit.png: is an 8-bit gray PNG",
        ),
        ("doctor frame.png --camera 300,300,160,120 --model nothing", "nothing"),
        ("doctor frame.png --camera 300,300,160,120 --out frame.png", "frame.png"),
    ],
)
def test_mistakes(refused, frame, line, said):
    assert said in refused(line)
