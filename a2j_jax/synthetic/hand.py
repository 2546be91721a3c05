"""An articulated hand: sampled anatomy and pose, forward kinematics, and a surface of round cones.

The *hand frame* of a right hand: origin at the wrist, +y along the fingers, +x to the thumb side, +z out of the palm;
right-handed, mm. A left hand is its mirror image in x. Fingers are ordered thumb, index, middle, ring, pinky; each is a
chain of four joints called MCP, PIP, DIP, TIP, which for the thumb are the anatomical CMC, MCP, IP and tip. Joints are
ordered as in HANDS 2017: wrist, five MCP, then PIP, DIP, TIP of each finger. TIP is the center of the ball at the
fingertip, as in NYU's labels. Every joint is the end of some cone, so at least one radius inside the surface.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HandSpec:
    """The distribution of hands. A pytree: other numbers do not recompile anything, other static fields do."""

    # Poses drawn for every hand, of which the least self-intersecting is taken.
    candidates: int = field(default=4, metadata={"static": True})


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


def sample_shape(key: jax.Array) -> HandShape:
    """A random hand: overall size U(0.85, 1.25), proportions varied bone by bone by about 5 %.

    NYU's two test subjects are about 1.22 and 1.04; 0.85 is a small woman's hand.
    """
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


def sample_hand(key: jax.Array, spec: HandSpec = HandSpec()) -> tuple[HandShape, HandPose]:
    """A random hand: a random shape in the least self-intersecting of several random poses."""
    k_shape, k_pose = jax.random.split(key)
    shape = sample_shape(k_shape)
    poses = jax.vmap(sample_pose)(jax.random.split(k_pose, spec.candidates))
    tangles = jax.vmap(lambda pose: penetration(shape, forward_kinematics(shape, pose)))(poses)
    best = jnp.argmin(tangles)
    return shape, jax.tree.map(lambda x: x[best], poses)


# Our joints that are NYU's joints 0 (pinky tip) to 10 (thumb root); NYU's last three, two wrist points 30 mm apart on
# both sides of the wrist and the middle of the palm, have no counterpart. Judged by bone lengths: medians over the
# published test labels of NYU's second subject, against this anatomy at that subject's scale, mm:
#     NYU                          median    ours                             scale 1.04
#     index tip – index mid          43.7    TIP – PIP                              39.7
#     middle tip – middle mid        47.2    TIP – PIP                              45.4
#     ring tip – ring mid            42.8    TIP – PIP                              44.7
#     pinky tip – pinky mid          34.6    TIP – PIP                              35.5
#     thumb tip – thumb mid          19.5    TIP – IP (the thumb's DIP)             22.6
#     thumb mid – thumb root         37.8    IP – anatomical MCP (its PIP)          32.9
#     thumb root – wrist points      78.2    anatomical MCP – wrist                   75
NYU_JOINTS = (20, 18, 17, 15, 14, 12, 11, 9, 8, 7, 6)


def hand_to_nyu14(joints: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Converts joints (..., 21, D) in HANDS 2017 order, any unit, to NYU's.

    Returns:
      (..., 14, D) in NYU's order, same dtype, zeros where nothing corresponds, and (14,) bool: which do.
    """
    joints = np.asarray(joints)
    valid = np.arange(14) < len(NYU_JOINTS)
    nyu = np.zeros((*joints.shape[:-2], 14, joints.shape[-1]), joints.dtype)
    nyu[..., valid, :] = joints[..., NYU_JOINTS, :]
    return nyu, valid
