"""The official A2J network in PyTorch, to be timed beside ours: importing this module needs `torch`.

Written from the paper (Fig. 2, Sec. 3.1) and the tensor names of the published checkpoints: it takes a state dict of
those, and its answer is ours (tests/tools/test_torch_reference.py).
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import relu

from a2j_jax.losses import ALPHA, TAU_UV_PX
from a2j_jax.models.a2j import A2J
from a2j_jax.models.anchors import ANCHORS_PER_CELL, anchor_grid
from a2j_jax.models.resnet import ARCHITECTURES, STAGE_DILATIONS, STAGE_STRIDES, Bottleneck
from a2j_jax.weights.convert import official_from_variables

OfficialForward = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
_OUTPUT_STRIDE = 16  # of A2J's trunk


class Block(nn.Module):
    """A residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1; `conv1`, `bn1`, ... and perhaps `downsample`."""

    def __init__(
        self, inputs: int, planes: int, stride: int, dilation: int, bottleneck: bool
    ) -> None:
        super().__init__()
        outputs = planes * (4 if bottleneck else 1)
        # Input channels, output channels, side of the kernel, stride, dilation.
        shapes = [(inputs, planes, 3, stride, 1), (planes, outputs, 3, 1, dilation)]
        if bottleneck:
            middle = (planes, planes, 3, stride, dilation)
            shapes = [(inputs, planes, 1, 1, 1), middle, (planes, outputs, 1, 1, 1)]
        self.convolutions = len(shapes)
        for i, (n, m, side, step, spread) in enumerate(shapes, start=1):
            padding = spread * (side // 2)
            self.add_module(f"conv{i}", nn.Conv2d(n, m, side, step, padding, spread, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(m))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        y = x
        for i in range(1, self.convolutions + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.convolutions:
                y = relu(y, inplace=True)
        y += x if self.downsample is None else self.downsample(x)
        return relu(y, inplace=True)


class Trunk(nn.Module):
    """The dilated ResNet."""

    def __init__(self, backbone: str, width: int) -> None:
        super().__init__()
        block, counts = ARCHITECTURES[backbone]
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels, stages = width, []
        for stage, count in enumerate(counts):
            blocks = []
            for index in range(count):
                stride = STAGE_STRIDES[_OUTPUT_STRIDE][stage] if index == 0 else 1
                dilation = STAGE_DILATIONS[_OUTPUT_STRIDE][stage] if index > 0 else 1
                planes = width * 2**stage
                blocks.append(Block(channels, planes, stride, dilation, block is Bottleneck))
                channels = planes * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels = channels

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) -> the common and the regression trunk, (B, C, H / 16, W / 16) each."""
        x = relu(self.bn1(self.conv1(x)), inplace=True)
        x = nn.functional.max_pool2d(x, 3, stride=2, padding=1)
        common = self.layer3(self.layer2(self.layer1(x)))
        return common, self.layer4(common)


class Head(nn.Module):
    """3x3 convolutions on a feature map: values for every anchor and joint."""

    def __init__(self, inputs: int, features: int, depth: int, joints: int, values: int) -> None:
        super().__init__()
        self.depth, self.shape = depth, (joints, values)
        for i in range(1, depth + 1):
            self.add_module(f"conv{i}", nn.Conv2d(inputs, features, 3, padding=1))
            self.add_module(f"bn{i}", nn.BatchNorm2d(features))
            inputs = features
        self.output = nn.Conv2d(inputs, ANCHORS_PER_CELL * joints * values, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, A, K, values), anchors in the order of `anchor_grid`."""
        for i in range(1, self.depth + 1):
            x = relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)), inplace=True)
        x = self.output(x).permute(0, 2, 3, 1)
        return x.reshape(x.shape[0], -1, *self.shape)


class OfficialA2J(nn.Module):
    """As a model of ours: depth crops (B, 1, S, S) -> joints (B, K, 3), row px, column px, depth; or (B, K, 2)."""

    anchors: torch.Tensor

    def __init__(self, model: A2J, crop_size: int) -> None:
        super().__init__()
        trunk = Trunk(model.backbone, model.width)
        self.Backbone = nn.ModuleDict({"model": trunk})

        def head(inputs: int, values: int) -> Head:
            return Head(inputs, model.head_features, model.head_depth, model.num_joints, values)

        self.classificationModel = head(trunk.channels // 2, 1)
        self.regressionModel = head(trunk.channels, 2)
        self.DepthRegressionModel = head(trunk.channels, 1) if model.joint_dims == 3 else None
        anchors = np.ascontiguousarray(anchor_grid(crop_size, crop_size)[:, ::-1])
        self.register_buffer("anchors", torch.from_numpy(anchors), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Network and post-processing, Eqs. (1) and (2)."""
        return self.weights_and_joints(images)[1]

    def weights_and_joints(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The anchors' weights (B, A, K, 1), and the joints."""
        common, regression = self.Backbone["model"](images.expand(-1, 3, -1, -1))
        weights = self.classificationModel(common).softmax(dim=1)
        votes = self.anchors[None, :, None, :] + self.regressionModel(regression)
        joints = (weights * votes).sum(dim=1)
        if self.DepthRegressionModel is not None:
            depth = (weights * self.DepthRegressionModel(regression)).sum(dim=1)
            joints = torch.cat([joints, depth], dim=-1)
        return weights, joints


def device_beside_jax() -> str | None:
    """PyTorch's name of the kind of device that JAX computes on; None: PyTorch cannot use it here."""
    if jax.default_backend() == "cpu":
        return "cpu"
    return "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else None


def described(device: str) -> str:
    """PyTorch's version and what it computes with."""
    threads = (
        f"{torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name()
    )
    return f"{torch.__version__}, {device}, {threads}"


def official_forward_of(
    model: A2J, variables: Any, crop_size: int, device: str = "cpu"
) -> OfficialForward:
    """The same weights in PyTorch: crops (B, S, S, 1) in host memory -> joints (B, K, D) in host memory.

    The model has proposals, and a branch for each of offset and depth. Joints are the official program's: row px,
    column px, depth in network units; in float32, as it computes.
    """
    network = _with_weights(model, variables, crop_size).eval().to(device)
    torch.backends.cudnn.benchmark = True  # crops have one size: let it look for the fastest way

    @torch.inference_mode()
    def forward(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        joints = network(torch.from_numpy(images[:, None, :, :, 0]).to(device))
        found: npt.NDArray[np.float32] = joints.cpu().numpy()
        return found

    return forward


def official_step_of(
    model: A2J,
    variables: Any,
    crop_size: int,
    *,
    learning_rate: float,
    weight_decay: float,
    regression_weight: float,
    device: str = "cpu",
) -> Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32]], float]:
    """The training step in PyTorch, from the same weights: the losses of Eqs. (4) to (7), and Adam.

    All joints count. Constants are those of `a2j_jax.losses`, with the depth term of the official program.

    Returns:
      A function of crops (B, S, S, 1) and joints (B, K, 3) or (B, K, 2), which trains by one step and returns the loss.
    """
    network = _with_weights(model, variables, crop_size).train().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, weight_decay=weight_decay)

    def step(images: npt.NDArray[np.float32], joints: npt.NDArray[np.float32]) -> float:
        in_rows = torch.from_numpy(joints[..., [1, 0, *range(2, joints.shape[-1])]]).to(device)
        optimizer.zero_grad()
        weights, found = network.weights_and_joints(
            torch.from_numpy(images[:, None, :, :, 0]).to(device)
        )
        surrounded = (weights * network.anchors[None, :, None, :]).sum(dim=1)
        error = found - in_rows
        loss_1 = ALPHA * _smooth_l1(error[..., :2]) + error[..., 2:].abs().sum(-1).mean()
        loss = regression_weight * loss_1 + _smooth_l1(surrounded - in_rows[..., :2])
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def _with_weights(model: A2J, variables: Any, crop_size: int) -> OfficialA2J:
    network = OfficialA2J(model, crop_size)
    tensors = official_from_variables(variables)
    network.load_state_dict({name: torch.tensor(tensor) for name, tensor in tensors.items()})
    return network


def _smooth_l1(error: torch.Tensor) -> torch.Tensor:
    """Eq. (5) of in-plane errors, averaged."""
    zeros = torch.zeros_like(error)
    return nn.functional.smooth_l1_loss(error, zeros, beta=TAU_UV_PX)
