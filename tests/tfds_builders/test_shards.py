"""Several processes: how far they are, split by split."""

import pytest

from a2j_jax.tracks import get_track, with_crop_size
from tfds_builders.shards import shard_ranges, worker_pool, write_shards

TRACK = with_crop_size(get_track("synthetic_hand"), 16)


def test_shards_are_even_and_never_empty():
    assert shard_ranges(10, 3) == [range(3), range(3, 7), range(7, 10)]
    assert shard_ranges(2, 5) == [range(1), range(1, 2)]
    assert len(shard_ranges(10_000, None)) == 3


@pytest.mark.usefixtures("importable")
def test_progress_of_every_split_starts_at_zero(tmp_path):
    from numbered_frames import NumberedFrames

    reader = NumberedFrames(TRACK, train=30, test=20)
    with worker_pool(2) as workers:
        for split, frames in reader.frames().items():
            counted = []
            ranges = shard_ranges(frames, 2)
            jobs = [reader.job(split, indices) for indices in ranges]
            paths = [str(tmp_path / f"{split}{i}") for i in range(len(jobs))]
            write_shards(jobs, paths, TRACK, workers, counted.append)
            assert sum(counted) == frames
