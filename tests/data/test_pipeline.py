"""Batches: every frame, in an order that a seed and a step fix, resumed or not, shared or not."""

import itertools
import json
import multiprocessing
import sys
from contextlib import closing

import numpy as np
import pytest

from a2j_jax.data import pipeline
from a2j_jax.errors import UserError
from a2j_jax.tracks import get_track, with_crop_size
from tests import numbered_data
from tests.tfds_builders.numbered_frames import build_numbered

FRAMES, TRACK = numbered_data.TRAIN, numbered_data.TRACK
READABLE = numbered_data.SHARDS["00000-of-00002"]
DATA_SET = "synthetic_hand/crop16/1.0.0"


def train(folder, seed=0, share=(0, 1), **options):
    process, count = share
    options = {"process_index": process, "process_count": count, **options}
    return pipeline.train_batches(folder, TRACK, "train", 8, seed, **options)


def shares(folder, processes, **options):
    return [train(folder, share=(i, processes), **options) for i in range(processes)]


def indices(batches, count):
    return np.array([batch["index"] for batch in itertools.islice(batches, count)])


def together(several, count):
    """The next batches of all processes, of their shares in order."""
    found = [indices(batches, count) for batches in several]
    assert found[0].shape == (count, 8 // len(several))
    return np.concatenate(found, axis=1)


def counted(batches):
    """The frames that an evaluation counts."""
    return [i for batch in batches for i in batch["index"][batch["mask"]].tolist()]


@pytest.fixture
def half(data_dir, tmp_path):
    """The data set without the second half of its frames: that shard of "train" is cut off."""
    shards = numbered_data.copied(data_dir, tmp_path)
    numbered_data.damage(shards["00001-of-00002"], "cut")
    return tmp_path


def test_a_batch(data_dir):
    batch = next(train(data_dir))
    shapes = {name: (values.shape, values.dtype.name) for name, values in batch.items()}
    assert shapes == {
        "canvas": ((8, 20, 20), "uint16"),
        "joints_uvd": ((8, 21, 3), "float32"),
        "valid": ((8, 21), "bool"),
        "box_px": ((8, 4), "float64"),
        "window_px": ((8, 4), "float64"),
        "center_uvd": ((8, 3), "float32"),
        "camera": ((8, 4), "float32"),
        "index": ((8,), "int64"),
    }
    np.testing.assert_array_equal(batch["canvas"][:, 3, 5], 500 + batch["index"])
    np.testing.assert_array_equal(batch["joints_uvd"][:, 0, 0], batch["index"])
    assert "tensorflow" not in sys.modules


def test_every_epoch_is_another_permutation_of_all_frames(data_dir):
    drawn = indices(train(data_dir), 15)
    epochs = drawn.ravel()[: 3 * FRAMES].reshape(3, FRAMES)
    for epoch in epochs:
        assert sorted(epoch) == list(range(FRAMES))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    np.testing.assert_array_equal(indices(train(data_dir), 15), drawn)
    assert not np.array_equal(indices(train(data_dir, seed=1), 15), drawn)


@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 2), (2, 1), (4, 2)])
def test_a_resumed_run_sees_the_same_batches_on_any_number_of_processes(data_dir, before, after):
    alone, stopped = indices(train(data_dir), 12), shares(data_dir, before)
    np.testing.assert_array_equal(together(stopped, 7), alone[:7])
    # As a checkpoint stores it.
    states = [json.loads(json.dumps(batches.get_state())) for batches in stopped]
    assert all(state == states[0] for state in states)
    resumed = shares(data_dir, after)
    for batches in resumed:
        batches.set_state(states[0])
    np.testing.assert_array_equal(together(resumed, 5), alone[7:])


@pytest.mark.slow
def test_worker_processes_give_the_same_batches(data_dir, half, logged):
    alone, skip = list(itertools.islice(train(data_dir), 9)), {"on_bad_example": "skip"}
    with closing(train(half, workers=1, **skip)) as batches:
        substituted = indices(batches, 9)
    assert "-00001-of-" in logged[0]  # by this process
    np.testing.assert_array_equal(substituted, indices(train(half, **skip), 9))
    with closing(train(half, workers=1)) as batches, pytest.raises(UserError, match="-00001-of-"):
        indices(batches, 9)
    with closing(train(data_dir, workers=2)) as batches:
        found = [next(batches) for _ in range(4)]
        batches.set_state(json.loads(json.dumps(batches.get_state())))  # in the middle of an epoch
        found += [next(batches) for _ in range(5)]
        for batch, wanted in zip(found, alone, strict=True):
            assert batch.keys() == wanted.keys()
            for name, values in wanted.items():
                assert batch[name].dtype == values.dtype
                np.testing.assert_array_equal(batch[name], values)
        for child in multiprocessing.active_children():
            child.kill()
        with pytest.raises(UserError, match=r"that read examples ended: .*workers=0"):
            indices(batches, 99)


@pytest.mark.parametrize(("batch_size", "processes"), [(4, 1), (10, 1), (64, 1), (4, 2), (8, 4)])
def test_evaluation_visits_every_frame_once(data_dir, batch_size, processes):
    seen, where = [], (data_dir, TRACK, "test", batch_size)
    for i in range(processes):
        share = {"process_index": i, "process_count": processes}
        batches = list(pipeline.eval_batches(*where, **share))
        assert len(batches) == -(-10 // batch_size)
        for batch in batches:
            assert batch["canvas"].shape[0] == batch["mask"].shape[0] == batch_size // processes
        seen += counted(batches)
    assert sorted(seen) == list(range(10))


def test_number_of_frames_and_slices(data_dir):
    for split, frames in (("train", FRAMES), ("train[:10]", 10), ("train[30:]", FRAMES - 30)):
        assert pipeline.num_frames(data_dir, TRACK, split) == frames
    found = counted(pipeline.eval_batches(data_dir, TRACK, "train[30:]", 16))
    assert found == list(range(30, FRAMES))
    # The folder of one data set will do.
    assert pipeline.num_frames(data_dir / DATA_SET, TRACK, "test") == 10


def test_a_split_may_have_no_labels(data_dir, tmp_path):
    assert pipeline.has_labels(data_dir, TRACK, "train")
    build_numbered(tmp_path, train=8, mishaps={i: "unlabeled" for i in range(8) if i != 3})
    assert pipeline.has_labels(tmp_path, TRACK, "train")
    assert not pipeline.has_labels(tmp_path, TRACK, "train[4:]")


@pytest.mark.parametrize(
    ("folder", "track", "split", "message"),
    [
        ("nowhere", TRACK, "train", r"no data directory .*nowhere; build it: a2j build synth"),
        ("caf\udce9", TRACK, "train", "use another folder"),
        ("empty", TRACK, "train", "holds no data set of track 'synthetic_hand'"),
        ("file", TRACK, "train", "is a file; name the folder"),
        ("broken", TRACK, "train", "not a readable TFDS data set"),
        ("built", get_track("nyu"), "train", "no data set of track 'nyu'"),
        ("built", with_crop_size(TRACK, 96), "train", r"size 96: expected canvas \(120, 120\).*\(20, 20\)"),
        (f"built/{DATA_SET}", with_crop_size(get_track("nyu"), 16), "train",
         r"joints_uvd \(14, 3\); found .*joints_uvd \(21, 3\)"),
        ("built", TRACK, "validation", r"no split 'validation' \(splits: train, test\)"),
        ("built", TRACK, "train[", "train"),
        ("built", TRACK, "train[37:]", "is empty"),
    ],
)  # fmt: skip
def test_mistakes_get_one_clear_line(data_dir, tmp_path, folder, track, split, message):
    for name in ("built", "caf\udce9"):
        (tmp_path / name).symlink_to(data_dir)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "broken" / DATA_SET).mkdir(parents=True)
    (tmp_path / "broken" / DATA_SET / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match=message) as caught:
        pipeline.train_batches(tmp_path / folder, track, split, 8, seed=0)
    assert "\n" not in str(caught.value)


def test_a_batch_is_shared_evenly(data_dir):
    with pytest.raises(UserError, match="multiple of the number of processes, 3"):
        train(data_dir, share=(0, 3))


def test_a_damaged_shard_ends_the_batches_and_is_named(half):
    readers = (
        lambda: indices(train(half), 5),
        lambda: list(pipeline.eval_batches(half, TRACK, "train", 8)),
        lambda: pipeline.has_labels(half, TRACK, "train[18:]"),
        lambda: pipeline.example_reader(half, TRACK, "train")(20),
    )
    for read in readers:
        with pytest.raises(UserError, match=r"-00001-of-00002, records 0 to 18 \(examples"):
            read()
    assert pipeline.num_frames(half, TRACK, "train") == FRAMES
    assert pipeline.example_reader(half, TRACK, "train")(3)["index"] == 3


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_batches_without_a_damaged_shard(data_dir, half, processes):
    skip = {"on_bad_example": "skip"}
    assert pipeline.has_labels(half, TRACK, "train", **skip)
    whole, alone = indices(train(data_dir), 10), indices(train(half, **skip), 10)
    np.testing.assert_array_equal(together(shares(half, processes, **skip), 10), alone)
    kept = np.isin(whole, READABLE)
    np.testing.assert_array_equal(alone[kept], whole[kept])
    assert set(alone[~kept]) <= set(READABLE)

    evaluated = []
    for i in range(processes):
        share = {"process_index": i, "process_count": processes, **skip}
        batches = list(pipeline.eval_batches(half, TRACK, "train", 8, **share))
        assert {batch["canvas"].shape for batch in batches} == {(8 // processes, 20, 20)}
        evaluated += counted(batches)
    assert sorted(evaluated) == list(READABLE)


def test_evaluated_frames_are_found_behind_skipped_ones(data_dir, tmp_path):
    shards = numbered_data.copied(data_dir, tmp_path)
    numbered_data.damage(shards["00000-of-00002"], "flipped")
    numbered_data.damage(shards["00001-of-00002"], "overwritten")
    batches = pipeline.eval_batches(tmp_path, TRACK, "train", 8, on_bad_example="skip")
    evaluated = np.array(counted(batches))
    assert 20 < len(evaluated) < FRAMES - 1
    find = pipeline.example_reader(tmp_path, TRACK, "train", evaluated)
    assert [find(row)["index"] for row in range(len(evaluated))] == evaluated.tolist()
    find = pipeline.example_reader(data_dir, TRACK, "train", np.arange(FRAMES))
    assert find(FRAMES - 1)["index"] == FRAMES - 1
