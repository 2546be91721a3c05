"""A2J: anchor-to-joint regression for 3D hand and body pose from one depth image, in JAX/Flax.

What this module lists is the public interface, with the modules that docs/extending.md uses; docs/api.md says what is
stable.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from a2j_jax.config import Config as Config
    from a2j_jax.errors import UserError as UserError
    from a2j_jax.geometry import Camera as Camera
    from a2j_jax.inference.exported import ExportedPredictor as ExportedPredictor
    from a2j_jax.inference.hands import HandModel as HandModel
    from a2j_jax.inference.hands import HandPose as HandPose
    from a2j_jax.inference.hands import load as load
    from a2j_jax.inference.predictor import Predictor as Predictor
    from a2j_jax.losses import Losses as Losses
    from a2j_jax.losses import with_terms as with_terms
    from a2j_jax.models.a2j import A2J as A2J
    from a2j_jax.models.a2j import PoseNetwork as PoseNetwork
    from a2j_jax.models.anchors import Estimate as Estimate
    from a2j_jax.parts import Parts as Parts
    from a2j_jax.tracks import TRACKS as TRACKS
    from a2j_jax.tracks import TrackSpec as TrackSpec

__version__ = "0.1.0"

# Loaded on first use, so that `import a2j_jax` stays instant and never pulls in what is not asked for.
_HOMES = {
    "A2J": "a2j_jax.models.a2j",
    "Camera": "a2j_jax.geometry",
    "Config": "a2j_jax.config",
    "Estimate": "a2j_jax.models.anchors",
    "ExportedPredictor": "a2j_jax.inference.exported",
    "HandModel": "a2j_jax.inference.hands",
    "HandPose": "a2j_jax.inference.hands",
    "Losses": "a2j_jax.losses",
    "Parts": "a2j_jax.parts",
    "PoseNetwork": "a2j_jax.models.a2j",
    "Predictor": "a2j_jax.inference.predictor",
    "TRACKS": "a2j_jax.tracks",
    "TrackSpec": "a2j_jax.tracks",
    "UserError": "a2j_jax.errors",
    "load": "a2j_jax.inference.hands",
    "with_terms": "a2j_jax.losses",
}
__all__ = [
    "A2J",
    "TRACKS",
    "Camera",
    "Config",
    "Estimate",
    "ExportedPredictor",
    "HandModel",
    "HandPose",
    "Losses",
    "Parts",
    "PoseNetwork",
    "Predictor",
    "TrackSpec",
    "UserError",
    "__version__",
    "load",
    "with_terms",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'a2j_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
