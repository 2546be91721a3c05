"""Made-up depth frames: spheres along bones, planes and boxes, and what a depth sensor adds."""

from functools import cached_property

import numpy as np

from a2j_jax.geometry import Camera, Float64, uvd_to_xyz, xyz_to_uvd

# Pairs of ITOP joints and the radius of what is between them, mm.
BODY = (
    *((0, 0, 110), (0, 1, 70), (1, 8, 110), (2, 3, 90), (2, 4, 60), (3, 5, 60), (4, 6, 50)),
    *((5, 7, 50), (2, 9, 110), (3, 10, 110), (8, 9, 120), (8, 10, 120), (9, 11, 90)),
    *((10, 12, 90), (11, 13, 65), (12, 14, 65), (6, 6, 70), (7, 7, 70), (13, 13, 80), (14, 14, 80)),
)


class Scene:
    """A frame to draw into; everything in camera coordinates, mm. The nearest surface wins."""

    def __init__(self, camera: Camera, frame_size: tuple[int, int]) -> None:
        width, height = frame_size
        self.camera, self.depth = camera, np.full((height, width), np.inf)

    @cached_property
    def rays(self) -> Float64:
        """(H, W, 3) through every pixel, z = 1."""
        v, u = np.indices(self.depth.shape, np.float64)
        uvd = np.stack([u, v, np.ones_like(u)], axis=-1)
        return uvd_to_xyz(uvd, self.camera)

    def sphere(self, center: Float64, radius: float) -> None:
        (u, v, _), (height, width) = xyz_to_uvd(center, self.camera), self.depth.shape
        r = radius / center[2] * abs(self.camera.fx)
        u0, u1 = max(int(u - r), 0), min(int(u + r) + 2, width)
        v0, v1 = max(int(v - r), 0), min(int(v + r) + 2, height)
        if u0 >= u1 or v0 >= v1:
            return
        rows, columns = np.mgrid[v0:v1, u0:u1]
        share = ((columns - u) ** 2 + (rows - v) ** 2) / r**2
        front = center[2] - radius * np.sqrt(np.clip(1 - share, 0, 1))
        seen = np.where(share < 1, front, np.inf)
        self.depth[v0:v1, u0:u1] = np.minimum(self.depth[v0:v1, u0:u1], seen)

    def bone(self, start: Float64, end: Float64, radius: float) -> None:
        steps = int(np.linalg.norm(end - start) / (radius / 2)) + 2
        for share in np.linspace(0, 1, steps):
            self.sphere(start * (1 - share) + end * share, radius)

    def plane(self, normal: tuple[float, float, float], through: Float64) -> None:
        with np.errstate(divide="ignore"):
            depth = (np.array(normal) @ through) / (self.rays @ np.array(normal))
        self.depth = np.minimum(self.depth, np.where(depth > 0, depth, np.inf))

    def box(self, low: tuple[float, float, float], high: tuple[float, float, float]) -> None:
        with np.errstate(divide="ignore", invalid="ignore"):
            one, other = np.array(low) / self.rays, np.array(high) / self.rays
        enter = np.fmax.reduce(np.fmin(one, other), axis=-1)
        leave = np.fmin.reduce(np.fmax(one, other), axis=-1)
        hit = (enter < leave) & (enter > 0)
        self.depth = np.minimum(self.depth, np.where(hit, enter, np.inf))

    def measured(self, rng: np.random.Generator) -> Float64:
        """(H, W) mm with noise that grows with distance, and 1 % of the readings missing."""
        depth = np.where(self.depth < 8000, self.depth, 0.0)
        noise = rng.standard_normal(depth.shape) * (1 + 2 * (depth / 1000) ** 2)
        return np.where((depth > 0) & (rng.random(depth.shape) > 0.01), depth + noise, 0.0)


def hand(camera: Camera, frame_size: tuple[int, int], palm: Float64, turn: float) -> Scene:
    """A flat hand of five fingers with its forearm, at an angle in the image plane, radians.

    Drawn in front of nothing. The hand's middle is `palm` + 35 mm towards the fingertips.
    """
    scene = Scene(camera, frame_size)
    cosine, sine = np.cos(turn), np.sin(turn)

    def at(side: float, up: float, behind: float = 0.0) -> Float64:
        return palm + np.array([side * cosine - up * sine, side * sine + up * cosine, behind])

    scene.bone(at(0, 0), at(0, -20), 40)
    for side, length in ((-36, 75), (-14, 95), (10, 100), (34, 85)):
        scene.bone(at(0.7 * side, 20), at(1.3 * side, 35 + length), 9)
    scene.bone(at(30, -10), at(85, 45), 10)
    scene.bone(at(0, -60), at(0, -330, 60), 36)
    return scene


def room_with_person(
    joints_xyz: Float64, camera: Camera, from_above: bool, rng: np.random.Generator
) -> Float64:
    """(240, 320) mm: a person at ITOP's 15 joints (mm, y up), floor, wall and some furniture."""
    scene = Scene(camera, (320, 240))
    for a, b, radius in BODY:
        scene.bone(joints_xyz[a], joints_xyz[b], radius)
    x, y, z = joints_xyz.mean(axis=0)
    size = rng.uniform(200, 500, 3)
    if from_above:
        floor = joints_xyz[:, 2].max() + 60
        scene.plane((*rng.uniform(-0.1, 0.1, 2), 1.0), np.array([x, y, floor]))
        turn = rng.uniform(0, 2 * np.pi)
        x, y = x + 1200 * np.cos(turn), y + 1200 * np.sin(turn)
        scene.box((x, y, floor - size[2]), (x + size[0], y + size[1], floor))
    else:
        floor = joints_xyz[:, 1].min() - 60
        scene.plane((0.0, 1.0, rng.uniform(-0.15, 0.15)), np.array([0, floor, z]))
        wall = np.array([0, 0, z + rng.uniform(500, 2000)])
        scene.plane((rng.uniform(-0.2, 0.2), 0.0, 1.0), wall)
        x += rng.choice([-1, 1]) * rng.uniform(800, 1400)
        scene.box((x, floor, z), (x + size[0], floor + size[1], z + size[2]))
    return scene.measured(rng)
