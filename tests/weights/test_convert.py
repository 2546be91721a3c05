"""Official state dicts in and out: bit for bit, and every mismatch told at once."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from a2j_jax.errors import UserError
from a2j_jax.models.a2j import A2J
from a2j_jax.weights.convert import (
    load_imagenet_trunk,
    looks_like,
    official_from_variables,
    trunk_entries,
    variables_from_official,
)
from tests import recipe, tiny

TINY = A2J(14, backbone="resnet18", width=8, head_features=8, head_depth=1)
OF_TINY: dict[str, Any] = {"backbone": "resnet18", "joint_dims": 3, "head_depth": 1}


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return official_from_variables(tiny.made_up(tiny.shapes(TINY)), **OF_TINY)


@pytest.mark.parametrize(
    ("names_file", "joints", "joint_dims"),
    [("state_dict_hand_k14.json", 14, 3), ("state_dict_body2d_k19.json", 19, 2)],
)
def test_official_to_ours_and_back(
    parity: Path, names_file: str, joints: int, joint_dims: int
) -> None:
    theirs = recipe.state_dict(parity / names_file, joints)
    expected = tiny.shapes(A2J(joints, joint_dims))
    ours = variables_from_official(theirs, expected, backbone="resnet50", joint_dims=joint_dims)
    assert jax.tree.map(np.shape, ours) == jax.tree.map(np.shape, expected)

    back = official_from_variables(ours, backbone="resnet50", joint_dims=joint_dims)
    assert theirs.keys() - back.keys() == {"Backbone.model.fc.weight", "Backbone.model.fc.bias"}
    for name, tensor in back.items():
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, theirs[name], strict=True)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
@pytest.mark.parametrize("joint_dims", [2, 3])
def test_ours_to_official_and_back(backbone: str, joint_dims: int) -> None:
    model = A2J(15, joint_dims, backbone, width=8, head_features=8)
    ours = tiny.made_up(tiny.shapes(model))
    theirs = official_from_variables(ours, backbone=backbone, joint_dims=joint_dims)
    back = variables_from_official(
        theirs, tiny.shapes(model), backbone=backbone, joint_dims=joint_dims
    )
    assert tiny.same(back, ours)
    assert len(theirs) == len(jax.tree.leaves(ours))  # nothing of ours is left out


def test_precision_is_kept(tensors: dict[str, np.ndarray]) -> None:
    doubled = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    ours = variables_from_official(doubled, tiny.shapes(TINY), **OF_TINY)
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {np.dtype(np.float64)}


def test_counters_and_the_classifier_are_passed_over(tensors: dict[str, np.ndarray]) -> None:
    extra = {
        "Backbone.model.bn1.num_batches_tracked": np.array(7),
        "Backbone.model.fc.weight": np.zeros((1000, 512)),
        "Backbone.model.fc.bias": np.zeros(1000),
    }
    ours = variables_from_official(tensors | extra, tiny.shapes(TINY), **OF_TINY)
    assert tiny.same(ours, variables_from_official(tensors, tiny.shapes(TINY), **OF_TINY))


def test_every_mismatch_is_told_at_once(tensors: dict[str, np.ndarray]) -> None:
    wrong = dict(tensors)
    del wrong["Backbone.model.layer2.0.conv1.weight"]
    del wrong["classificationModel.bn1.running_var"]
    wrong["attention.weight"] = np.zeros(3)
    wrong["regressionModel.output.bias"] = np.zeros(5)
    with pytest.raises(UserError) as caught:
        variables_from_official(wrong, tiny.shapes(TINY), source="some.npz", **OF_TINY)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "some.npz does not fit this model",
        "2 missing: Backbone.model.layer2.0.conv1.weight, classificationModel.bn1.running_var",
        "1 unexpected: attention.weight",
        f"1 misshapen: regressionModel.output.bias is (5,), expected ({16 * 14 * 2},)",
    ):
        assert part in message


def test_shapes_are_told_in_their_layout(tensors: dict[str, np.ndarray]) -> None:
    name = "Backbone.model.layer1.0.conv1.weight"
    for shape in [(8, 8, 3, 5), (8, 8, 3), (9, 8, 3, 3)]:
        with pytest.raises(UserError) as caught:
            variables_from_official(
                tensors | {name: np.zeros(shape, np.float32)}, tiny.shapes(TINY), **OF_TINY
            )
        assert f"1 misshapen: {name} is {shape}, expected (8, 8, 3, 3)" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (A2J(14, backbone="resnet34", width=8, head_features=8, head_depth=1), "missing"),
        (A2J(14, 2, "resnet18", width=8, head_features=8, head_depth=1), "unexpected"),
        (A2J(21, backbone="resnet18", width=8, head_features=8, head_depth=1), "6 misshapen"),
        (A2J(14, backbone="resnet50", width=8, head_features=8, head_depth=1), "misshapen"),
    ],
)
def test_weights_of_another_architecture(
    tensors: dict[str, np.ndarray], model: A2J, told: str
) -> None:
    with pytest.raises(UserError) as caught:
        variables_from_official(
            tensors,
            tiny.shapes(model),
            backbone=model.backbone,
            joint_dims=model.joint_dims,
            head_depth=1,
        )
    message = str(caught.value)
    assert told in message
    assert "name the backbone, and the track if it is A2J" in message
    assert "the file looks like A2J of 14 joints in 3D with resnet18" in message
    assert len(message) < 900  # long lists are cut short


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50"])
def test_what_weights_look_like(backbone: str) -> None:
    model = A2J(19, 2, backbone, width=8, head_features=8, head_depth=1)
    theirs = official_from_variables(
        tiny.made_up(tiny.shapes(model)), backbone=backbone, joint_dims=2, head_depth=1
    )
    assert looks_like(theirs) == f"A2J of 19 joints in 2D with {backbone}"
    prefix = "Backbone.model."
    trunk = {k.removeprefix(prefix): v for k, v in theirs.items() if k.startswith(prefix)}
    assert looks_like(trunk) == f"a {backbone} without A2J's heads"
    head = {"classificationModel.output.weight": np.zeros(())}
    for unclear in ({}, {"weight": np.zeros(3)}, {**theirs, **head}):
        assert looks_like(unclear) == ""


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(
    tensors: dict[str, np.ndarray], value: float
) -> None:
    names = [name for name in tensors if name.endswith("running_var")][:5]
    broken = tensors | {name: np.full_like(tensors[name], value) for name in names}
    unused = {"Backbone.model.fc.bias": np.full(1000, np.nan)}
    with pytest.raises(UserError, match=r"w\.npz: 5 tensors hold NaN or infinity") as caught:
        variables_from_official(broken | unused, tiny.shapes(TINY), source="w.npz", **OF_TINY)
    assert f"{names[0]}, {names[1]}, {names[2]}, ..." in str(caught.value)
    variables_from_official(tensors | unused, tiny.shapes(TINY), **OF_TINY)


def imagenet(backbone: str, model: A2J) -> dict[str, np.ndarray]:
    """A made-up ImageNet state dict in torchvision's naming, for a trunk of the model's width."""
    theirs = official_from_variables(
        tiny.made_up(tiny.shapes(model), seed=1), backbone=backbone, joint_dims=3, head_depth=1
    )
    prefix = "Backbone.model."
    trunk = {k.removeprefix(prefix): v for k, v in theirs.items() if k.startswith(prefix)}
    return trunk | {
        "fc.weight": np.zeros((1000, 64), np.float32),
        "fc.bias": np.zeros(1000, np.float32),
        "bn1.num_batches_tracked": np.array(3),
    }


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_an_imagenet_trunk_leaves_the_heads_alone(backbone: str) -> None:
    model = A2J(14, backbone=backbone, width=8, head_features=8, head_depth=1)
    before = tiny.made_up(tiny.shapes(model))
    after = load_imagenet_trunk(imagenet(backbone, model), before, backbone=backbone)
    wanted = tiny.made_up(tiny.shapes(model), seed=1)
    for group in ("params", "batch_stats"):
        assert tiny.same(after[group]["trunk"], wanted[group]["trunk"])
        assert not tiny.same(after[group]["trunk"], before[group]["trunk"])
        for head in ("proposal_head", "offset_head", "depth_head"):
            assert tiny.same(after[group][head], before[group][head])


def test_an_imagenet_trunk_of_another_depth() -> None:
    with pytest.raises(UserError, match=r"unexpected: layer1\.0\.(conv3|bn3)"):
        load_imagenet_trunk(
            imagenet("resnet50", A2J(14, width=8, head_features=8, head_depth=1)),
            tiny.made_up(tiny.shapes(TINY)),
            backbone="resnet18",
        )
    some = {e.theirs: np.zeros(1) for e in list(trunk_entries("resnet18", prefix=""))[:-2]}
    with pytest.raises(UserError, match=r"2 missing: .*misshapen"):
        load_imagenet_trunk(some, tiny.made_up(tiny.shapes(TINY)), backbone="resnet18")
