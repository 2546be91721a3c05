import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a2j_jax.models.a2j import A2J, init_variables
from a2j_jax.models.anchors import aggregate, anchor_grid
from a2j_jax.models.resnet import ResNet
from tests import tiny


def small(**changes: object) -> A2J:
    settings = {"backbone": "resnet18", "width": 8, "head_features": 16, "head_depth": 2}
    return A2J(num_joints=5, **{**settings, **changes})


@pytest.mark.parametrize(("height", "width"), [(32, 64), (48, 16)])
def test_any_crop_of_whole_cells(height: int, width: int) -> None:
    variables = tiny.made_up(tiny.shapes(small()))
    heads = jax.jit(small().apply)(variables, jnp.ones((2, height, width, 1)))
    anchors = height // 4 * width // 4
    assert heads.proposal.shape == (2, anchors, 5)
    assert heads.offset.shape == (2, anchors, 5, 2)
    assert heads.depth.shape == (2, anchors, 5)
    assert aggregate(heads, anchor_grid(height, width)).joints.shape == (2, 5, 3)


def test_two_dimensional_mode_has_no_depth_head() -> None:
    model = small(joint_dims=2)
    variables = tiny.made_up(tiny.shapes(model))
    heads = jax.jit(model.apply)(variables, jnp.ones((1, 32, 32, 1)))
    assert heads.depth is None
    assert "depth_head" not in variables["params"]
    assert aggregate(heads, anchor_grid(32, 32)).joints.shape == (1, 5, 2)


@pytest.mark.parametrize("shape", [(1, 40, 32, 1), (1, 32, 32, 3), (32, 32, 1)])
def test_wrong_images_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images"):
        small().init(jax.random.key(0), jnp.ones(shape))


# torchvision's published parameter counts, without the classifier.
@pytest.mark.parametrize(
    ("backbone", "parameters", "classifier"),
    [
        ("resnet18", 11_689_512, 512_000 + 1000),
        ("resnet34", 21_797_672, 512_000 + 1000),
        ("resnet50", 25_557_032, 2_048_000 + 1000),
    ],
)
def test_trunks_have_torchvisions_parameters(
    backbone: str, parameters: int, classifier: int
) -> None:
    trunk = ResNet(backbone)
    shapes = jax.eval_shape(
        lambda: trunk.init(jax.random.key(0), jnp.ones((1, 32, 32, 1)), train=False)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == parameters - classifier
    features = jax.eval_shape(
        lambda v: trunk.apply(v, jnp.ones((1, 64, 96, 1)), train=False), shapes
    )
    expansion = 4 if backbone == "resnet50" else 1
    assert features.common.shape == (1, 4, 6, 256 * expansion)
    assert features.regression.shape == (1, 4, 6, 512 * expansion)


def test_initialisation_follows_the_official_code() -> None:
    variables = init_variables(A2J(14, backbone="resnet18"), jax.random.key(0), 32, 32)
    trunk, head = variables["params"]["trunk"], variables["params"]["offset_head"]
    kernel = np.asarray(trunk["layer3_1"]["conv2"]["kernel"])  # Kaiming normal, fan-out
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.02)
    kernel = np.asarray(head["conv2"]["kernel"])  # Xavier normal
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 512)), rel=0.02)
    bound = 1 / np.sqrt(9 * 512)  # PyTorch's default bias of a convolution
    bias = np.asarray(head["conv1"]["bias"])
    assert 0.8 * bound < np.abs(bias).max() <= bound
    np.testing.assert_array_equal(head["bn1"]["scale"], 1)
    np.testing.assert_array_equal(head["bn1"]["bias"], 0)


def test_bfloat16_computes_close_to_float32_on_float32_weights() -> None:
    model, half = small(), small(dtype=jnp.bfloat16)
    shapes = tiny.shapes(half)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {np.dtype("float32")}
    variables = tiny.made_up(shapes)
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 1))
    full, rough = (jax.jit(m.apply)(variables, images).offset for m in (model, half))
    assert rough.dtype == jnp.float32
    assert 0 < float(jnp.abs(full - rough).max()) < 0.1 * float(jnp.abs(full).max())
