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
    return tmp_path / "frame.png"


def test_a_table_and_a_picture(a2j, checkpoints, frame, tmp_path):
    line = ["doctor", frame, "--model", checkpoints / "synthetic_hand", "--camera", CAMERA]
    outcome = a2j(*line)
    assert "guessed" in outcome.out
    assert "0.125 (SR300, SR305: 0.6 m)" in " ".join(outcome.out.split())
    with Image.open(tmp_path / "doctor.png") as picture:
        assert picture.width > 1000


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("doctor frame.png", "--camera FX,FY,CX,CY"),
        ("doctor missing.png --camera 300,300,160,120", "missing.png"),
        ("doctor frame.png --camera 300,300,160", "FX,FY,CX,CY"),
        ("doctor frame.png --camera 300,300,160,120 --model nothing", "nothing"),
        ("doctor frame.png --camera 300,300,160,120 --out frame.png", "frame.png"),
    ],
)
def test_mistakes(refused, frame, line, said):
    assert said in refused(line)
