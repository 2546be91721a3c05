"""The A2J network (paper Fig. 2): one trunk, three heads, dense predictions for every anchor."""

from typing import ClassVar

import jax
from flax import linen as nn

from a2j_jax.models.anchors import Heads, at_least_float32
from a2j_jax.models.heads import AnchorHead
from a2j_jax.models.network import PoseNetwork
from a2j_jax.models.resnet import rematerialised


class A2J(PoseNetwork):
    """Anchor-to-joint regression network: images (B, H, W, 1) -> `Heads`, float32.

    `a2j_jax.models.anchors.aggregate` turns heads into joints.

    Attributes, beside those of `PoseNetwork`:
      head_features, head_depth: channels and number of the hidden convolutions of a head (256 and 4 in the paper).
      proposals: whether anchors are weighted; without (Table 7) there is no proposal head.
      one_branch: offset and depth from one head, "joint_head", instead of one each (Table 7).
    """

    paradigm: ClassVar[str] = "A2J"

    head_features: int = 256
    head_depth: int = 4
    proposals: bool = True
    one_branch: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> Heads:
        trunk = self.features(images, train)
        proposal = None
        if self.proposals:
            proposal = self._head("proposal_head", 1, trunk.common, train)[..., 0]
        if self.one_branch:
            both = self._head("joint_head", self.joint_dims, trunk.regression, train)
            offset = both[..., :2]
            depth = both[..., 2] if self.joint_dims == 3 else None
        else:
            offset = self._head("offset_head", 2, trunk.regression, train)
            depth = None
            if self.joint_dims == 3:
                depth = self._head("depth_head", 1, trunk.regression, train)[..., 0]
        return Heads(proposal=proposal, offset=offset, depth=depth)

    def _head(self, name: str, values: int, x: jax.Array, train: bool) -> jax.Array:
        """What a head says of every anchor and joint, (B, A, K, values) float32."""
        kind = rematerialised(AnchorHead) if self.remat else AnchorHead
        outputs = values * self.num_joints
        head = kind(outputs, self.head_features, self.head_depth, self.axis_name, name=name)
        y = head(x, train)
        return at_least_float32(y).reshape(*y.shape[:2], self.num_joints, values)
