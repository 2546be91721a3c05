"""Everything takes part in every round, each with its own network, batch and crops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from a2j_jax.models.a2j import A2J
from a2j_jax.tools import speed
from a2j_jax.tools.speed import FRAMES_ON_DISK, Network, machine, measure, usable_cores
from a2j_jax.tools.timing import Images, parameters, random_variables
from a2j_jax.tracks import get_track, with_crop_size
from tests import tiny
from tests.speed import plain_frames

TRACK = with_crop_size(get_track("nyu"), tiny.SIZE)
ROUNDS = 2
Seen = list[tuple[str, int]]


def network(name: str, **changed: Any) -> Network:
    model = A2J(14, backbone="resnet18", width=8, head_features=8, head_depth=1, **changed)
    return Network(name, model, random_variables(model, TRACK))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What networks were given, in order, instead of computing: (name, frames)."""
    calls: Seen = []

    def forward_of(model: A2J, variables: Any, track: object, batch_size: int) -> Any:
        def forward(images: Images) -> None:
            assert images.shape == (batch_size, tiny.SIZE, tiny.SIZE, 1)
            assert np.isfinite(images).all()
            calls.append(("one branch" if model.one_branch else "a2j", len(images)))

        return forward

    monkeypatch.setattr(speed, "forward_of", forward_of)
    monkeypatch.setattr(speed, "write_frames", plain_frames.write_frames)
    return calls


def test_every_network_at_every_batch_size(seen: Seen) -> None:
    networks = [network("full"), network("one branch", one_branch=True)]
    found = measure(networks, TRACK, (1, 6), ROUNDS)
    assert [(row.network, row.batch_size) for row in found.rows] == [
        ("full", 1),
        ("full", 6),
        ("one branch", 1),
        ("one branch", 6),
    ]
    assert len({row.flops for row in found.rows}) == 2
    assert [row.parameters for row in found.rows[::2]] == [
        parameters(one.variables) for one in networks
    ]
    for row in found.rows:
        assert len(row.forward.milliseconds) == ROUNDS
        assert row.official is None
    assert len(found.read_and_warp.milliseconds) == ROUNDS
    one_round = [("a2j", 1), ("a2j", 6), ("one branch", 1), ("one branch", 6)]
    assert one_round in (seen[:4], seen[:4][::-1])
    assert len(seen) % len(one_round) == 0


def test_the_official_network_is_timed_where_there_is_one(seen: Seen) -> None:
    made: list[int] = []

    def official_of(model: A2J, variables: Any, crop_size: int) -> Callable[[Images], None]:
        made.append(crop_size)
        return lambda images: seen.append(("official", len(images)))

    networks = [network("full"), network("no proposals", proposals=False)]
    full, other = measure(networks, TRACK, (3,), ROUNDS, official_of).rows
    assert made == [tiny.SIZE]  # the other network of Table 7 is none of the official program's
    assert full.official is not None
    assert len(full.official.milliseconds) == ROUNDS
    assert other.official is None
    assert ("official", 3) in seen


def test_what_is_read_is_counted_by_frame(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[Any, int] = {}

    def take_turns(calls: Any, rounds: int, **_: Any) -> Any:
        taken.update({key.program: call.frames for key, call in calls.items()})
        raise InterruptedError

    monkeypatch.setattr(speed, "take_turns", take_turns)
    with pytest.raises(InterruptedError):
        measure([network("full")], TRACK, (5,), ROUNDS)
    assert taken == {"read and warp": FRAMES_ON_DISK, "ours": 5}


def test_the_machine_is_named() -> None:
    facts = machine()
    assert "cpu" in facts["device"]
    assert facts["threads"].startswith(str(usable_cores()))
    for name in ("a2j_jax", "jax", "jaxlib", "numpy", "Python"):
        assert f"{name} " in facts["versions"]
