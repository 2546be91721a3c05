"""Rows of the paper's tables: each differs from its base by the one thing that matters."""

from operator import attrgetter
from typing import Any

import pytest

from a2j_jax.config import Config, keys, override
from a2j_jax.config_files import load_config
from a2j_jax.evaluation.tables import TABLES, rows_of
from a2j_jax.tools.reproduce import BUDGETS, base_config
from a2j_jax.tracks import TRACKS

DIFFERENCES: dict[str, dict[str, Any]] = {
    "table7/no_proposals": {"model.proposals": False},
    "table7/no_surrounding_loss": {"loss.surrounding": False},
    "table7/one_branch": {"model.one_branch": True},
    "table8/global_regression": {"parts": "a2j_jax.baselines:global_regression"},
    "table8/heat_maps": {"parts": "a2j_jax.baselines:heat_maps"},
    "table9/from_scratch": {"model.init_from": None},
    "table9/imagenet": {},
    **{
        f"table10/{name}": {
            "model.backbone": name,
            "model.init_from": f"weights/{name}.safetensors",
        }
        for name in ("resnet18", "resnet34")
    },
    "table10/resnet50": {},
}


def differences(one, other):
    """Values of `one` that `other` has otherwise, the name left out."""
    values = {key.name: [attrgetter(key.name)(config) for config in (one, other)] for key in keys()}
    return {key: x for key, (x, y) in values.items() if x != y and key != "name"}


@pytest.mark.parametrize("base", ["nyu", "itop_front"])
@pytest.mark.parametrize("row", list(DIFFERENCES))
def test_a_row_differs_from_its_base_by_what_matters(row, base):
    config = load_config(row, load_config(base))
    assert differences(config, load_config(base)) == DIFFERENCES[row]
    assert config.name == f"{base}-{row.rpartition('/')[2]}"


def test_rows_of_tables_are_configs():
    rows = {row.config for table in TABLES.values() for row in table.rows} - {None}
    assert rows == set(DIFFERENCES)
    for row in (row for table in TABLES.values() for row in table.rows if row.config):
        assert row.differs is None or row.differs in DIFFERENCES[str(row.config)].items()
    for row in rows:
        assert load_config(str(row)).track in ("nyu", "k2hpd")  # by itself


def test_rows_from_random_weights_stay_there():
    """A base that starts from nothing has nothing of ImageNet's in Table 10, and Table 9 is what adds it."""
    base = load_config("synthetic_hand")
    assert base.model.init_from is None
    assert load_config("table10/resnet18", base).model.init_from is None
    assert load_config("table9/imagenet", base).model.init_from == "weights/resnet50.safetensors"


@pytest.mark.parametrize("track", sorted({data for t in TABLES.values() for data in t.data}))
@pytest.mark.parametrize("budget", list(BUDGETS))
def test_every_data_set_has_a_base_for_every_budget(track, budget):
    config = base_config(track, budget)
    assert config.track == track in TRACKS
    if budget == "full":
        assert (config.model.backbone, config.model.width) == ("resnet50", 64)
    else:
        assert config.model.init_from is None  # no weights of that size were ever published


def test_the_papers_configs_start_from_imagenet_and_train_as_its_program():
    for track in ("nyu", "icvl", "hands2017", "itop_front", "itop_top", "k2hpd"):
        config = load_config(track)
        assert (config.name, config.track) == (track, track)
        assert config.model.init_from == "weights/resnet50.safetensors"
        assert config.optim.preset == "official"


@pytest.mark.parametrize(
    ("changes", "trained_here", "expected"),
    [
        ({}, True, {"table7": "a2j", "table8": "a2j", "table9": "imagenet", "table10": "resnet50"}),
        ({"model.proposals": "false"}, True, {"table7": "no_proposals"}),
        ({"loss.surrounding": "false"}, True, {"table7": "no_surrounding_loss"}),
        ({"parts": "a2j_jax.baselines:heat_maps"}, True, {"table8": "heat_maps"}),
        ({"parts": "my_paper.awr:parts"}, True, {}),
        ({"parts": "my_paper.awr:parts", "model.proposals": "false"}, True, {}),
        ({"model.init_from": "none"}, True, {"table9": "from_scratch"}),
        ({"model.init_from": "none", "model.one_branch": "true"}, True, {}),
        ({"model.init_from": "none", "model.one_branch": "true"}, False, {"table7": "one_branch"}),
        (
            {"model.backbone": "resnet18", "model.init_from": "weights/resnet18.safetensors"},
            True,
            {"table10": "resnet18"},
        ),
    ],
)
def test_which_row_a_network_is(changes, trained_here, expected):
    config = load_config("nyu")
    for key, text in changes.items():
        config = override(config, key, text)
    assert rows_of(config, trained_here=trained_here) == expected
