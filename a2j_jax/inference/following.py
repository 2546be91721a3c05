"""Hands followed from frame to frame: `HandModel.track` and `follow`, for frames that come one by one."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from numpy.typing import ArrayLike

from a2j_jax.geometry import Camera
from a2j_jax.inference.hands import LOST, HandModel, HandPose, check_most, is_one_of
from a2j_jax.inference.locate import hand_centers

_REMEMBERED = 0.7  # share of the logits of earlier frames, much alike, that the next one keeps
_SEARCH_EVERY = 5  # frames, where fewer hands are followed than asked for


class OneHand:
    """Follows one hand: around its place in the frame before, or in the entire frame if that scores as no hand."""

    def __init__(self, hand: HandModel) -> None:
        """`hand` finds it."""
        self._hand = hand
        self._before: HandPose | None = None
        self._evidence = 0.0  # logit for right of the frames since it was found

    def __call__(
        self,
        depth_mm: ArrayLike,
        camera: Camera | Sequence[float] | None = None,
        name: str = "depth frame",
    ) -> HandPose:
        """The pose in the next frame; without any reading, one of NaN joints with a score of 0 and a warning.

        Args:
          depth_mm: (H, W) mm, 0 = no reading.
          camera: of this frame; by default the model's.
          name: of the frame, for warnings.

        Raises:
          UserError: as a call of `HandModel`, for another reason than a frame without readings. The frame is left out.
        """
        hand, before = self._hand, self._before
        depth, camera = hand._checked(depth_mm, camera)
        if not depth.any():
            self._before = None
            return hand._nothing(name)
        evidence = 0.0 if before is None else self._evidence
        pose, logit = None, 0.0
        if before is not None:
            pose, logit = hand._again(depth, camera, before, evidence, name)
        if pose is None or pose.score < LOST:
            starts = hand_centers(depth, camera)
            found, found_logit = hand._best(depth, camera, starts, 0.0, name)
            if pose is None or found.score > pose.score:
                pose, logit, evidence = found, found_logit, 0.0
        self._evidence = _REMEMBERED * (evidence + logit)
        self._before = pose if pose.score >= LOST else None
        return pose


class _Followed(NamedTuple):
    """A hand in the frame before, and the logit for right of the frames since it was found."""

    pose: HandPose
    evidence: float


class SeveralHands:
    """Follows several hands, each by its number.

    New hands are looked for in every fifth frame, and in every frame as long as there are none.
    """

    def __init__(self, hand: HandModel, most: int = 2) -> None:
        """`hand` finds them, up to `most` in a frame; `UserError` if that is below 1."""
        check_most(most)
        self._hand, self._most = hand, most
        self._followed: list[_Followed] = []
        self._numbers = self._count = 0

    def __call__(
        self,
        depth_mm: ArrayLike,
        camera: Camera | Sequence[float] | None = None,
        name: str = "depth frame",
    ) -> list[HandPose]:
        """The poses in the next frame that score as hands; arguments and errors as of `OneHand`."""
        depth, camera = self._hand._checked(depth_mm, camera)
        there: list[_Followed] = []
        for before, evidence in self._followed if depth.any() else []:
            pose, logit = self._hand._again(depth, camera, before, evidence, name)
            if pose.score >= LOST and not is_one_of(pose, [one.pose for one in there]):
                pose = dataclasses.replace(pose, number=before.number)
                there.append(_Followed(pose, _REMEMBERED * (evidence + logit)))
        is_searched = not there or self._count % _SEARCH_EVERY == 0
        if len(there) < self._most and depth.any() and is_searched:
            known = [one.pose for one in there]
            for pose, logit in self._hand._several(depth, camera, self._most, known, name):
                pose = dataclasses.replace(pose, number=self._numbers)
                there.append(_Followed(pose, _REMEMBERED * logit))
                self._numbers += 1
        self._count += 1
        self._followed = there
        return [one.pose for one in there]


def goes_on(before: HandPose | None, pose: HandPose) -> bool:
    """Whether two poses in a row are of one hand: both score as hands, of the same side, less than 80 mm apart."""
    if before is None or min(before.score, pose.score) < LOST:
        return False
    return before.handedness == pose.handedness and is_one_of(pose, [before])
