"""Official state dicts in and out: bit for bit, and every mismatch told at once."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from a2j_jax.errors import UserError
from a2j_jax.models.a2j import A2J, PoseNetwork
from a2j_jax.models.layers import conv2d
from a2j_jax.runs.experiment import resolve
from a2j_jax.weights.convert import (
    HEADS,
    initial_variables,
    load_imagenet_trunk,
    looks_like,
    official_entries,
    official_from_variables,
    trunk_entries,
    variables_from_official,
)
from a2j_jax.weights.formats import write_state_dict
from tests import recipe, tiny


@pytest.mark.parametrize(
    ("names_file", "joint_dims"),
    [("state_dict_hand_k14.json", 3), ("state_dict_body2d_k19.json", 2)],
)
def test_every_official_key_is_in_the_table(parity: Path, names_file: str, joint_dims: int) -> None:
    official = {name for name, _ in json.loads((parity / names_file).read_text())}
    table = [entry.theirs for entry in official_entries("resnet50", joint_dims)]
    assert len(set(table)) == len(table)
    # ImageNet's classifier is all that the official network carries along unused.
    assert official - set(table) == {"Backbone.model.fc.weight", "Backbone.model.fc.bias"}
    assert set(table) <= official


@pytest.mark.parametrize(
    ("backbone", "tensors"), [("resnet18", 100), ("resnet34", 180), ("resnet50", 265)]
)
def test_trunks_have_torchvisions_number_of_tensors(backbone: str, tensors: int) -> None:
    """Counted from torchvision's state dicts, without the classifier and the step counters."""
    entries = list(trunk_entries(backbone, prefix=""))
    assert len({entry.theirs for entry in entries}) == len(entries) == tensors
    assert len({entry.ours for entry in entries}) == tensors
    names = {entry.theirs for entry in entries}
    # Stage 1 keeps its shape with basic blocks, and widens with bottlenecks.
    assert ("layer1.0.downsample.0.weight" in names) == (backbone == "resnet50")
    assert {"layer2.0.downsample.0.weight", "layer4.0.downsample.1.running_var"} <= names


@pytest.mark.parametrize("joint_dims", [2, 3])
def test_transforms_are_inverse_to_each_other(joint_dims: int) -> None:
    rng = np.random.default_rng(0)
    for entry in official_entries("resnet18", joint_dims):
        shape = (64, 3, 5, 7) if entry.ours[-1] == "kernel" else (64,)
        theirs = rng.standard_normal(shape)
        ours = entry.to_ours(theirs)
        np.testing.assert_array_equal(entry.to_theirs(ours), theirs)
        assert ours.shape == ((5, 7, 3, 64) if len(shape) == 4 else shape)


def test_only_the_offset_output_swaps_row_and_column() -> None:
    """Anchor-major channels: (row, column) pairs per joint there, (u, v) here."""
    channels = np.arange(16 * 2 * 3.0)  # 3 joints
    swapped = channels.reshape(-1, 2)[:, ::-1].ravel()
    for entry in official_entries("resnet18"):
        if entry.ours[-1] != "bias":
            continue
        is_offset = entry.theirs == "regressionModel.output.bias"
        np.testing.assert_array_equal(entry.to_ours(channels), swapped if is_offset else channels)


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
    assert looks_like(trunk_of(theirs)) == f"a {backbone} without A2J's heads"
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
    return with_classifier(trunk_of(theirs)) | {"bn1.num_batches_tracked": np.array(3)}


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


def trunk_of(official: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Its trunk in torchvision's naming."""
    prefix = "Backbone.model."
    return {k.removeprefix(prefix): v for k, v in official.items() if k.startswith(prefix)}


def with_classifier(trunk: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return trunk | {"fc.weight": np.zeros((1000, 64)), "fc.bias": np.zeros(1000)}


def test_the_classifier_is_dropped_and_said_to_be(
    tmp_path: Path, official: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load(tmp_path / "w.npz", with_classifier(trunk_of(official)))
    assert tiny.same(loaded["params"]["trunk"], tiny.variables(seed=1)["params"]["trunk"])
    assert tiny.same(loaded["params"]["depth_head"], tiny.variables()["params"]["depth_head"])
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
    write_state_dict(tmp_path / "w.npz", with_classifier(trunk_of(official)))
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
