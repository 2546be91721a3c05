"""Depth sensors by their principle, and mixtures of them: what a camera of unknown make may deliver."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from a2j_jax.synthetic.render import SensorSpec
from a2j_jax.synthetic.sampling import draw

# The range of all sensors here begins nearer than that of a Kinect: where a hand would be lost, nobody puts it.
_RANGE_MM = (120.0, 5000.0)
_FINE = 1e9  # disparity_mm without steps

# A Kinect with the shadow that its projector, 75 mm beside the camera, casts.
STRUCTURED_LIGHT = SensorSpec(effects=True, shadow_mm_px=580.0 * 75.0, range_mm=_RANGE_MM)
# An Intel SR300 or SR305, 0.2 to 1.2 m: hardly any steps, little and smooth noise, rims without readings.
CLOSE_RANGE = SensorSpec(
    axial_mm=(0.5, 2.0, 0.2),
    smooth_fraction=0.85,
    disparity_mm=_FINE,
    edge_cosine=0.5,
    hole_sigma=3.3,
    range_mm=_RANGE_MM,
    effects=True,
    shadow_mm_px=475.0 * 50.0,
    offset_mm=1.0,
    bias_mm=0.5,
)
# Time of flight, as in a Kinect v2 or Azure Kinect: noise of single pixels that grows with distance and at grazing
# angles, flying pixels, a few mm of bias by multiple paths, few holes.
TIME_OF_FLIGHT = SensorSpec(
    axial_mm=(1.2, 3.5, 0.2),
    grazing_mm=0.4,
    smooth_fraction=0.3,
    disparity_mm=_FINE,
    edge_cosine=0.12,
    hole_sigma=4.0,
    range_mm=_RANGE_MM,
    effects=True,
    pixel_px=1.5,
    flying_px=0.6,
    offset_mm=3.0,
    bias_mm=2.0,
)
# Active stereo, as in an Intel D400: coarser steps, noise in patches, outlines that are fat, holes.
STEREO = SensorSpec(
    axial_mm=(1.2, 6.0, 0.3),
    smooth_fraction=0.9,
    disparity_mm=600.0 * 50.0 * 6.0,
    edge_cosine=0.3,
    hole_sigma=2.4,
    range_mm=_RANGE_MM,
    effects=True,
    shadow_mm_px=600.0 * 50.0,
    flying_px=0.25,
    fatten_px=1.5,
    offset_mm=1.5,
    bias_mm=1.0,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SensorMix:
    """Several sensors with the same static fields, of which every scene draws one with other numbers. A pytree."""

    sensors: tuple[SensorSpec, ...] = (STRUCTURED_LIGHT, CLOSE_RANGE, TIME_OF_FLIGHT, STEREO)
    jitter: float = 0.3  # σ of the natural logarithm of each number's factor; ranges stay
    # Factors of `SensorSpec.pixel_px`, equally likely: sensors of full, half and a third of the resolution.
    pixels: tuple[float, ...] = (1.0, 1.0, 1.0, 2.0, 2.0, 3.0)

    def draw(self, key: jax.Array) -> SensorSpec:
        """The sensor of one scene, whose numbers are arrays ()."""
        leaves, structure = jax.tree.flatten(self.sensors[0])
        table = jnp.array([jax.tree.leaves(sensor) for sensor in self.sensors], jnp.float32)
        (which, pixel), (factor,) = draw(key, uniform=[(), ()], bell=[(len(leaves),)])
        numbers = table[(which * len(self.sensors)).astype(jnp.int32)]
        drawn: SensorSpec = jax.tree.unflatten(
            structure, list(numbers * jnp.exp(self.jitter * factor))
        )
        plain: SensorSpec = jax.tree.unflatten(structure, list(numbers))
        pixels = jnp.array(self.pixels)[(pixel * len(self.pixels)).astype(jnp.int32)]
        bounded: dict[str, Any] = {
            "smooth_fraction": jnp.minimum(drawn.smooth_fraction, 0.95),
            "hole_sigma": jnp.maximum(drawn.hole_sigma, 2.0),
            "range_mm": plain.range_mm,
            "pixel_px": plain.pixel_px * pixels,
        }
        return dataclasses.replace(drawn, **bounded)


# Sensors with other numbers than those of the mixture by default, to validate transfer on.
SHIFTED_SENSORS = SensorMix(
    sensors=(
        dataclasses.replace(
            STRUCTURED_LIGHT,
            axial_mm=(2.0, 3.0, 0.4),
            disparity_mm=500.0 * 60.0 * 8.0,
            hole_sigma=2.5,
        ),
        dataclasses.replace(
            TIME_OF_FLIGHT, flying_px=1.0, offset_mm=5.0, bias_mm=3.0, edge_cosine=0.3
        ),
        dataclasses.replace(STEREO, axial_mm=(0.8, 9.0, 0.3), fatten_px=2.5, smooth_fraction=0.7),
    ),
    jitter=0.2,
    pixels=(1.0, 1.5, 2.5),
)
