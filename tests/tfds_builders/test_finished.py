"""Data sets that are there already: reused with what they lack, refused with what differs."""

import dataclasses
import re

import numpy as np
import pytest

from a2j_jax.errors import UserError
from a2j_jax.tracks import get_track, with_crop_size
from tests.distributions import nyu
from tests.tfds_builders.test_build import build_numbered
from tfds_builders.build import How, build_raw, prepare
from tfds_builders.crop_plan import plan_crops
from tfds_builders.raw_files import RawSplit
from tfds_builders.reader import RawReader
from tfds_builders.summary import differences

NYU = with_crop_size(get_track("nyu"), 16)


@pytest.mark.usefixtures("importable")
def test_frames_left_out_are_said_again_when_reused(tmp_path, capsys):
    folder = build_numbered(tmp_path, train=6, test=5, broken=(3, 5))
    for _ in range(2):
        capsys.readouterr()
        build_numbered(tmp_path, train=6, test=5, broken=(3, 5))
        assert capsys.readouterr().err.splitlines() == [
            f"{folder} is built already; nothing to do",
            *(
                f"warning: {text} (is broken): left out when it was built; once fixed, "
                f"delete {folder} to build it again"
                for text in ("2 frames of train", "1 frame of test")
            ),
        ]


@pytest.mark.usefixtures("importable")
def test_more_shards_are_not_made_in_silence(tmp_path, capsys):
    build_numbered(tmp_path, how=How(num_shards=3), train=6)
    capsys.readouterr()
    build_numbered(tmp_path, how=How(num_shards=3), train=6)
    assert "--num_shards" not in capsys.readouterr().err
    build_numbered(tmp_path, how=How(num_shards=2), train=6)
    said = capsys.readouterr().err
    assert "warning: --num_shards 2 changes nothing, it has 3 shards of train; delete" in said


def test_strict_does_not_accept_what_was_built_without_it(tmp_path):
    nyu.write(tmp_path / "raw", {"train": 4})
    missing = tmp_path / "raw" / "dataset" / "train" / "depth_1_0000003.png"
    frame = missing.read_bytes()
    missing.unlink()

    def build(**options):
        return build_raw("nyu", tmp_path / "raw", tmp_path / "data", crop_size=16, **options)

    folder = build()
    missing.write_bytes(frame)
    with pytest.raises(UserError) as refused:
        build(strict=True)
    assert re.search(
        rf"was built without 1 frame of train \(.*\) \(--strict\); delete {folder}",
        str(refused.value),
    )
    assert build() == folder


def reader_of(frames=8, labels=0.0, centers=None, track=NYU, **options):
    joints = np.full((10, 14, 3), 300.0, np.float32) + np.float32(labels)
    split = RawSplit([f"{i}.png" for i in range(10)], range(10), joints)
    splits = {"train": split, "test": split}
    plans = {name: plan_crops(track, name, split, centers) for name in splits}
    return RawReader(track, NoDistribution(options), splits, plans, frames)


@dataclasses.dataclass(frozen=True)
class NoDistribution:
    """Has options, and no frames."""

    options: dict

    def spec(self):
        return self.options


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"frames": 3}, ["frames train: 8 there, 3 wanted", "frames test: 8 there, 3 wanted"]),
        ({"centers": "labels"}, ["crops of split test differ"]),
        (
            {"labels": 1.0},
            [
                "labels of split train differ",
                "crops of split train differ",
                "labels of split test differ",
            ],
        ),
        ({"view": 2}, ["distribution view: 1 there, 2 wanted"]),
        ({"more": [1, 2]}, ["distribution more: nothing there, [1, 2] wanted"]),
    ],
)
def test_only_what_differs_is_named(changes, said):
    there, wanted = reader_of(view=1).spec(), reader_of(**{"view": 1, **changes}).spec()
    assert differences(there, wanted) == said
    assert differences(there, there) == []


def test_of_long_values_only_the_parts_that_differ():
    other = dataclasses.replace(NYU, half_window_mm=90.0)
    one, two = ({"distribution": {"track": repr(track)}} for track in (NYU, other))
    (said,) = differences(one, two)
    assert re.fullmatch(
        r"distribution track: half_window_mm=\d+\.0 there, half_window_mm=90\.0 wanted", said
    )
    (said,) = differences({"x": "a" * 3000}, {"x": "b" * 3000})
    assert len(said) < 200


@pytest.mark.usefixtures("importable")
def test_a_refusal_names_the_folder_and_the_way_out(tmp_path):
    from numbered_frames import NumberedFrames, SyntheticHand

    folder = build_numbered(tmp_path, train=4)
    track = with_crop_size(get_track("synthetic_hand"), 16)
    with pytest.raises(UserError) as refused:
        prepare(SyntheticHand, track, NumberedFrames(track, train=4, test=1), tmp_path)
    assert str(refused.value) == (
        f"{folder} holds another data set (frames test: 0 there, 1 wanted); delete that folder to build "
        "it again, or name another --data_dir"
    )
