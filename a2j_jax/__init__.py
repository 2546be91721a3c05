"""A2J: anchor-to-joint regression for 3D hand and body pose from one depth image, in JAX/Flax."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from a2j_jax.errors import UserError as UserError
    from a2j_jax.geometry import Camera as Camera
    from a2j_jax.inference.predictor import Predictor as Predictor
    from a2j_jax.models.a2j import A2J as A2J
    from a2j_jax.tracks import TRACKS as TRACKS
    from a2j_jax.tracks import TrackSpec as TrackSpec

__version__ = "0.1.0"

# Loaded on first use, so that `import a2j_jax` stays instant and never pulls in what is not asked for.
_HOMES = {
    "A2J": "a2j_jax.models.a2j",
    "Camera": "a2j_jax.geometry",
    "Predictor": "a2j_jax.inference.predictor",
    "TRACKS": "a2j_jax.tracks",
    "TrackSpec": "a2j_jax.tracks",
    "UserError": "a2j_jax.errors",
}
__all__ = ["A2J", "TRACKS", "Camera", "Predictor", "TrackSpec", "UserError", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'a2j_jax' has no attribute {name!r}")
