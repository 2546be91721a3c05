"""Batches: every frame, in an order that a seed and a step fix, resumed or not, shared or not."""

import itertools
import json
import sys

import numpy as np
import pytest

from a2j_jax.data import pipeline
from a2j_jax.data.examples import Examples
from a2j_jax.errors import UserError
from a2j_jax.tracks import get_track, with_crop_size
from tests import numbered_data

FRAMES, TRACK = numbered_data.TRAIN, numbered_data.TRACK


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return numbered_data.build(tmp_path_factory.mktemp("data"))


def indices(batches, count):
    return np.array([batch["index"] for batch in itertools.islice(batches, count)])


def test_a_batch(data_dir):
    batch = next(pipeline.train_batches(data_dir, TRACK, "train", 8, seed=0))
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
    batches = pipeline.train_batches(data_dir, TRACK, "train", 8, seed=0)
    drawn = indices(batches, 15).ravel()[: 3 * FRAMES].reshape(3, FRAMES)
    for epoch in drawn:
        assert sorted(epoch) == list(range(FRAMES))
    assert len({tuple(epoch) for epoch in drawn}) == 3


def test_batches_are_a_function_of_seed_and_step(data_dir):
    one, again, other = (
        indices(pipeline.train_batches(data_dir, TRACK, "train", 8, seed), 12) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_resumed_run_sees_the_same_batches(data_dir):
    batches = pipeline.train_batches(data_dir, TRACK, "train", 8, seed=1)
    indices(batches, 7)
    state = json.loads(json.dumps(batches.get_state()))  # as a checkpoint stores it
    expected = indices(batches, 5)
    resumed = pipeline.train_batches(data_dir, TRACK, "train", 8, seed=1)
    resumed.set_state(state)
    np.testing.assert_array_equal(indices(resumed, 5), expected)


@pytest.mark.parametrize("processes", [2, 4])
def test_the_shares_of_all_processes_in_order_are_the_batch(data_dir, processes):
    alone = indices(pipeline.train_batches(data_dir, TRACK, "train", 8, seed=2), 10)
    shares = [
        indices(
            pipeline.train_batches(
                data_dir, TRACK, "train", 8, 2, process_index=i, process_count=processes
            ),
            10,
        )
        for i in range(processes)
    ]
    assert shares[0].shape == (10, 8 // processes)
    np.testing.assert_array_equal(np.concatenate(shares, 1), alone)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (4, 2)])
def test_a_run_goes_on_with_another_number_of_processes(data_dir, before, after):
    def shares(processes):
        return [
            pipeline.train_batches(
                data_dir, TRACK, "train", 8, 1, process_index=i, process_count=processes
            )
            for i in range(processes)
        ]

    stopped = shares(before)
    for batches in stopped:
        indices(batches, 7)
    states = [batches.get_state() for batches in stopped]
    assert all(state == states[0] for state in states)
    resumed = shares(after)
    for batches in resumed:
        batches.set_state(states[0])
    alone = indices(shares(1)[0], 12)[7:]
    np.testing.assert_array_equal(
        np.concatenate([indices(batches, 5) for batches in resumed], 1), alone
    )


@pytest.mark.parametrize(("batch_size", "processes"), [(4, 1), (10, 1), (64, 1), (4, 2), (8, 4)])
def test_evaluation_visits_every_frame_once(data_dir, batch_size, processes):
    seen, lengths = [], set()
    for i in range(processes):
        batches = list(
            pipeline.eval_batches(
                data_dir, TRACK, "test", batch_size, process_index=i, process_count=processes
            )
        )
        lengths.add(len(batches))
        for batch in batches:
            assert batch["canvas"].shape[0] == batch["mask"].shape[0] == batch_size // processes
            seen += batch["index"][batch["mask"]].tolist()
    assert sorted(seen) == list(range(10))
    assert lengths == {-(-10 // batch_size)}


def test_number_of_frames_and_slices(data_dir):
    assert pipeline.num_frames(data_dir, TRACK, "train") == FRAMES
    assert pipeline.num_frames(data_dir, TRACK, "train[:10]") == 10
    batch = next(pipeline.eval_batches(data_dir, TRACK, "train[30:]", 16))
    assert batch["index"][batch["mask"]].tolist() == list(range(30, FRAMES))


def test_a_split_may_have_no_labels(data_dir, monkeypatch):
    assert pipeline.has_labels(data_dir, TRACK, "train")
    read = Examples.read
    looked_at = []

    def unlabelled(examples, rows):
        looked_at.extend(rows)
        found, own = read(examples, rows)
        return [{**example, "valid": np.zeros(21, bool)} for example in found], own

    monkeypatch.setattr(Examples, "read", unlabelled)
    assert not pipeline.has_labels(data_dir, TRACK, "train", look_at=4)
    count = pipeline.num_frames(data_dir, TRACK, "train")
    assert looked_at == list(range(0, count, count // 4))


def test_the_folder_of_one_data_set_will_do(data_dir):
    folder = data_dir / "synthetic_hand" / "crop16" / "1.0.0"
    assert pipeline.num_frames(folder, TRACK, "test") == 10


def test_mistakes_get_one_clear_line(data_dir, tmp_path):
    def open_with(folder, track=TRACK, split="train"):
        return pipeline.train_batches(folder, track, split, 8, seed=0)

    with pytest.raises(UserError, match=r"no data directory .*nowhere; build it: a2j build synth"):
        open_with(tmp_path / "nowhere")
    (tmp_path / "caf\udce9").symlink_to(data_dir)
    with pytest.raises(UserError, match="use another folder"):
        open_with(tmp_path / "caf\udce9")
    (tmp_path / "caf\udce9").unlink()
    with pytest.raises(UserError, match="holds no data set of track 'synthetic_hand'"):
        open_with(tmp_path)
    with pytest.raises(UserError, match="no data set of track 'nyu'"):
        open_with(data_dir, get_track("nyu"))
    with pytest.raises(UserError, match=r"crop size 96: expected canvas \(120, 120\).*\(20, 20\)"):
        open_with(data_dir, with_crop_size(TRACK, 96))
    with pytest.raises(UserError, match=r"joints_uvd \(14, 3\); found .*joints_uvd \(21, 3\)"):
        open_with(data_dir / "synthetic_hand/crop16/1.0.0", with_crop_size(get_track("nyu"), 16))
    with pytest.raises(UserError, match=r"no split 'validation' \(splits: train, test\)"):
        open_with(data_dir, split="validation")
    with pytest.raises(UserError, match="train"):
        open_with(data_dir, split="train[")
    with pytest.raises(UserError, match="is empty"):
        open_with(data_dir, split="train[37:]")
    with pytest.raises(UserError, match="multiple of the number of processes, 3"):
        pipeline.train_batches(data_dir, TRACK, "train", 8, 0, process_index=0, process_count=3)


def test_a_broken_data_set_is_named(tmp_path):
    folder = tmp_path / "synthetic_hand" / "crop16" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match="not a readable TFDS data set"):
        pipeline.num_frames(tmp_path, TRACK, "train")


def test_a_file_is_no_data_directory(tmp_path):
    (tmp_path / "data").write_text("mine")
    with pytest.raises(UserError, match="is a file; name the folder"):
        pipeline.num_frames(tmp_path / "data", TRACK, "train")


@pytest.fixture
def half(data_dir, tmp_path):
    """The data set without the second half of its frames: that shard of "train" is cut off."""
    shards = numbered_data.copied(data_dir, tmp_path)
    numbered_data.damage(shards["00001-of-00002"], "cut")
    return tmp_path


READABLE = numbered_data.SHARDS["00000-of-00002"]


def test_a_damaged_shard_ends_the_batches_and_is_named(half):
    readers = (
        lambda: next(pipeline.train_batches(half, TRACK, "train", FRAMES - 1, seed=0)),
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
def test_training_without_a_damaged_shard(data_dir, half, processes):
    def batches(folder, **process):
        made = pipeline.train_batches(
            folder, TRACK, "train", 8, 3, on_bad_example="skip", **process
        )
        return indices(made, 10)

    whole, alone = batches(data_dir), batches(half)
    shares = [batches(half, process_index=i, process_count=processes) for i in range(processes)]
    np.testing.assert_array_equal(np.concatenate(shares, 1), alone)
    kept = np.isin(whole, READABLE)
    np.testing.assert_array_equal(alone[kept], whole[kept])
    assert set(alone[~kept]) <= set(READABLE)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_evaluation_without_a_damaged_shard(half, processes):
    counted = []
    for i in range(processes):
        batches = pipeline.eval_batches(
            half,
            TRACK,
            "train",
            8,
            on_bad_example="skip",
            process_index=i,
            process_count=processes,
        )
        for batch in batches:
            assert batch["canvas"].shape == (8 // processes, 20, 20)
            counted += batch["index"][batch["mask"]].tolist()
    assert sorted(counted) == list(READABLE)


def test_labels_are_looked_for_where_examples_can_be_read(half):
    assert pipeline.has_labels(half, TRACK, "train", look_at=2, on_bad_example="skip")


def test_evaluated_frames_are_found_behind_skipped_ones(data_dir, tmp_path):
    shards = numbered_data.copied(data_dir, tmp_path)
    numbered_data.damage(shards["00000-of-00002"], "flipped")
    numbered_data.damage(shards["00001-of-00002"], "overwritten")
    batches = pipeline.eval_batches(tmp_path, TRACK, "train", 8, on_bad_example="skip")
    evaluated = np.concatenate([batch["index"][batch["mask"]] for batch in batches])
    assert 20 < len(evaluated) < FRAMES - 1
    find = pipeline.example_reader(tmp_path, TRACK, "train", evaluated)
    assert [find(row)["index"] for row in range(len(evaluated))] == evaluated.tolist()
    find = pipeline.example_reader(data_dir, TRACK, "train", np.arange(FRAMES))
    assert find(FRAMES - 1)["index"] == FRAMES - 1
