"""Official state dicts in and out: bit for bit, and every mismatch told at once."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from a2j_jax.config import variant
from a2j_jax.errors import UserError
from a2j_jax.models.a2j import A2J, PoseNetwork
from a2j_jax.models.layers import conv2d
from a2j_jax.runs.experiment import resolve
from a2j_jax.weights.convert import (
    HEADS,
    entries,
    initial_variables,
    looks_like,
    official_from_variables,
    variables_from_official,
    write_state_dict,
)
from tests import recipe, tiny

CLASSIFIER = {"Backbone.model.fc.weight", "Backbone.model.fc.bias"}


def a2j(joints: int = 21, dims: int = 3, backbone: str = "resnet18", depth: int = 1) -> A2J:
    """The network of `tests.tiny`, or one like it."""
    return A2J(joints, dims, backbone, width=8, head_features=8, head_depth=depth)


TINY = tiny.shapes(a2j())


@pytest.fixture(scope="module")
def official():
    return official_from_variables(tiny.made_up(TINY, seed=1))


def refused(tensors: dict[str, np.ndarray], shapes: Any = TINY) -> str:
    with pytest.raises(UserError) as caught:
        variables_from_official(tensors, shapes, source="some.npz")
    message = str(caught.value)
    assert message.startswith("some.npz")
    assert "\n" not in message
    assert len(message) < 900  # long lists are cut short
    return message


@pytest.mark.parametrize(
    ("names_file", "joints", "dims"),
    [("state_dict_hand_k14.json", 14, 3), ("state_dict_body2d_k19.json", 19, 2)],
)
def test_official_to_ours_and_back(parity, names_file, joints, dims):
    theirs = recipe.state_dict(parity / names_file, joints)
    expected = tiny.shapes(A2J(joints, dims))
    ours = variables_from_official(theirs, expected)
    assert jax.tree.map(np.shape, ours) == jax.tree.map(np.shape, expected)

    # A program may name the network as well.
    back = official_from_variables(ours, backbone="resnet50", joint_dims=dims, head_depth=4)
    # ImageNet's classifier is all that the official network carries along unused.
    assert theirs.keys() - back.keys() == CLASSIFIER
    for name, tensor in back.items():
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, theirs[name], strict=True)


@pytest.mark.parametrize(
    ("backbone", "tensors"), [("resnet18", 100), ("resnet34", 180), ("resnet50", 265)]
)
@pytest.mark.parametrize("dims", [2, 3])
def test_ours_to_official_and_back(backbone, tensors, dims):
    """The numbers are counted from torchvision's state dicts, without the classifier and the step counters."""
    ours = tiny.made_up(tiny.shapes(a2j(15, dims, backbone, depth=4)))
    theirs = official_from_variables(ours)
    assert tiny.same(variables_from_official(theirs, ours), ours)
    assert len(theirs) == len(jax.tree.leaves(ours))  # nothing of ours is left out
    trunk = tiny.trunk_of(theirs)
    assert len(trunk) == tensors
    # Stage 1 keeps its shape with basic blocks, and widens with bottlenecks.
    assert ("layer1.0.downsample.0.weight" in trunk) == (backbone == "resnet50")
    assert {"layer2.0.downsample.0.weight", "layer4.0.downsample.1.running_var"} <= trunk.keys()
    assert looks_like(theirs) == f"A2J of 15 joints in {dims}D with {backbone}"
    assert looks_like(trunk) == f"a {backbone} without A2J's heads"
    head = {"classificationModel.output.weight": np.zeros(())}
    for unclear in ({}, {"weight": np.zeros(3)}, {**theirs, **head}):
        assert looks_like(unclear) == ""


def test_only_the_offset_output_swaps_row_and_column():
    """Anchor-major channels: (row, column) pairs per joint there, (u, v) here."""
    channels = np.arange(16 * 2 * 3.0)  # 3 joints
    swapped = channels.reshape(-1, 2)[:, ::-1].ravel()
    for entry in entries(TINY):
        is_offset = entry.theirs.startswith("regressionModel.output.")
        wanted = swapped if is_offset else channels
        if entry.ours[-1] == "kernel":
            ours = entry.to_ours(np.broadcast_to(channels[:, None, None, None], (96, 3, 5, 7)))
            np.testing.assert_array_equal(ours, np.broadcast_to(wanted, (5, 7, 3, 96)))
        else:
            np.testing.assert_array_equal(entry.to_ours(channels), wanted)


def test_precision_is_kept_and_counters_and_the_classifier_are_passed_over(official):
    doubled = {name: tensor.astype(np.float64) for name, tensor in official.items()}
    extra = {name: np.full(1000, np.nan) for name in CLASSIFIER}
    extra["Backbone.model.bn1.num_batches_tracked"] = np.array(7)
    ours = variables_from_official(doubled | extra, TINY)
    assert tiny.same(ours, variables_from_official(doubled, TINY))
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {np.dtype(np.float64)}


def test_every_mismatch_is_told_at_once(official):
    wrong = dict(official)
    del wrong["Backbone.model.layer2.0.conv1.weight"]
    del wrong["classificationModel.bn1.running_var"]
    wrong["attention.weight"] = np.zeros(3)
    wrong["regressionModel.output.bias"] = np.zeros(5)
    message = refused(wrong)
    for part in (
        "2 missing: Backbone.model.layer2.0.conv1.weight, classificationModel.bn1.running_var",
        "1 unexpected: attention.weight",
        f"1 misshapen: regressionModel.output.bias is (5,), expected ({16 * 21 * 2},)",
    ):
        assert part in message
    name = "Backbone.model.layer1.0.conv1.weight"  # messages give shapes in PyTorch's layout
    for shape in [(8, 8, 3, 5), (8, 8, 3), (9, 8, 3, 3)]:
        told = f"1 misshapen: {name} is {shape}, expected (8, 8, 3, 3)"
        assert told in refused(official | {name: np.zeros(shape, np.float32)})


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (a2j(backbone="resnet34"), "missing"),
        (a2j(dims=2), "unexpected"),
        (a2j(14), "6 misshapen"),
        (a2j(backbone="resnet50"), "misshapen"),
    ],
)
def test_weights_of_another_architecture(official, model, told):
    message = refused(official, tiny.shapes(model))
    assert told in message
    assert "name the backbone, and the track if it is A2J" in message
    assert "the file looks like A2J of 21 joints in 3D with resnet18" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(official, value):
    names = [name for name in official if name.endswith("running_var")][:5]
    message = refused(official | {name: np.full_like(official[name], value) for name in names})
    assert "5 tensors hold NaN or infinity" in message
    assert f"{names[0]}, {names[1]}, {names[2]}, ..." in message


def imagenet(theirs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """An ImageNet state dict in torchvision's naming, of an official one's trunk."""
    classifier = {"fc.weight": np.zeros((1000, 64)), "fc.bias": np.zeros(1000)}
    return {**tiny.trunk_of(theirs), **classifier, "bn1.num_batches_tracked": np.array(3)}


def test_an_imagenet_trunk_of_another_depth(official):
    deeper = official_from_variables(tiny.made_up(tiny.shapes(a2j(backbone="resnet50"))))
    with pytest.raises(UserError, match=r"unexpected: layer1\.0\.(conv3|bn3)"):
        variables_from_official(imagenet(deeper), TINY, imagenet=True)
    some = {name: np.zeros(1) for name in list(tiny.trunk_of(official))[:-2]}
    with pytest.raises(UserError, match=r"2 missing: .*misshapen"):
        variables_from_official(some, TINY, imagenet=True)


def load(path: Path, tensors: dict[str, np.ndarray], variables: Any = None) -> Any:
    """What a run starts from, with these tensors in a file."""
    write_state_dict(path, tensors)
    return initial_variables(str(path), variables or tiny.variables())


def test_a_whole_network(tmp_path, official):
    assert tiny.same(load(tmp_path / "w.safetensors", official), tiny.variables(seed=1))


def test_an_imagenet_trunk_leaves_the_heads_alone(tmp_path, official, logged):
    before, theirs = tiny.variables(), tiny.variables(seed=1)
    after = load(tmp_path / "w.npz", imagenet(official), before)
    for group in ("params", "batch_stats"):
        for part in before[group]:
            source = theirs if part == "trunk" else before
            assert tiny.same(after[group][part], source[group][part])
    (line,) = logged
    assert "no tensors that fit, left as initialized: depth_head (" in line
    assert "not used: ImageNet's classifier (fc)" in line


def network(**settings: Any) -> tuple[PoseNetwork, Any]:
    """A tiny network of Tables 7 and 8, and made-up variables of it."""
    model = resolve(variant(tiny.config(), "row", **settings)).model
    return model, tiny.made_up(tiny.shapes(model))


@pytest.mark.parametrize(
    ("settings", "own", "unused"),
    [
        ({"model": {"proposals": False}}, set(), {"proposal_head"}),
        ({"model": {"one_branch": True}}, {"joint_head"}, {"offset_head", "depth_head"}),
        ({"parts": "a2j_jax.baselines:global_regression"}, {"output"}, set(HEADS)),
        (
            {"parts": "a2j_jax.baselines:heat_maps"},
            {"output", *(f"deconv{i}" for i in "123"), *(f"deconv_bn{i}" for i in "123")},
            set(HEADS),
        ),
    ],
)
def test_a_variant_takes_what_it_shares_with_a2j(tmp_path, official, logged, settings, own, unused):
    """Every tensor name of a converted checkpoint is there, but for the heads that the variant is without."""
    whole = flatten_dict(tiny.variables(seed=1))
    _, fresh = network(**settings)
    names, shared = set(flatten_dict(fresh)), set(whole)
    assert {name[1] for name in names - shared} == own
    assert {name[1] for name in shared - names} == unused

    loaded = flatten_dict(load(tmp_path / "w.npz", official, fresh))
    assert set(loaded) == names
    for name in names & shared:
        np.testing.assert_array_equal(loaded[name], whole[name])
    for name in names - shared:
        np.testing.assert_array_equal(loaded[name], flatten_dict(fresh)[name])
    (said,) = logged
    assert all(f"{head} (" in said for head in own)
    assert ("not used: " in said) == bool(unused)
    assert all(head in said.partition("not used: ")[2] for head in unused)


def test_a_stem_of_one_channel_is_the_sum_of_three(tmp_path, official):
    """The same output from the same file, stored as one channel or three, and as the official program has it."""
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 1)).astype(np.float32)
    answers, stems = [], []
    for channels in (3, 1):
        model, fresh = network(model={"stem_channels": channels})
        variables = load(tmp_path / "w.npz", imagenet(official), fresh)
        stems.append(variables["params"]["trunk"]["conv1"]["kernel"])
        answers.append(model.apply(variables, image))
    assert [stem.shape[2] for stem in stems] == [3, 1]
    for three, one in zip(*map(jax.tree.leaves, answers), strict=True):
        np.testing.assert_allclose(three, one, rtol=1e-4, atol=1e-4)
    repeated = conv2d(np.repeat(image, 3, axis=-1), stems[0], stride=2)
    np.testing.assert_allclose(conv2d(image, stems[1], stride=2), repeated, atol=1e-5)


def test_a_stem_of_one_channel_goes_back_to_three():
    """Written in the official naming it does the same to a repeated image."""
    _, variables = network(model={"stem_channels": 1})
    stem = official_from_variables(variables)["Backbone.model.conv1.weight"]
    assert stem.shape[1] == 3
    ours = variables["params"]["trunk"]["conv1"]["kernel"]
    np.testing.assert_allclose(stem.sum(1), ours[:, :, 0].transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


def test_a_file_that_does_not_fit_or_is_not_there_is_named(tmp_path, official):
    with pytest.raises(UserError, match=r"not found: .*w\.npz; docs/weights\.md has the two"):
        initial_variables(str(tmp_path / "w.npz"), tiny.variables())
    name, *others = official
    with pytest.raises(UserError, match=rf"w\.npz does not fit this model; 1 missing: {name}"):
        load(tmp_path / "w.npz", {other: official[other] for other in others})


@pytest.mark.parametrize("kind", ["official", "ImageNet"])
@pytest.mark.parametrize(
    "modules",
    [
        pytest.param(("Dense_0",), id="no trunk"),
        pytest.param(("trunk",), id="another trunk"),
        pytest.param(("Dense_0", "offset_head"), id="a head alone"),
    ],
)
def test_a_network_that_shares_no_trunk_with_the_file(tmp_path, official, kind, modules):
    """A layer of two dimensions, and a tensor of a name that no ResNet has."""
    layer = {"kernel": np.zeros((2, 3), np.float32), "positions": np.zeros(4, np.float32)}
    tensors = official if kind == "official" else imagenet(official)
    with pytest.raises(UserError, match=r"w\.npz"):
        load(tmp_path / "w.npz", tensors, {"params": {name: {"0": layer} for name in modules}})
