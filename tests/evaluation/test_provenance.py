"""What a data set's metadata say, and what is left out where they do not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from a2j_jax.data import pipeline
from a2j_jax.evaluation.provenance import closing_facts, dataset_facts
from a2j_jax.runs.experiment import resolve
from a2j_jax.tracks import get_track
from tests import tiny

NYU, ITOP = get_track("nyu"), get_track("itop_front")


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch):
    def of(metadata: Any, track=NYU, split: str = "test") -> dict[str, str]:
        stored = SimpleNamespace(data_path="data/nyu", info=SimpleNamespace(metadata=metadata))
        monkeypatch.setattr(pipeline, "find_dataset", lambda *_: stored)
        return dict(dataset_facts("data", track, split))

    return of


def test_the_centres_and_their_source(facts) -> None:
    centers = {"test": {"nyu_center_test.mat": 8000, "depth": 252}, "train": {"labels": 5}}
    metadata = {
        "provenance": {"centers": centers, "notes": {"test": ["two files are missing"]}},
        "skipped": {"test": {"truncated": 2}},
        "statistics": {"mean": -0.66877, "std": 28.3296},
    }
    assert facts(metadata) == {
        "data set": "data/nyu",
        "split": "test",
        "centers from": "nyu_center_test.mat (8,000 frames), depth (252 frames)",
        "left out": "truncated (2 frames)",
        "note": "two files are missing",
        "training crops": "mean -0.6688, std 28.3296",
    }
    assert facts(metadata, split="train[:50%]")["centers from"] == "labels (5 frames)"
    assert "boxes from" in facts(metadata, ITOP)


@pytest.mark.parametrize("metadata", [None, {}, {"spec": {}}, {"provenance": None, "skipped": 3}])
def test_older_data_sets_say_less(facts, metadata: Any) -> None:
    assert facts(metadata) == {"data set": "data/nyu", "split": "test"}


def test_a_real_one(tiny_data: Path) -> None:
    track = resolve(tiny.config()).track
    found = dict(dataset_facts(tiny_data, track, "test"))
    assert Path(found["data set"]).is_dir()


def test_the_track_tells_its_notes() -> None:
    text = " ".join(text for _, text in closing_facts(NYU))
    assert "Tompson" in text
    assert "14 of the 36 joints" in text
