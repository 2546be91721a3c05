"""Draws where joints lie in a rendered hand: ours with both ends of fingers, NYU's and ICVL's.

python benchmarks/hand_joints.py --out docs/images/hand_joints.png
"""

import argparse
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from a2j_jax import pictures
from a2j_jax.geometry import Camera, xyz_to_uvd
from a2j_jax.synthetic import hand
from a2j_jax.synthetic.render import RoundCones, render
from a2j_jax.tracks import HANDS2017, ICVL, NYU, Skeleton

CAMERA = Camera(2000.0, 2000.0, 190.0, 400.0)  # far away: nearly parallel rays
SIZE = (440, 470)  # px
DISTANCE_MM = 1000.0
AVERAGE = hand.average_hand()
OPEN = hand.HandPose(
    flexion=jnp.zeros((5, 3)),
    spread=jnp.deg2rad(0.4 * hand.SPREAD_DEG),
    cup=jnp.zeros(()),
    thumb=jnp.deg2rad(jnp.array([45.0, 12.0, 40.0])),
    wrist=jnp.zeros(2),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="hand_joints.png", help="PNG or SVG")
    out = parser.parse_args().out
    posed = hand.forward_kinematics(AVERAGE, OPEN)
    surface = hand.hand_cones(AVERAGE, posed)
    ends = to_camera(np.asarray(surface.ends_mm))
    hits = render(
        jnp.arange(SIZE[0]),
        jnp.arange(SIZE[1]),
        CAMERA,
        RoundCones(jnp.asarray(ends), surface.radii_mm),
    )
    shade = np.where(np.isfinite(hits.depth_mm), 0.45 + 0.5 * np.asarray(hits.cosine), 1.0)

    joints = np.asarray(posed.joints_mm)
    nyu, known = hand.hand_to_nyu14(joints)
    figure = pictures.new_figure(12.0, 4.4)
    figure.set_layout_engine("constrained", h_pad=0.12)
    ours, theirs, icvl = figure.subplots(1, 3)
    draw(ours, shade, joints, HANDS2017, "HANDS 2017 and rendered hands")
    skin = pixels(hand.skin_tips(joints)[8::3])
    ours.plot(*skin.T, "x", color="black", label="skin_tips: end of the finger", markersize=7)
    ours.plot([], [], "o", color="black", label="joint; TIP is the center of a ball")
    for (u, v), radius in zip(pixels(joints[8::3]), hand.RADIUS_MM[:, 3], strict=True):
        angle = np.linspace(0, 2 * np.pi, 60)
        across = radius * CAMERA.fx / DISTANCE_MM
        ours.plot(
            u + across * np.cos(angle), v + across * np.sin(angle), ":", color="black", linewidth=1
        )
    ours.legend(loc="lower left", fontsize=7)
    draw(theirs, shade, np.where(known[:, None], nyu, np.nan), NYU, "NYU, 11 of 14 joints")
    draw(icvl, shade, hand.hand_to_icvl16(joints), ICVL, "ICVL, 16 joints")
    print(pictures.save_figure(figure, out))


def to_camera(points: NDArray[Any]) -> NDArray[Any]:
    """Hand-frame points (..., 3) in front of the camera, the palm facing it, fingers up."""
    return points * [1.0, -1.0, -1.0] + [0.0, 0.0, DISTANCE_MM]


def pixels(points: NDArray[Any]) -> NDArray[Any]:
    """(N, 3) mm in the hand frame -> (N, 2) px."""
    return xyz_to_uvd(to_camera(points), CAMERA)[:, :2]


def draw(
    axes: Any, shade: NDArray[Any], joints: NDArray[Any], skeleton: Skeleton, title: str
) -> None:
    """One hand with the joints (K, 3) and bones of a skeleton, named where there is room."""
    axes.imshow(shade, cmap="gray", vmin=0, vmax=1)
    uv = pixels(joints)
    for (a, b), limb in zip(skeleton.bones, skeleton.bone_limbs, strict=True):
        axes.plot(*uv[[a, b]].T, color=pictures.LIMB_COLORS[limb], linewidth=1.2)
    for (u, v), name in zip(uv, skeleton.joints, strict=True):
        if np.isfinite(u):
            axes.plot(u, v, "o", color="black", markersize=3.5)
            axes.annotate(name, (u, v), (4, 0), textcoords="offset points", fontsize=5.5)
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()
    axes.set(xlim=(0, SIZE[0]), ylim=(SIZE[1], 0))


if __name__ == "__main__":
    main()
