"""The Beam path writes what the plain one does, on Beam's local runner."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from a2j_jax.errors import UserError
from a2j_jax.tracks import get_track, with_crop_size
from tfds_builders.build import How, prepare

TRACK = with_crop_size(get_track("synthetic_hand"), 16)
pytestmark = pytest.mark.usefixtures("importable")


@pytest.mark.filterwarnings("ignore")  # Beam's own
def test_beam_writes_the_same_examples_in_the_same_order(tmp_path):
    pytest.importorskip("apache_beam", reason="needs the extra a2j-jax[beam]")
    from numbered_frames import NumberedFrames, SyntheticHand

    reader = NumberedFrames(TRACK, train=600, test=3, broken=(0, 7, 599))
    plain = prepare(SyntheticHand, TRACK, reader, tmp_path / "plain", How(num_shards=3))
    beam = prepare(SyntheticHand, TRACK, reader, tmp_path / "beam", How(1, 3, beam_options=""))
    ours, theirs = (tfds.builder_from_directory(folder) for folder in (plain, beam))
    assert ours.info.metadata == theirs.info.metadata
    assert (plain / "skipped.tsv").read_text() == (beam / "skipped.tsv").read_text()
    for split, count in {"train": 597, "test": 2}.items():
        one, other = (builder.as_data_source(split=split) for builder in (ours, theirs))
        assert len(one) == len(other) == count
        for a, b in zip(one, other, strict=True):
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])


def test_without_beam_the_extra_is_named(tmp_path, monkeypatch):
    from numbered_frames import NumberedFrames, SyntheticHand

    monkeypatch.setitem(__import__("sys").modules, "apache_beam.options.pipeline_options", None)
    with pytest.raises(UserError, match=r"needs Apache Beam: pip install 'a2j-jax\[beam\]'"):
        prepare(SyntheticHand, TRACK, NumberedFrames(TRACK), tmp_path, How(beam_options=""))
