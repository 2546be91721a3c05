"""The table of names: every tensor of an official network has one place in ours, and back."""

import json
from pathlib import Path

import numpy as np
import pytest

from a2j_jax.weights.convert import official_entries, trunk_entries


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
