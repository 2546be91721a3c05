"""What a run starts from: a whole network or an ImageNet trunk, told apart by its names."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from a2j_jax.errors import UserError
from a2j_jax.models.a2j import PoseNetwork
from a2j_jax.models.layers import conv2d
from a2j_jax.runs.experiment import resolve
from a2j_jax.weights.convert import HEADS, initial_variables, official_from_variables
from a2j_jax.weights.formats import write_state_dict
from tests import tiny


@pytest.fixture(scope="module")
def official() -> dict[str, np.ndarray]:
    return official_from_variables(
        tiny.variables(seed=1), backbone="resnet18", joint_dims=3, head_depth=1
    )


def load(path: Path, tensors: dict[str, np.ndarray]) -> Any:
    write_state_dict(path, tensors)
    return start(path, tiny.variables())


def start(path: Path, variables: Any) -> Any:
    return initial_variables(str(path), variables, backbone="resnet18", head_depth=1)


def test_a_whole_network(tmp_path: Path, official: dict[str, np.ndarray]) -> None:
    loaded = load(tmp_path / "w.safetensors", official)
    assert tiny.same(loaded, tiny.variables(seed=1))


def test_a_trunk(tmp_path: Path, official: dict[str, np.ndarray]) -> None:
    prefix = "Backbone.model."
    trunk = {k.removeprefix(prefix): v for k, v in official.items() if k.startswith(prefix)}
    loaded = load(tmp_path / "w.npz", trunk)
    assert tiny.same(loaded["params"]["trunk"], tiny.variables(seed=1)["params"]["trunk"])
    assert tiny.same(loaded["params"]["depth_head"], tiny.variables()["params"]["depth_head"])


def imagenet(official: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    prefix = "Backbone.model."
    trunk = {k.removeprefix(prefix): v for k, v in official.items() if k.startswith(prefix)}
    return trunk | {"fc.weight": np.zeros((1000, 64)), "fc.bias": np.zeros(1000)}


def test_the_classifier_is_dropped_and_said_to_be(
    tmp_path: Path, official: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    load(tmp_path / "w.npz", imagenet(official))
    said = " ".join(capsys.readouterr().err.split())
    assert "no tensors that fit, left as initialized: depth_head (" in said
    assert "not used: ImageNet's classifier (fc)" in said


def network(**settings: Any) -> tuple[PoseNetwork, Any]:
    """A tiny network of Tables 7 and 8, and made-up variables of it."""
    config = tiny.config()
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, **settings))
    model = resolve(config).model
    return model, tiny.made_up(tiny.shapes(model))


@pytest.mark.parametrize(
    ("settings", "own", "unused"),
    [
        ({"proposals": False}, set(), {"proposal_head"}),
        ({"one_branch": True}, {"joint_head"}, {"offset_head", "depth_head"}),
        ({"paradigm": "regression"}, {"output"}, set(HEADS)),
        (
            {"paradigm": "heat_maps"},
            {"output", *(f"deconv{i}" for i in "123"), *(f"deconv_bn{i}" for i in "123")},
            set(HEADS),
        ),
    ],
)
def test_a_variant_takes_what_it_shares_with_a2j(
    tmp_path: Path,
    official: dict[str, np.ndarray],
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, Any],
    own: set[str],
    unused: set[str],
) -> None:
    """Every tensor name of a converted checkpoint is there, but for the heads that the variant is without."""
    a2j = tiny.variables(seed=1)
    _, fresh = network(**settings)
    names, shared = set(flatten_dict(fresh)), set(flatten_dict(a2j))
    assert {name[1] for name in names - shared} == own
    assert {name[1] for name in shared - names} == unused

    write_state_dict(tmp_path / "w.npz", official)
    loaded = flatten_dict(start(tmp_path / "w.npz", fresh))
    assert set(loaded) == names
    for name in names & shared:
        np.testing.assert_array_equal(loaded[name], flatten_dict(a2j)[name])
    for name in names - shared:
        np.testing.assert_array_equal(loaded[name], flatten_dict(fresh)[name])
    said = " ".join(capsys.readouterr().err.split())
    assert all(f"{head} (" in said for head in own)
    assert ("not used: " in said) == bool(unused)
    assert all(head in said.partition("not used: ")[2] for head in unused)


def test_a_stem_of_one_channel_is_the_sum_of_three(
    tmp_path: Path, official: dict[str, np.ndarray]
) -> None:
    """The same output from the same file, stored as one channel or three, and as the official program has it."""
    write_state_dict(tmp_path / "w.npz", imagenet(official))
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 1)).astype(np.float32)
    answers, stems = [], []
    for channels in (3, 1):
        model, fresh = network(stem_channels=channels)
        variables = start(tmp_path / "w.npz", fresh)
        stems.append(variables["params"]["trunk"]["conv1"]["kernel"])
        answers.append(model.apply(variables, image))
    assert [stem.shape[2] for stem in stems] == [3, 1]
    for three, one in zip(*map(jax.tree.leaves, answers), strict=True):
        np.testing.assert_allclose(three, one, rtol=1e-4, atol=1e-4)
    repeated = conv2d(np.repeat(image, 3, axis=-1), stems[0], stride=2)
    np.testing.assert_allclose(conv2d(image, stems[1], stride=2), repeated, atol=1e-5)


def test_a_stem_of_one_channel_goes_back_to_three() -> None:
    """Written in the official naming it does the same to a repeated image."""
    _, variables = network(stem_channels=1)
    theirs = official_from_variables(variables, backbone="resnet18", joint_dims=3, head_depth=1)
    stem = theirs["Backbone.model.conv1.weight"]
    assert stem.shape[1] == 3
    ours = variables["params"]["trunk"]["conv1"]["kernel"]
    np.testing.assert_allclose(stem.sum(1), ours[:, :, 0].transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_names_the_file(tmp_path: Path, official: dict[str, np.ndarray]) -> None:
    name, _ = official.popitem()
    with pytest.raises(UserError, match=rf"w\.npz does not fit this model; 1 missing: {name}"):
        load(tmp_path / "w.npz", official)


def test_weights_that_are_not_there_say_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not found: .*w\.npz; docs/weights\.md has the two"):
        start(tmp_path / "w.npz", tiny.variables())
