"""Batches: every frame, in an order that a seed and a step fix, resumed or not, shared or not."""

import itertools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from a2j_jax import input_pipeline
from a2j_jax.errors import UserError
from a2j_jax.tracks import get_track, with_crop_size
from tfds_builders.build import prepare

TRACK = with_crop_size(get_track("synthetic_hand"), 16)
FRAMES = 37


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "tfds_builders"))
        from numbered_frames import NumberedFrames, SyntheticHand

        folder = tmp_path_factory.mktemp("data")
        prepare(SyntheticHand, TRACK, NumberedFrames(TRACK, train=FRAMES, test=10), folder)
    return folder


def indices(batches, count):
    return np.array([batch["index"] for batch in itertools.islice(batches, count)])


def test_a_batch(data_dir):
    batch = next(input_pipeline.train_batches(data_dir, TRACK, "train", 8, seed=0))
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
    batches = input_pipeline.train_batches(data_dir, TRACK, "train", 8, seed=0)
    drawn = indices(batches, 15).ravel()[: 3 * FRAMES].reshape(3, FRAMES)
    for epoch in drawn:
        assert sorted(epoch) == list(range(FRAMES))
    assert len({tuple(epoch) for epoch in drawn}) == 3


def test_batches_are_a_function_of_seed_and_step(data_dir):
    one, again, other = (
        indices(input_pipeline.train_batches(data_dir, TRACK, "train", 8, seed), 12)
        for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_resumed_run_sees_the_same_batches(data_dir):
    batches = input_pipeline.train_batches(data_dir, TRACK, "train", 8, seed=1)
    indices(batches, 7)
    state = json.loads(json.dumps(batches.get_state()))  # as a checkpoint stores it
    expected = indices(batches, 5)
    resumed = input_pipeline.train_batches(data_dir, TRACK, "train", 8, seed=1)
    resumed.set_state(state)
    np.testing.assert_array_equal(indices(resumed, 5), expected)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_same_global_batches(data_dir, processes):
    alone = indices(input_pipeline.train_batches(data_dir, TRACK, "train", 8, seed=2), 10)
    shares = [
        indices(
            input_pipeline.train_batches(
                data_dir, TRACK, "train", 8, 2, process_index=i, process_count=processes
            ),
            10,
        )
        for i in range(processes)
    ]
    assert shares[0].shape == (10, 8 // processes)
    np.testing.assert_array_equal(np.sort(np.concatenate(shares, 1)), np.sort(alone))


@pytest.mark.parametrize(("batch_size", "processes"), [(4, 1), (10, 1), (64, 1), (4, 2), (8, 4)])
def test_evaluation_visits_every_frame_once(data_dir, batch_size, processes):
    seen, lengths = [], set()
    for i in range(processes):
        batches = list(
            input_pipeline.eval_batches(
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
    assert input_pipeline.num_frames(data_dir, TRACK, "train") == FRAMES
    assert input_pipeline.num_frames(data_dir, TRACK, "train[:10]") == 10
    batch = next(input_pipeline.eval_batches(data_dir, TRACK, "train[30:]", 16))
    assert batch["index"][batch["mask"]].tolist() == list(range(30, FRAMES))


def test_a_split_may_have_no_labels(data_dir, monkeypatch):
    assert input_pipeline.has_labels(data_dir, TRACK, "train")
    read = input_pipeline._Source.read
    looked_at = []

    def unlabelled(source, rows):
        looked_at.extend(rows)
        return [{**row, "valid": np.zeros(21, bool)} for row in read(source, rows)]

    monkeypatch.setattr(input_pipeline._Source, "read", unlabelled)
    assert not input_pipeline.has_labels(data_dir, TRACK, "train", look_at=4)
    count = input_pipeline.num_frames(data_dir, TRACK, "train")
    assert looked_at == list(range(0, count, count // 4))


def test_the_folder_of_one_data_set_will_do(data_dir):
    folder = data_dir / "synthetic_hand" / "crop16" / "1.0.0"
    assert input_pipeline.num_frames(folder, TRACK, "test") == 10


def test_mistakes_get_one_clear_line(data_dir, tmp_path):
    def open_with(folder, track=TRACK, split="train"):
        return input_pipeline.train_batches(folder, track, split, 8, seed=0)

    with pytest.raises(UserError, match=r"no data directory .*nowhere; build it: a2j build synth"):
        open_with(tmp_path / "nowhere")
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
        input_pipeline.train_batches(
            data_dir, TRACK, "train", 8, 0, process_index=0, process_count=3
        )


def test_a_broken_data_set_is_named(tmp_path):
    folder = tmp_path / "synthetic_hand" / "crop16" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match="not a readable TFDS data set"):
        input_pipeline.num_frames(tmp_path, TRACK, "train")


def test_a_file_is_no_data_directory(tmp_path):
    (tmp_path / "data").write_text("mine")
    with pytest.raises(UserError, match="is a file; name the folder"):
        input_pipeline.num_frames(tmp_path / "data", TRACK, "train")


def damaged(content, how):
    """Bytes of a shard, cut off or partly overwritten."""
    if how == "emptied":
        return b""
    if how == "cut":
        return content[: len(content) // 2]
    noise = np.random.default_rng(0).bytes(2000)
    return noise + content[2000:]


@pytest.mark.parametrize("how", ["emptied", "cut", "overwritten"])
def test_damaged_files_are_named(data_dir, tmp_path, how):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    (shard,) = tmp_path.rglob("*train.array_record*")
    shard.write_bytes(damaged(shard.read_bytes(), how))
    readers = (
        lambda: next(input_pipeline.train_batches(tmp_path, TRACK, "train", 8, seed=0)),
        lambda: list(input_pipeline.eval_batches(tmp_path, TRACK, "train", 8)),
        lambda: input_pipeline.example_reader(tmp_path, TRACK, "train")(0),
    )
    for read in readers:
        with pytest.raises(UserError, match="data set is damaged") as caught:
            read()
        message = str(caught.value)
        assert f"delete {shard.parent} and build it again" in message
        assert "\n" not in message


def test_a_missing_file_is_found_out_at_once(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    (shard,) = tmp_path.rglob("*train.array_record*")
    shard.unlink()
    with pytest.raises(UserError, match=r"is missing: delete .* and build it again") as caught:
        input_pipeline.train_batches(tmp_path, TRACK, "train", 8, seed=0)
    assert str(shard) in str(caught.value)
    assert input_pipeline.num_frames(tmp_path, TRACK, "test") == 10
