"""`a2j build`: what it ends with."""

import pytest

from a2j_jax import pictures
from tests.distributions import nyu


@pytest.fixture
def titles(monkeypatch):
    """What is written over the tiles of contact sheets."""
    found: list[str] = []
    draw = pictures.contact_sheet

    def contact_sheet(tiles, *rest, **more):  # type: ignore[no-untyped-def]
        found.extend(tile.title for tile in tiles)
        return draw(tiles, *rest, **more)

    monkeypatch.setattr(pictures, "contact_sheet", contact_sheet)
    return found


def test_the_contact_sheet_shows_every_split(a2j, tmp_path, titles):
    nyu.write(tmp_path / "raw", {"train": 20, "test": 9})
    words = ("--manual_dir", tmp_path / "raw", "--data_dir", tmp_path / "data", "--crop_size", 16)
    outcome = a2j("build", "nyu", *words)
    (sheet,) = tmp_path.glob("data/nyu/crop16/*/examples.png")
    assert outcome.err.splitlines()[-1] == f"examples to look at (train, test): {sheet}"
    assert len(titles) == 16 + 8
    assert [title.split(":")[0] for title in titles] == ["train"] * 16 + ["test"] * 8
    assert titles[0].endswith("depth_1_0000001.png")
    assert titles[-1].endswith("depth_1_0000009.png")
    assert max(map(len, titles)) <= 27


@pytest.mark.slow
def test_rendered_hands_get_one_too(a2j, tmp_path, titles):
    sizes = ("--train", 2, "--validation", 0, "--test", 1, "--crop_size", 16)
    a2j("build", "synthetic_hand", "--data_dir", tmp_path, *sizes)
    assert len(list(tmp_path.glob("synthetic_hand/crop16/*/examples.png"))) == 1
    assert titles == ["train: train/000000", "train: train/000001", "test: test/000000"]
