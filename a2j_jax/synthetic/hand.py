"""An articulated hand: sampled anatomy and pose, forward kinematics, and a surface of round cones.

The *hand frame* of a right hand: origin at the wrist, +y along the fingers, +x to the thumb side, +z out of the palm;
right-handed, mm. A left hand is its mirror image in x. Fingers are ordered thumb, index, middle, ring, pinky; each is a
chain of four joints called MCP, PIP, DIP, TIP, which for the thumb are the anatomical CMC, MCP, IP and tip. Joints are
ordered as in HANDS 2017: wrist, five MCP, then PIP, DIP, TIP of each finger. Every joint is the end of some cone, so at
least one radius inside the surface.

Where a joint lies: the wrist in the middle of the wrist, at the crease toward the palm; MCP, PIP and DIP on the axis
about which the bone beyond them turns, in the middle of the flesh; the thumb's first joint where its metacarpal meets
the wrist, 29 mm from there. TIP is the center of the ball that ends the finger, 7 to 9 mm under the skin of an average
adult, as NYU's labels are; `skin_tips` moves it to the end of the finger. `hand_to_nyu14` and `hand_to_icvl16` give the
joints of other data sets.
"""

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from a2j_jax.synthetic.render import RoundCones, along, join_cones, overlap, stack_cones
from a2j_jax.synthetic.sampling import draw, lerp, rotation

# Lengths of (proximal, middle, distal) bone; for the thumb (metacarpal, proximal, distal), mm.
# Means of 66 adults, Buryanov & Kotiuk (2010), "Proportions of hand segments", Int. J. Morphol.
# 28(3), Table I.
PHALANX_MM = np.array(
    [
        [46.2, 31.6, 21.7],
        [39.8, 22.4, 15.8],
        [44.6, 26.3, 17.4],
        [41.4, 25.7, 17.3],
        [32.7, 18.1, 16.0],
    ],
    np.float32,
)
# Each finger's MCP (the thumb's CMC), mm. Distances from the wrist are the metacarpals of the same table (68, 65, 58,
# 54) plus about 23 of carpus; the fan is 60 mm wide, 84 mm with the flesh of both edges; z is the transverse arch of
# the palm.
MCP_MM = np.array([[19, 20, 7], [25, 87, 0], [3, 88, -3], [-17, 80, -2], [-35, 69, 2]], np.float32)
# Radius of the flesh at MCP, PIP, DIP, TIP, mm: half the breadth of adults' finger joints (index PIP about 19 mm), as
# in NYU's frames.
RADIUS_MM = np.array(
    [
        [15.5, 12.4, 10.8, 9.0],
        [11.4, 9.7, 8.9, 7.9],
        [11.6, 9.9, 9.0, 8.0],
        [11.0, 9.4, 8.6, 7.6],
        [10.2, 8.7, 7.9, 6.9],
    ],
    np.float32,
)
# Direction of a straight finger, degrees from +y toward the thumb side.
FAN_DEG = np.array([0.0, 5.0, 0.5, -4.5, -11.0], np.float32)
# Maximum spread at the MCP from there, degrees toward the thumb side.
SPREAD_DEG = np.array([0.0, 12.0, 1.0, -9.0, -15.0], np.float32)
# Flexion of each finger's carpometacarpal joint when the palm is fully cupped, degrees.
ARCH_DEG = np.array([0.0, 0.0, 2.0, 9.0, 17.0], np.float32)

# Limits of the joints, degrees (flexion positive), within the active ranges of healthy adults.
MCP_LIMIT_DEG = (-20.0, 90.0)
PIP_LIMIT_DEG = (0.0, 108.0)
DIP_LIMIT_DEG = (-5.0, 78.0)
THUMB_MCP_LIMIT_DEG = (-8.0, 55.0)
THUMB_IP_LIMIT_DEG = (-15.0, 80.0)
WRIST_FLEXION_LIMIT_DEG = (-60.0, 65.0)
WRIST_DEVIATION_LIMIT_DEG = (-32.0, 20.0)  # negative: toward the little finger
SPREAD_LIMIT_DEG = (-20.0, 20.0)
THUMB_LIMIT_DEG = ((-5.0, 65.0), (0.0, 55.0), (-25.0, 75.0))  # of the angles of `HandPose.thumb`


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HandSpec:
    """The distribution of hands. A pytree: other numbers do not recompile anything, other static fields do.

    The defaults are the hands of the published quickstart; `VARIED` has more people and poses. Probabilities and ranges
    count where the static field above them is True.
    """

    # Poses drawn for every hand, of which the least self-intersecting is taken.
    candidates: int = field(default=4, metadata={"static": True})
    # False: overall size U(0.85, 1.25) and proportions that vary bone by bone. True: children too, and proportions
    # that vary together; see `_sample_person`.
    people: bool = field(default=False, metadata={"static": True})
    child_probability: float = 0.2  # share of children, of these overall sizes, uniform
    child_scale: tuple[float, float] = (0.6, 0.85)
    adult_scale: tuple[float, float] = (
        0.85,
        1.25,
    )  # uniform: wider than people, as cameras' scales err
    # False: `sample_pose` alone. True: natural poses and gestures with the probabilities that follow (their sum is at
    # most 1), and `sample_pose` for the rest; see `_sample_mixed`.
    gestures: bool = field(default=False, metadata={"static": True})
    natural: float = 0.30  # coordinated as in recorded poses: pose_prior.json
    pinch: float = 0.15  # the thumb's tip touches that of a finger, half of the time the index
    fist: float = 0.07
    pointing: float = 0.06  # with the index, the thumb folded or not
    counting: float = 0.09  # every subset of fingers stretched, the others folded
    flat: float = 0.05  # fingers together to spread
    claw: float = 0.04  # stretched at the MCP, bent beyond


VARIED = HandSpec(candidates=6, people=True, gestures=True)


class HandShape(NamedTuple):
    """One person's hand."""

    scale: jax.Array  # () overall size; 1 is about 190 mm from the wrist crease to the middle tip
    mcp_mm: jax.Array  # (5, 3) first joint of every finger in the hand frame, palm flat
    phalanx_mm: jax.Array  # (5, 3) bone lengths
    radius_mm: jax.Array  # (5, 4) radius of the flesh at the joints of every finger
    thickness: jax.Array  # () of palm, wrist and forearm, relative to the average at this scale
    # () widening of the forearm, or its sleeve, toward the elbow, relative to the average.
    forearm: jax.Array


class HandPose(NamedTuple):
    """Joint angles in radians."""

    # (5, 3) at MCP, PIP, DIP of every finger; the thumb's first entry is 0, its CMC joint being described by
    # `thumb`.
    flexion: jax.Array
    # (5,) sideways angle at the MCP, toward the thumb side positive; 0 for the thumb.
    spread: jax.Array
    cup: jax.Array  # () of the palm, 0 (flat) to 1
    # (3,) of the thumb's metacarpal: angle from +y toward the thumb side in the plane of the palm, elevation
    # out of that plane, and roll of the thumb's pulp, from facing the index finger (0) to facing as the palm
    # does (π/2).
    thumb: jax.Array
    # (2,) flexion (toward the palm) and deviation (toward the thumb) of the hand on the forearm.
    wrist: jax.Array


class Kinematics(NamedTuple):
    """A posed hand in the hand frame."""

    joints_mm: jax.Array  # (21, 3) in HANDS 2017 order
    # (3, 3) rotation; columns are its x (thumb side), y (toward the hand) and z (palm side) axes.
    forearm: jax.Array


def average_hand() -> HandShape:
    """The hand of scale 1 that the tables above describe."""
    one = jnp.ones(())
    mcp, phalanx, radius = map(jnp.asarray, (MCP_MM, PHALANX_MM, RADIUS_MM))
    return HandShape(one, mcp, phalanx, radius, thickness=one, forearm=one)


def sample_shape(key: jax.Array, spec: HandSpec = HandSpec()) -> HandShape:
    """A random hand: overall size U(0.85, 1.25), proportions varied bone by bone by about 5 %.

    NYU's two test subjects are about 1.22 and 1.04; 0.85 is a small woman's hand.
    """
    if spec.people:
        return _sample_person(key, spec)
    (size, forearm), (finger, bone, mcp, girth, joint, flesh, palm) = draw(
        key, uniform=[(), ()], bell=[(5, 1), (5, 3), (5, 3), (5, 1), (5, 4), (), ()]
    )
    scale = lerp((0.85, 1.25), size)
    length = (1.0 + 0.04 * finger) * (1.0 + 0.04 * bone)
    thickness = (1.0 + 0.05 * girth) * (1.0 + 0.02 * joint) * (1.0 + 0.07 * flesh)
    return HandShape(
        scale=scale,
        mcp_mm=scale * MCP_MM * (1.0 + 0.04 * mcp),
        phalanx_mm=scale * PHALANX_MM * length,
        radius_mm=scale * RADIUS_MM * thickness,
        thickness=1.0 + 0.07 * palm,
        forearm=lerp((0.85, 1.3), forearm),
    )


def _sample_person(key: jax.Array, spec: HandSpec) -> HandShape:
    """A child's or an adult's hand; lengths of fingers, breadth of the palm and girth vary together.

    Given its size, three factors explain most of how a hand differs from others: breadth, length of the palm and of the
    fingers (Jee & Yun 2016, "An anthropometric survey of Korean hand and hand shape types", Int. J. Industrial
    Ergonomics 53). Breadth over length varies by 5 % between people (Ibeachu et al. 2011, "Anthropometric sexual
    dimorphism of hand length, breadth and hand indices", Asian J. Medical Sciences 3(8)); broad hands are thick ones.
    From 3 to 10 years fingers become 37 % longer and 20 % thicker ("Lengths, girths, and diameters of children's
    fingers from 3 to 10 years of age", Ann. Anat. 192(3), 2010): girth goes with the power 0.58 of length.
    """
    (child, size, forearm), bells = draw(
        key,
        uniform=[(), (), ()],
        bell=[(), (), (), (), (5, 1), (5, 3), (5, 3), (5, 1), (5, 4)],
    )
    long, broad, stout, thick, finger, bone, mcp, girth, joint = bells
    adult = lerp(spec.adult_scale, size)
    scale = jnp.where(child < spec.child_probability, lerp(spec.child_scale, size), adult)
    chubby = jnp.minimum(scale / spec.adult_scale[0], 1.0) ** -0.42
    stout = 0.6 * broad + 0.8 * stout
    palm = jnp.stack([1.0 + 0.05 * broad, 1.0 - 0.03 * long, jnp.ones(())])
    length = (1.0 + 0.045 * long) * (1.0 + 0.02 * finger) * (1.0 + 0.03 * bone)
    thickness = chubby * (1.0 + 0.07 * stout) * (1.0 + 0.03 * girth) * (1.0 + 0.02 * joint)
    return HandShape(
        scale=scale,
        mcp_mm=scale * MCP_MM * palm * (1.0 + 0.025 * mcp),
        phalanx_mm=scale * PHALANX_MM * length,
        radius_mm=scale * RADIUS_MM * thickness,
        thickness=jnp.sqrt(chubby) * (1.0 + 0.05 * stout + 0.04 * thick),
        forearm=lerp((0.85, 1.3), forearm),
    )


def sample_pose(key: jax.Array) -> HandPose:
    """A random pose within the anatomical limits.

    One latent curls the entire hand; fingers follow it with a deviation that is a random walk from finger to finger. In
    a third of the hands each finger is instead stretched or folded independently, as in counting and pointing. A second
    latent trades MCP against PIP flexion (hook grip ↔ table top). DIP follows two thirds of PIP, as tendons couple
    them. Curled fingers cannot be spread.
    """
    (whole, gesture, folded, level, spreading, cupping, opposing, opening, bending), own = draw(
        key,
        uniform=[(), (), (5,), (5,), (), (), (), (), (2,)],
        bell=[(5,), (), (5,), (5,), (5,), (5,), (), (), (3,)],
    )
    step, hook, mcp_own, pip_own, dip_own, spread_own, flex, deviate, thumb_own = own
    walk = jnp.cumsum(0.14 * step)
    together = whole**1.3 + walk - jnp.mean(walk)
    alone = jnp.where(folded < 0.5, 0.75 + 0.3 * level, 0.22 * level)
    curl = jnp.where(gesture < 0.35, alone, together)

    mcp_curl = jnp.clip(curl + 0.15 * hook + 0.08 * mcp_own, 0.0, 1.0)
    pip_curl = jnp.clip(curl - 0.15 * hook + 0.08 * pip_own, 0.0, 1.0)
    mcp = lerp(MCP_LIMIT_DEG, mcp_curl)
    pip = lerp(PIP_LIMIT_DEG, pip_curl)
    dip = jnp.clip(pip * 2.0 / 3.0 + 4.0 * dip_own, *DIP_LIMIT_DEG)
    spread = lerp((-0.3, 1.0), spreading) * jnp.asarray(SPREAD_DEG) + 2.5 * spread_own
    spread = spread * (1.0 - 0.85 * mcp_curl)
    cup = jnp.clip(0.6 * cupping + 0.5 * (jnp.mean(curl) - 0.3), 0.0, 1.0)

    thumb, thumb_mcp, thumb_ip = _thumb(curl[0], opposing, opening, bending, thumb_own)
    flexion: jax.Array = jnp.stack([mcp, pip, dip], axis=-1)
    flexion = flexion.at[0].set(jnp.stack([jnp.zeros(()), thumb_mcp, thumb_ip]))
    bent = jnp.clip(28.0 * flex, *WRIST_FLEXION_LIMIT_DEG)
    deviated = jnp.clip(11.0 * deviate - 4.0, *WRIST_DEVIATION_LIMIT_DEG)
    return HandPose(
        flexion=jnp.deg2rad(flexion),
        spread=jnp.deg2rad(spread.at[0].set(0.0)),
        cup=cup,
        thumb=jnp.deg2rad(thumb),
        wrist=jnp.deg2rad(jnp.stack([bent, deviated])),
    )


def _thumb(
    curl: jax.Array, opposing: jax.Array, opening: jax.Array, bending: jax.Array, own: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Thumb angles in degrees: the three of `HandPose.thumb`, flexion at MCP and at IP.

    The more the thumb opposes the fingers, the more its metacarpal rises out of the palm, swings in front of it and
    rolls toward the fingers. opposing (), opening () and bending (2,) are uniform variables, own (3,) bell-shaped ones.
    """
    oppose = jnp.clip(0.45 * curl + 0.7 * opposing - 0.05, 0.0, 1.0)
    azimuth = 28.0 + 27.0 * opening - 8.0 * oppose + 4.0 * own[0]
    elevation = 8.0 + 34.0 * oppose + 5.0 * own[1]
    roll = 52.0 - 45.0 * oppose + 8.0 * own[2]
    bend = jnp.clip(0.5 * curl + bending - 0.35, 0.0, 1.0)
    mcp = lerp(THUMB_MCP_LIMIT_DEG, 0.12 + 0.88 * bend[0])
    ip = lerp(THUMB_IP_LIMIT_DEG, 0.1 + 0.9 * bend[1])
    return jnp.stack([azimuth, elevation, roll]), mcp, ip


def forward_kinematics(shape: HandShape, pose: HandPose) -> Kinematics:
    """Places the 21 joints of a posed hand in the hand frame; bone lengths are the shape's."""
    bases = _finger_bases(pose)
    cupped = rotation("x", pose.cup * jnp.deg2rad(ARCH_DEG))
    mcp = jnp.einsum("fij,fj->fi", cupped, shape.mcp_mm)
    position, turn = mcp, cupped @ bases @ rotation("z", -pose.spread)
    chain = []
    for bone in range(3):
        turn = turn @ rotation("x", pose.flexion[:, bone])
        position = position + turn[..., 1] * shape.phalanx_mm[:, bone, None]
        chain.append(position)
    fingers = jnp.stack(chain, axis=1)  # (5, 3, 3): PIP, DIP, TIP
    joints = jnp.concatenate([jnp.zeros((1, 3)), mcp, fingers.reshape(15, 3)])
    # Flexing the hand by θ on a resting forearm is the forearm turned by −θ under a resting hand.
    forearm = rotation("x", -pose.wrist[0]) @ rotation("z", pose.wrist[1])
    return Kinematics(joints, forearm)


def _finger_bases(pose: HandPose) -> jax.Array:
    """(5, 3, 3): columns are a finger's hinge axis, its pointing direction, its pulp side."""
    straight = rotation("z", -jnp.deg2rad(jnp.asarray(FAN_DEG)))
    azimuth, elevation, roll = pose.thumb
    level = jnp.cos(elevation)
    along = jnp.stack([jnp.sin(azimuth) * level, jnp.cos(azimuth) * level, jnp.sin(elevation)])
    facing = jnp.stack([-jnp.cos(roll), jnp.zeros(()), jnp.sin(roll)])
    pulp = facing - jnp.dot(facing, along) * along
    pulp = pulp / jnp.linalg.norm(pulp)
    thumb = jnp.stack([jnp.cross(along, pulp), along, pulp], axis=-1)
    return straight.at[0].set(thumb)


_MCP = np.arange(1, 6)  # joint indices, thumb first
_PIP = np.arange(6, 21, 3)

# Proximal ends of the four metacarpals of index … pinky, hand frame of a hand of scale 1, mm.
CARPAL_MM = np.array([[14, 21, 1], [4, 22, -2], [-7, 21, -2], [-18, 19, 1]], np.float32)
FOREARM_MM = 230.0  # length of the modeled part of the forearm


def hand_cones(shape: HandShape, posed: Kinematics) -> RoundCones:
    """The surface of a posed hand with forearm, in the hand frame, mm: 39 round cones."""
    parts = _fingers, _palm, _thenar, _forearm
    return join_cones(*(part(shape, posed) for part in parts))


def _chains(posed: Kinematics) -> jax.Array:
    """(5, 4, 3): MCP, PIP, DIP and TIP of every finger."""
    joints = posed.joints_mm
    return jnp.concatenate([joints[_MCP][:, None], joints[6:].reshape(5, 3, 3)], axis=1)


def _fingers(shape: HandShape, posed: Kinematics) -> RoundCones:
    """Three cones per finger, MCP-PIP-DIP-TIP; the thumb's first is its metacarpal. 15 cones."""
    chain, r = _chains(posed), shape.radius_mm
    return stack_cones((chain[:, :-1], chain[:, 1:], r[:, :-1], r[:, 1:]))


def _palm(shape: HandShape, posed: Kinematics) -> RoundCones:
    """Metacarpals, fillers between them that make the palm a slab, knuckle ridge and finger webs. 15 cones."""
    flesh = shape.scale * shape.thickness
    carpal = shape.scale * CARPAL_MM
    mcp, pip = posed.joints_mm[_MCP][1:], posed.joints_mm[_PIP][1:]
    knuckle = shape.radius_mm[1:, 0] * 1.06
    four, three = jnp.ones(4), jnp.ones(3)
    between_mcp = along(mcp[1:], mcp[:-1], 0.5)
    between_carpal = along(carpal[1:], carpal[:-1], 0.5)
    hollow = 2.0 * flesh * jnp.array([0.0, 0.0, 1.0])
    # A web reaches almost halfway up the proximal phalanges.
    web = along(between_mcp, along(pip[1:], pip[:-1], 0.5), 0.36)
    thin = jnp.minimum(knuckle[1:], knuckle[:-1])
    return stack_cones(
        (carpal, mcp, 14.0 * flesh * four, knuckle),
        (between_carpal, between_mcp, 13.5 * flesh * three, thin * 0.97),
        (mcp[1:], mcp[:-1], knuckle[1:] * 0.93, knuckle[:-1] * 0.93),
        (carpal[1:3] + hollow, mcp[1:3] + hollow, 12.5 * flesh * jnp.ones(2), knuckle[1:3] * 0.95),
        (between_mcp, web, thin * 0.92, thin * 0.62),
    )


def _thenar(shape: HandShape, posed: Kinematics) -> RoundCones:
    """The thumb's and the little finger's muscles, and the web between thumb and index. 5 cones."""
    flesh = shape.scale * shape.thickness
    joints, palmward = posed.joints_mm, jnp.array([0.0, 0.0, 1.0])
    thumb_cmc, thumb_mcp, index_mcp, pinky_mcp = joints[1], joints[6], joints[2], joints[5]
    index_carpal, heel = shape.scale * CARPAL_MM[0], shape.scale * jnp.array([-22.0, 20.0, 4.0])
    ball = shape.scale * jnp.array([14.0, 20.0, 5.0])
    thumb_mid, thumb_far = (along(thumb_cmc, thumb_mcp, f) for f in (0.5, 0.8))
    return stack_cones(
        (ball, heel, 15.5 * flesh, 15.5 * flesh),
        (ball, along(ball, thumb_mcp, 0.75), 17.0 * flesh, 14.5 * flesh),
        (thumb_far, along(index_carpal, index_mcp, 0.62), 7.5 * flesh, 8.5 * flesh),
        (thumb_mid, along(index_carpal, index_mcp, 0.35), 11.5 * flesh, 12.0 * flesh),
        (heel, along(heel, pinky_mcp, 0.85) + 2.5 * palmward * flesh, 16.5 * flesh, 12.5 * flesh),
    )  # fmt: skip


def _forearm(shape: HandShape, posed: Kinematics) -> RoundCones:
    """Radius and ulna side of the forearm, from an oval wrist of about 58 × 38 mm. 4 cones."""
    flesh = shape.scale * shape.thickness
    side = posed.forearm[:, 0]
    elbow = -FOREARM_MM * posed.forearm[:, 1] * shape.scale
    narrow, wide = side * 10.0 * flesh, side * 15.0 * flesh
    r_wrist, r_elbow = 19.0 * flesh, 34.0 * flesh * shape.forearm
    carpal = shape.scale * CARPAL_MM
    return stack_cones(
        (narrow, elbow + wide, r_wrist, r_elbow),
        (-narrow, elbow - wide, r_wrist, r_elbow),
        (narrow, carpal[0], r_wrist * 0.98, 14.5 * flesh),
        (-narrow, carpal[3], r_wrist * 0.98, 14.5 * flesh),
    )


def penetration(shape: HandShape, posed: Kinematics) -> jax.Array:
    """How far fingers intersect each other and the palm: `overlap`, () mm².

    Its balls are at the joints and in the middle of the bones beyond the MCP, and in the palm.
    """
    chain, r = _chains(posed), shape.radius_mm
    balls = jnp.concatenate([(chain[:, 1:] + chain[:, :-1]) / 2, chain[:, 1:]], axis=1)
    radii = jnp.concatenate([(r[:, 1:] + r[:, :-1]) / 2, r[:, 1:]], axis=1)
    carpal = shape.scale * CARPAL_MM
    palm = jnp.concatenate([along(carpal, posed.joints_mm[2:6], f) for f in (0.4, 0.75, 1.0)])
    center = jnp.concatenate([balls.reshape(-1, 3), palm])
    radius = jnp.concatenate([radii.reshape(-1), jnp.full(12, 12.0) * shape.scale])
    owner = np.concatenate([np.repeat(np.arange(5), 6), np.full(12, 5)])
    # The thumb's metacarpal and the proximal phalanges start in the palm: no overlap with it.
    rooted = np.concatenate([np.tile([1, 0, 0, 0, 0, 0], 5), np.zeros(12)]) > 0
    rooted[[0, 3]] = True
    counted = owner[:, None] < owner[None, :]
    counted &= ~(rooted[:, None] & (owner == 5)[None, :])
    return overlap(center, radius, counted)


# Poses as vectors of 21 angles, degrees: flexion at MCP, PIP and DIP of index … pinky, spread of index … pinky, and the
# thumb's azimuth, elevation, roll (`HandPose.thumb`) and flexion at MCP and IP.
_LIMITS_DEG = np.array(
    [
        *[MCP_LIMIT_DEG, PIP_LIMIT_DEG, DIP_LIMIT_DEG] * 4,
        *[SPREAD_LIMIT_DEG] * 4,
        *[*THUMB_LIMIT_DEG, THUMB_MCP_LIMIT_DEG, THUMB_IP_LIMIT_DEG],
    ],
    np.float32,
).T
_THUMB = slice(16, 21)
# The prior of natural poses: a mixture of Gaussians (weight, center, deviation) of the first principal axes around
# the mean, and independent noise (residual). `benchmarks/fit_pose_prior.py` fits it and names its source.
_PRIOR = {
    name: np.array(values, np.float32)
    for name, values in json.loads(Path(__file__).with_name("pose_prior.json").read_text()).items()
    if name != "source"
}
# Flexion at MCP, PIP, DIP of a stretched, a folded and a clawed finger, and how much it varies.
_FINGER_DEG = np.array([[2, 5, 4], [80, 100, 62], [2, 72, 48]], np.float32)
_FINGER_SIGMA_DEG = np.array([[7, 5, 4], [6, 6, 9], [10, 12, 10]], np.float32)
# Thumb angles, found by minimizing the distance to what they touch and `penetration`: over the middle phalanx of the
# first folded finger, index … pinky; across the palm of four stretched fingers; over index and middle finger of a fist.
_THUMB_OVER_DEG = np.array(
    [
        [41, 28, 8, 44, 38],
        [24, 35, 8, 44, 33],
        [10, 41, 9, 48, 31],
        [-5, 44, 10, 55, 24],
        [20, 26, 0, 54, 66],
        [35, 39, -8, 43, 36],
    ],
    np.float32,
)
_THUMB_OUT_DEG = np.array([52, 14, 40, 4, 2], np.float32)
_THUMB_FLAT_DEG = np.array([22, 8, 35, 4, 4], np.float32)  # beside the hand
_THUMB_BESIDE_DEG = np.array([42, 9, 21, 33, 31], np.float32)  # beside a fist
_THUMB_CLAW_DEG = np.array([46, 28, 20, 12, 38], np.float32)
# Pinches of thumb and index … pinky, found likewise: thumb; the finger's flexion, bent and rather straight; cup.
_PINCH_THUMB_DEG = np.array(
    [[36, 34, 7, 26, 18], [28, 41, 8, 32, 20], [20, 49, 10, 39, 20], [2, 46, 17, 52, 26]],
    np.float32,
)
_PINCH_DEG = np.array(
    [
        [[52, 45, 24], [71, 26, 8]],
        [[57, 50, 27], [78, 28, 8]],
        [[55, 52, 28], [75, 33, 9]],
        [[41, 85, 46], [56, 53, 15]],
    ],
    np.float32,
)
_PINCH_CUP = np.array([0.1, 0.3, 0.6, 1.0], np.float32)
_NATURAL, _PINCH, _FIST, _POINTING, _COUNTING, _FLAT, _CLAW = range(7)
# Folded into the key of a hand, and of a pose, for what `sample_pose` does not draw.
_GESTURES = 1 << 20
# Probability that each finger is stretched, by kind of gesture.
_STRETCHED = np.zeros((8, 5), np.float32)
_STRETCHED[_POINTING] = 0.35, 1.0, 0.0, 0.0, 0.0
_STRETCHED[_COUNTING] = 0.5
_STRETCHED[_FLAT] = 1.0


class _Gesture(NamedTuple):
    """What the candidates of one hand have in common: if it differed, the least tangled would be the open hand."""

    kind: jax.Array  # () from _NATURAL to _CLAW; beyond: `sample_pose`
    part: jax.Array  # () Gaussian of the prior
    stretched: jax.Array  # (5,) bool
    thumb: jax.Array  # (5,) mean of its angles, degrees
    finger: jax.Array  # () that the thumb touches: 0 is the index
    touches: jax.Array  # () bool
    style: jax.Array  # () uniform on [0, 1)


def _choose_gesture(key: jax.Array, spec: HandSpec) -> _Gesture:
    """A random gesture with the probabilities of the settings."""
    (which, part, stretched, finger, style), _ = draw(key, uniform=[(), (), (5,), (), ()])
    shares = (
        *(spec.natural, spec.pinch, spec.fist, spec.pointing),
        *(spec.counting, spec.flat, spec.claw),
    )
    kind = jnp.sum(which >= jnp.cumsum(jnp.stack([jnp.asarray(share) for share in shares])))
    up = stretched < jnp.asarray(_STRETCHED)[kind]

    # The thumb lies over the first folded finger; over the middle one in half of the fists, beside all in a quarter.
    first = jnp.where(jnp.all(up[1:]), 4, jnp.argmin(up[1:]))
    first = jnp.where((kind == _FIST) & (style < 0.5), 5, first)
    beside = (kind == _FIST) & (style > 0.75)
    thumb = jnp.where(up[0], _THUMB_OUT_DEG, jnp.asarray(_THUMB_OVER_DEG)[first])
    thumb = jnp.where(beside, _THUMB_BESIDE_DEG, thumb)
    thumb = jnp.where(kind == _FLAT, lerp((_THUMB_FLAT_DEG, _THUMB_OUT_DEG), style), thumb)
    thumb = jnp.where(kind == _CLAW, _THUMB_CLAW_DEG, thumb)
    over = (kind == _FIST) | (kind == _POINTING) | (kind == _COUNTING)
    over &= ~up[0] & (first < 4) & ~beside

    # Half of the pinches are of the index, a quarter of the middle finger, an eighth of each other one.
    pinch, pinched = kind == _PINCH, jnp.sum(finger > np.array([0.5, 0.75, 0.875]))
    return _Gesture(
        kind=kind,
        part=jnp.sum(part > jnp.cumsum(_PRIOR["weight"])[:-1]),
        stretched=up,
        thumb=jnp.where(pinch, jnp.asarray(_PINCH_THUMB_DEG)[pinched], thumb),
        finger=jnp.where(pinch, pinched, jnp.minimum(first, 3)),
        touches=over | pinch,
        style=style,
    )


def _sample_mixed(key: jax.Array, gesture: _Gesture, shape: HandShape) -> HandPose:
    """A random pose of a natural hand or of a gesture, or of `sample_pose`."""
    independent = sample_pose(key)
    (level, fan, cupping), (score, noise, common) = draw(
        jax.random.fold_in(key, _GESTURES),
        uniform=[(), (), ()],
        bell=[(len(_PRIOR["axes"]),), (21,), (3,)],
    )
    kind, pinch = gesture.kind, gesture.kind == _PINCH
    deviation = jnp.asarray(_PRIOR["deviation"])[gesture.part]
    scores = jnp.asarray(_PRIOR["center"])[gesture.part] + deviation * score
    natural = _PRIOR["mean"] + scores @ _PRIOR["axes"] + (_PRIOR["residual"] + 2.0) * noise

    own = noise[:12].reshape(4, 3)
    # The other fingers of a pinch are between stretched and half folded.
    folded = jnp.where(pinch, 0.75 * level, 1.0 - gesture.stretched[1:])[:, None]
    fingers = lerp((_FINGER_DEG[0], _FINGER_DEG[1]), folded)
    fingers += own * lerp((_FINGER_SIGMA_DEG[0], _FINGER_SIGMA_DEG[1]), folded)
    clawed = _FINGER_DEG[2] + _FINGER_SIGMA_DEG[2] * (common + 0.4 * own)
    fingers = jnp.where(kind == _CLAW, clawed, fingers)
    bent, straight = jnp.asarray(_PINCH_DEG)[gesture.finger]
    pinching = pinch & (jnp.arange(4) == gesture.finger)[:, None]
    fingers = jnp.where(pinching, lerp((bent, straight), gesture.style) + 4.0 * own, fingers)
    spread = lerp((-0.3, 1.0), fan) * SPREAD_DEG[1:] + 2.0 * noise[12:16]
    spread *= 1.0 - 0.85 * jnp.clip(fingers[:, 0] / 90.0, 0.0, 1.0)
    thumb = gesture.thumb + jnp.array([4.0, 4.0, 7.0, 6.0, 8.0]) * noise[_THUMB]

    made = jnp.concatenate([fingers.reshape(12), spread, thumb])
    angles = jnp.where(kind == _NATURAL, natural, made)
    curl = jnp.mean(angles[:12:3]) / 90.0
    cup = jnp.clip(0.6 * cupping + 0.5 * (curl - 0.3), 0.0, 1.0)
    reached = jnp.where(pinch, jnp.asarray(_PINCH_CUP)[gesture.finger], 0.0)
    cup = jnp.maximum(cup, reached)
    angles = _touch(angles, cup, shape, gesture.finger + 1, pinch, gesture.touches)
    mixed = _pose_of(angles, cup)._replace(wrist=independent.wrist)
    return jax.tree.map(lambda a, b: jnp.where(kind > _CLAW, a, b), independent, mixed)


def _pose_of(angles: jax.Array, cup: jax.Array) -> HandPose:
    """The pose of a vector (21,) of angles, within the limits; flexion by the palm's cup is part of the MCP's."""
    angles = angles.at[:12:3].add(-ARCH_DEG[1:] * cup)
    angles = jnp.deg2rad(jnp.clip(angles, *_LIMITS_DEG))
    thumb = jnp.concatenate([jnp.zeros(1), angles[19:21]])
    return HandPose(
        flexion=jnp.concatenate([thumb[None], angles[:12].reshape(4, 3)]),
        spread=jnp.concatenate([jnp.zeros(1), angles[12:16]]),
        cup=cup,
        thumb=angles[16:19],
        wrist=jnp.zeros(2),
    )


_TOUCH_STEPS = 3


def _touch(
    angles: jax.Array,
    cup: jax.Array,
    shape: HandShape,
    finger: jax.Array,
    at_tip: jax.Array,
    wanted: jax.Array,
) -> jax.Array:
    """Angles (21,) with which the thumb's tip touches a finger's tip, or else its middle phalanx, if wanted.

    Newton's steps on one number, the gap between two balls, along its gradient in the thumb's angles and, at a tip,
    the finger's flexion.
    """
    flexes = np.zeros((5, 21), np.float32)
    for i in range(1, 5):
        flexes[i, 3 * i - 3 : 3 * i] = 0.3
    free = jnp.where(at_tip, jnp.asarray(flexes)[finger], 0.0).at[_THUMB].set(1.0) * wanted

    def gap(angles: jax.Array) -> jax.Array:
        chain = _chains(forward_kinematics(shape, _pose_of(angles, cup)))
        touched, radii = chain[finger], shape.radius_mm[finger]
        goal = jnp.where(at_tip, touched[3], 0.5 * (touched[1] + touched[2]))
        radius = jnp.where(at_tip, 0.9 * radii[3], 0.5 * (radii[1] + radii[2]))
        return jnp.linalg.norm(chain[0, 3] - goal) - radius - shape.radius_mm[0, 3]

    def nearer(_: int, angles: jax.Array) -> jax.Array:
        value, slope = jax.value_and_grad(gap)(angles)
        step = free * slope
        return angles - jnp.clip(value, -15.0, 15.0) * step / (step @ slope + 1e-3)

    return jax.lax.fori_loop(0, _TOUCH_STEPS, nearer, angles)


def sample_hand(key: jax.Array, spec: HandSpec = HandSpec()) -> tuple[HandShape, HandPose]:
    """A random hand: a random shape in the least self-intersecting of several random poses of one kind."""
    k_shape, k_pose = jax.random.split(key)
    shape = sample_shape(k_shape, spec)
    keys = jax.random.split(k_pose, spec.candidates)
    if spec.gestures:
        gesture = _choose_gesture(jax.random.fold_in(key, _GESTURES), spec)
        poses = jax.vmap(lambda k: _sample_mixed(k, gesture, shape))(keys)
    else:
        poses = jax.vmap(sample_pose)(keys)
    tangles = jax.vmap(lambda pose: penetration(shape, forward_kinematics(shape, pose)))(poses)
    best = jnp.argmin(tangles)
    return shape, jax.tree.map(lambda x: x[best], poses)


# Joints of other data sets as points on lines between two of ours: from, to, fraction of the way.
_Points = list[tuple[int, int, float]]

# NYU's joints 0 (pinky tip) to 10 (thumb root); NYU's last three, two wrist points 30 mm apart on both sides of the
# wrist and the middle of the palm, have no counterpart. Judged by bone lengths: medians over the published test labels
# of NYU's second subject, against this anatomy at that subject's scale, mm:
#     NYU                          median    ours                             scale 1.04
#     index tip – index mid          43.7    TIP – PIP                              39.7
#     middle tip – middle mid        47.2    TIP – PIP                              45.4
#     ring tip – ring mid            42.8    TIP – PIP                              44.7
#     pinky tip – pinky mid          34.6    TIP – PIP                              35.5
#     thumb tip – thumb mid          19.5    TIP – IP (the thumb's DIP)             22.6
#     thumb mid – thumb root         37.8    IP – anatomical MCP (its PIP)          32.9
#     thumb root – wrist points      78.2    anatomical MCP – wrist                   75
NYU_JOINTS = (20, 18, 17, 15, 14, 12, 11, 9, 8, 7, 6)
_NYU: _Points = [(joint, joint, 0.0) for joint in NYU_JOINTS]

# ICVL's palm, then root, mid and tip of each finger: the middles of its three bones. Judged by bone lengths: medians
# over the published test labels, against a stretched hand of this anatomy, its thumb at 35°, mm:
#     ICVL                         median    ours                             scale 0.93
#     palm – index, …, pinky root  56.9 53.7 45.3 42.5    the palm's point below    55.3 53.2 48.2 47.9
#     root – mid, index … pinky    28.7 33.7 30.6 23.4    middles of two bones      28.8 32.9 31.1 23.5
#     mid – tip, index … pinky     18.6 21.5 20.7 18.5                              17.7 20.2 19.9 15.8
#     index root – pinky root      58.7                                             63.7
#     thumb: palm – root – mid – tip  29.8 30.9 25.4                                33.9 35.6 24.6
# The thumb's root is 5 mm off, nearer to the palm in ICVL. Root and mid could be PIP and DIP of a hand of scale 1.23 by
# the lengths along fingers alone, but not by the breadth of the hand, which would be 90 mm. The palm is at 0.6 of the
# way from the wrist to the middle finger's MCP.
_CHAINS = [(mcp, 3 * mcp + 3, 3 * mcp + 4, 3 * mcp + 5) for mcp in range(1, 6)]
_ICVL: _Points = [(0, 3, 0.6)]
_ICVL += [(a, b, 0.5) for chain in _CHAINS for a, b in itertools.pairwise(chain)]

# The end of the finger on the skin: as far beyond TIP as the radius there, in this anatomy.
_SKIN: _Points = [(joint, joint, 0.0) for joint in range(21)]
_SKIN[8::3] = [
    (dip, tip, 1.0 + float(radius / length))
    for (_, _, dip, tip), radius, length in zip(
        _CHAINS, RADIUS_MM[:, 3], PHALANX_MM[:, 2], strict=True
    )
]


def _points(joints: Any, points: _Points) -> Any:
    """Points (..., N, D) on lines between joints (..., 21, D), numpy or JAX."""
    start, end, fraction = (np.array(column) for column in zip(*points, strict=True))
    a, b = joints[..., start, :], joints[..., end, :]
    return (a + fraction[:, None].astype(joints.dtype) * (b - a)).astype(joints.dtype)


def hand_to_nyu14(joints: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Converts joints (..., 21, D) in HANDS 2017 order, any unit, to NYU's.

    Returns:
      (..., 14, D) in NYU's order, same dtype, zeros where nothing corresponds, and (14,) bool: which do.
    """
    found = _points(np.asarray(joints), _NYU)
    valid = np.arange(14) < len(_NYU)
    nyu = np.zeros((*found.shape[:-2], 14, found.shape[-1]), found.dtype)
    nyu[..., valid, :] = found
    return nyu, valid


def hand_to_icvl16(joints_xyz: npt.ArrayLike) -> np.ndarray:
    """Converts joints (..., 21, 3) in HANDS 2017 order, any unit, to ICVL's 16; their dtype is kept."""
    return _points(np.asarray(joints_xyz), _ICVL)


def skin_tips(joints_xyz_mm: Any) -> Any:
    """Moves each TIP along DIP -> TIP to the end of the finger on the skin.

    Args:
      joints_xyz_mm: (..., 21, 3) in HANDS 2017 order, numpy or JAX, any frame.

    Returns:
      The same with other TIPs. Distal bone and ball have the proportions of the average hand, so that adults' tips are
      off by half a millimeter on average.
    """
    return _points(joints_xyz_mm, _SKIN)
