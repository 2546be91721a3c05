"""Examples of a split: where each lies, and what damage to a file costs."""

import pickle

import numpy as np
import pytest
from array_record.python import array_record_module

from a2j_jax.data import pipeline
from a2j_jax.data.pipeline import Examples, find_dataset
from tests import numbered_data
from tests.data.made_files import refusal

FIRST, SECOND = numbered_data.SHARDS
RECORD = ("flipped", "overwritten")  # damage to some of the records of a shard
WHOLE = ("cut", "emptied", "missing")


@pytest.fixture
def said(monkeypatch, logged):
    monkeypatch.setattr(pipeline, "_skipped", {})
    return logged


def opened(folder, split="train", on_bad_example="fail"):
    return Examples(find_dataset(folder, numbered_data.TRACK), split, on_bad_example)


def read_all(folder, split="train", on_bad_example="skip"):
    """Frames that stand in the rows of a split, and whether they are the rows' own."""
    source = opened(folder, split, on_bad_example)
    found, own = source.read(range(len(source)))
    return found["index"].tolist(), own.tolist()


def test_rows_are_positions_in_the_split(data_dir):
    assert read_all(data_dir) == (list(range(37)), [True] * 37)
    assert read_all(data_dir, "train[15:20]") == (list(range(15, 20)), [True] * 5)
    assert opened(data_dir, "train[15:20]")[4]["index"] == 19
    assert opened(data_dir, "test")[9]["index"] == 9


@pytest.mark.parametrize("how", RECORD)
def test_a_damaged_record_is_named_and_costs_nothing_else(data_dir, tmp_path, said, how):
    shard = numbered_data.copied(data_dir, tmp_path)[SECOND]
    numbered_data.damage(shard, how)
    found, own = read_all(tmp_path)
    bad = [row for row in range(37) if not own[row]]
    assert len(bad) == 1 if how == "flipped" else 1 < len(bad) < 19
    assert all((found[row] == row) == own[row] for row in range(37))
    assert not set(bad) & set(found)
    named = [f"{shard}, record {row - 18} (example {row} of split 'train')" for row in bad]
    assert sorted(line.split(": ")[1] for line in said) == sorted(named)
    assert said[-1].endswith(f"({len(bad)} skipped so far)")
    for row, name in zip(bad, named, strict=True):
        message = refusal(lambda row=row: opened(tmp_path).read([0, row]))
        assert message.startswith(f"{name}: cannot be read: ")
        assert "hash mismatch" in message
        assert f"delete {shard.parent} and build it again" in message
        assert "--on_bad_example=skip" in message


@pytest.mark.parametrize("how", WHOLE)
@pytest.mark.parametrize("which", [FIRST, SECOND])
def test_a_damaged_file_costs_its_own_examples(data_dir, tmp_path, said, how, which):
    shard = numbered_data.copied(data_dir, tmp_path)[which]
    numbered_data.damage(shard, how)
    rows = numbered_data.SHARDS[which]
    found, own = read_all(tmp_path)
    assert [row for row in range(37) if not own[row]] == list(rows)
    assert not set(rows) & set(found)
    # Substitutes differ, and do not depend on what is read with them.
    assert len({found[row] for row in rows}) > 9
    source = opened(tmp_path, on_bad_example="skip")
    assert [int(source.read([row])[0]["index"][0]) for row in range(37)] == found
    (line,) = said
    where = f"records 0 to {len(rows) - 1} (examples {rows[0]} to {rows[-1]} of split 'train')"
    why = "the file is missing" if how == "missing" else "cut off, or damaged at its end"
    assert line.startswith(f"skipped: {shard}, {where}: the file")
    assert why in line
    assert line.endswith(f" ({len(rows)} skipped so far)")
    if how == "missing":
        message = refusal(lambda: opened(tmp_path))  # at once
        assert message.startswith(f"{shard} is missing; delete {shard.parent} and build it again")
        assert len(opened(tmp_path, "test")) == 10
        kept = "train[18:]" if which == FIRST else "train[:18]"
        assert len(opened(tmp_path, kept)) == 37 - len(rows)
    else:
        message = refusal(lambda: opened(tmp_path)[rows[0]])
        assert message.startswith(f"{shard}, {where}: the file")
        other = 0 if rows[0] else 36
        assert opened(tmp_path)[other]["index"] == other


def test_positions_of_a_slice(data_dir, tmp_path, said):
    shards = numbered_data.copied(data_dir, tmp_path)
    numbered_data.damage(shards[SECOND], "flipped")
    (bad,) = (row for row, own in enumerate(read_all(tmp_path)[1]) if not own)
    assert f"record {bad - 18} (example {bad} of" in said[0]
    read_all(tmp_path, "train[20:]")
    assert f"record {bad - 18} (example {bad - 20} of split 'train[20:]')" in said[1]
    numbered_data.damage(shards[SECOND], "cut")
    read_all(tmp_path, "train[10:25]")
    assert "records 0 to 6 (examples 8 to 14 of split 'train[10:25]')" in said[2]


def test_a_shard_with_fewer_records_than_there_were(data_dir, tmp_path, said):
    shards = numbered_data.copied(data_dir, tmp_path)
    shards[SECOND].write_bytes(shards[FIRST].read_bytes())
    assert read_all(tmp_path)[1] == [True] * 36 + [False]
    assert f"{shards[SECOND]}, record 18 (example 36" in said[0]


def test_nothing_can_be_read(data_dir, tmp_path, said):
    for shard in numbered_data.copied(data_dir, tmp_path).values():
        numbered_data.damage(shard, "cut")
    for split, count in (("train", 37), ("train[:1]", 1)):
        message = refusal(lambda split=split: opened(tmp_path, split, "skip").read([0]))
        assert f"none of the {count} examples of split '{split}' can be read" in message
        assert len(said) == (2 if count > 1 else 3)


def test_running_out_of_memory_is_no_damage(data_dir, monkeypatch):
    def full(path):
        raise MemoryError

    monkeypatch.setattr(array_record_module, "ArrayRecordReader", full)
    with pytest.raises(MemoryError):
        opened(data_dir, on_bad_example="skip").read([0])


def test_examples_are_those_that_tfds_reads(data_dir):
    """Every value and dtype; in another process, too."""
    builder = find_dataset(data_dir, numbered_data.TRACK)
    source = pickle.loads(pickle.dumps(opened(data_dir)))
    found, _ = source.read(range(len(source)))
    for row, wanted in enumerate(builder.as_data_source(split="train")):
        assert found.keys() == wanted.keys() == source[row].keys()
        for name, value in wanted.items():
            assert (
                found[name].dtype == np.asarray(value, builder.info.features[name].np_dtype).dtype
            )
            np.testing.assert_array_equal(found[name][row], value)
            np.testing.assert_array_equal(source[row][name], value)
        assert type(source[row]["frame_id"]) is type(found["frame_id"][row]) is bytes
