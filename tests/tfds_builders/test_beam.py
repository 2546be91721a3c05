"""The Beam path writes what the plain one does, on Beam's local runner."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from a2j_jax.errors import UserError
from tests.tfds_builders.numbered_frames import TRACK, NumberedFrames, build_numbered
from tfds_builders.base import DepthPoseConfig, _keyed_examples, builder_named
from tfds_builders.build import How
from tfds_builders.shards import Skipped


@pytest.mark.filterwarnings("ignore")  # Beam's own
def test_beam_writes_the_same_examples_in_the_same_order(tmp_path):
    pytest.importorskip("apache_beam", reason="needs the extra a2j-jax[beam]")
    frames = {"train": 600, "test": 3, "broken": (0, 7, 599)}
    plain = build_numbered(tmp_path / "plain", How(num_shards=3), **frames)
    beam = build_numbered(tmp_path / "beam", How(1, 3, beam_options=""), **frames)
    ours, theirs = (tfds.builder_from_directory(folder) for folder in (plain, beam))
    assert ours.info.metadata == theirs.info.metadata
    assert (plain / "skipped.tsv").read_text() == (beam / "skipped.tsv").read_text()
    for split, count in {"train": 597, "test": 2}.items():
        one, other = (builder.as_data_source(split=split) for builder in (ours, theirs))
        assert len(one) == len(other) == count
        for a, b in zip(one, other, strict=True):
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("spread", [1, 10])
def test_examples_are_in_order_whatever_their_numbers_and_missing_frames_are_found(
    tmp_path, spread
):
    """`index` is the number in a frame's name, where it has one: not always its position."""

    class Spread(NumberedFrames):
        def read(self, split, indices):
            for outcome in super().read(split, indices):
                if not isinstance(outcome, Skipped):
                    outcome["index"] *= spread
                yield outcome

    reader = Spread(TRACK, train=6, broken=(1, 4))
    keyed = list(_keyed_examples((2, reader.job("train", range(2, 6)))))
    assert [key for key, _ in keyed] == [2, 3, 5]
    assert [example["index"] for _, example in keyed] == [2 * spread, 3 * spread, 5 * spread]
    config = DepthPoseConfig(track=TRACK, reader=reader)
    builder = builder_named("synthetic_hand")(data_dir=tmp_path, config=config)
    left_out = builder._left_out("train", 6, {0, 2 * spread, 3 * spread, 5 * spread})
    assert [skipped.frame_id for skipped in left_out] == ["train/1", "train/4"]


def test_without_beam_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "apache_beam.options.pipeline_options", None)
    with pytest.raises(UserError, match=r"needs Apache Beam: pip install 'a2j-jax\[beam\]'"):
        build_numbered(tmp_path, How(beam_options=""))
