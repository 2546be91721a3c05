"""Where live hands are drawn: a window of Tk, or rerun's viewer; and the same pictures as a video file."""

import contextlib
import importlib
import textwrap
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from a2j_jax.data.recordings import video_library
from a2j_jax.errors import UserError, in_one_line
from a2j_jax.files import MARK, local_path, replacing
from a2j_jax.geometry import Float64
from a2j_jax.inference.sources import SourceFrame
from a2j_jax.pictures import LIMB_COLORS, depth_to_gray
from a2j_jax.tracks import Skeleton

_WINDOW_PX = 960  # largest width of the window
_MM_PER_M = 1000.0


class Viewer:
    """Shows nothing; the others draw. `show` returns whether to go on."""

    def show(
        self, frame: SourceFrame, joints_uvd: Float64, joints_xyz_mm: Float64, text: str
    ) -> bool:
        """Shows a frame.

        Args:
          frame: of the source.
          joints_uvd: (K, 3) px px mm; NaN where there is no hand.
          joints_xyz_mm: (K, 3) camera coordinates.
          text: a line about it.
        """
        return True

    def close(self) -> None:
        """Ends the viewer."""


class Window(Viewer):
    """A window of Tk; closing it ends the program.

    Raises:
      UserError: Python without Tk, or no display.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        try:
            tk = importlib.import_module("tkinter")
            self._photos = importlib.import_module("PIL.ImageTk")
            self._root = tk.Tk(className="a2j")
        except Exception as error:  # no _tkinter, no libtk, no display
            raise UserError(
                f"--viewer window: no window can be opened ({in_one_line(error)}); use --viewer rerun or none"
            ) from error
        self._open = True
        self._root.protocol("WM_DELETE_WINDOW", self._closed)
        self._label = tk.Label(self._root)
        self._label.pack()

    def _closed(self) -> None:
        self._open = False

    def show(
        self, frame: SourceFrame, joints_uvd: Float64, joints_xyz_mm: Float64, text: str
    ) -> bool:
        """As `Viewer.show`."""
        picture = overlay(frame.depth_mm, joints_uvd, self._skeleton)
        self._photo = self._photos.PhotoImage(picture)  # Tk keeps no reference
        self._label.configure(image=self._photo)
        self._root.title(text)
        self._root.update()
        return self._open

    def close(self) -> None:
        """As `Viewer.close`."""
        self._root.destroy()


class Rerun(Viewer):
    """Rerun's viewer: the frame as a depth image, joints and bones in 3D, in m.

    Rerun knows no negative focal length. Axes along which fx or fy is negative are turned around, for the camera and
    the joints alike: x is right and y is down in the picture, whatever the camera's own axes are.

    Raises:
      UserError: rerun is not installed, or its viewer does not start.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        self._bones = np.array(skeleton.bones)
        self._colors = [LIMB_COLORS[limb % len(LIMB_COLORS)] for limb in skeleton.bone_limbs]
        try:
            self._rr = importlib.import_module("rerun")
            self._rr.init("a2j", spawn=True)
        except ImportError as error:
            raise UserError(
                f"--viewer rerun needs rerun-sdk: pip install 'a2j-jax[rerun]' ({in_one_line(error)})"
            ) from error
        except Exception as error:
            raise UserError(f"--viewer rerun: it does not start ({in_one_line(error)})") from error

    def show(
        self, frame: SourceFrame, joints_uvd: Float64, joints_xyz_mm: Float64, text: str
    ) -> bool:
        """As `Viewer.show`."""
        rr, (height, width) = self._rr, frame.depth_mm.shape
        focal = [abs(frame.camera.fx), abs(frame.camera.fy)]
        middle = [frame.camera.u0, frame.camera.v0]
        rr.set_time("frame", duration=frame.time_s)
        pinhole = rr.Pinhole(focal_length=focal, principal_point=middle, width=width, height=height)
        rr.log("camera", pinhole)
        rr.log("camera/depth", rr.DepthImage(frame.depth_mm, meter=_MM_PER_M))
        turned = [np.sign(frame.camera.fx), np.sign(frame.camera.fy), 1.0]
        joints = joints_xyz_mm / _MM_PER_M * turned
        if np.isfinite(joints).all():
            rr.log("hand/joints", rr.Points3D(joints, radii=0.004))
            colors = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in self._colors]
            rr.log("hand/bones", rr.LineStrips3D(joints[self._bones], colors=colors, radii=0.002))
        else:
            rr.log("hand", rr.Clear(recursive=True))
        rr.log("text", rr.TextLog(text))
        return True


VIEWERS = {"none": lambda _: Viewer(), "window": Window, "rerun": Rerun}


def overlay(depth: NDArray[Any], joints_uvd: Float64, skeleton: Skeleton) -> Image.Image:
    """A frame (H, W) in gray with joints (K, 3), or (N, K, 3), in color, at most 960 px wide, by Pillow: some 10 ms."""
    step = -(-depth.shape[1] // _WINDOW_PX)
    gray = (depth_to_gray(depth[::step, ::step]) * 255).astype(np.uint8)
    picture = Image.fromarray(gray).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for joints in joints_uvd.reshape(-1, len(skeleton.joints), joints_uvd.shape[-1]):
        if not np.isfinite(joints).all():
            continue
        places = [tuple(uv) for uv in (joints[:, :2] / step).tolist()]
        for (parent, child), limb in zip(skeleton.bones, skeleton.bone_limbs, strict=True):
            color = LIMB_COLORS[limb % len(LIMB_COLORS)]
            draw.line([places[parent], places[child]], color, width=3)
    return picture


@contextlib.contextmanager
def video_file(
    path: str | Path, skeleton: Skeleton, rate_hz: float = 30.0
) -> Iterator[Callable[[NDArray[Any] | None, Float64, str], None]]:
    """Writes the overlays of frames as an MP4 video: H.264 where PyAV has an encoder, else MPEG-4.

    Args:
      path: of the file. It is replaced at the end, and kept if there was an error.
      skeleton: of the joints.
      rate_hz: frames a second.

    Yields:
      A function that adds a frame: depth (H, W), joints (K, 3), as of `overlay`, and a note that is written over it.
      Depth is None for a frame that cannot be read: an empty picture. Frames of other sizes are fitted into the size
      of the first one that can.

    Raises:
      UserError: PyAV is not installed, or the file cannot be written.
    """
    av = video_library()
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with (
        replacing(local_path(path)) as temporary,
        av.open(str(temporary), "w", format="mp4") as container,
    ):
        container.metadata["comment"] = MARK
        stream = container.add_stream(codec, rate=Fraction(rate_hz).limit_denominator(1001))
        stream.pix_fmt, stream.width = "yuv420p", 0

        waiting: list[str] = []  # notes of frames before the size is known

        def encode(picture: Image.Image, note: str) -> None:
            size = stream.width, stream.height
            if picture.size != size:
                picture = ImageOps.pad(picture, size, color="white")
            _write(note, picture)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))

        def add(depth: NDArray[Any] | None, joints_uvd: Float64, note: str = "") -> None:
            if depth is None and not stream.width:
                waiting.append(note)
                return
            if depth is None:
                picture = Image.new("RGB", (stream.width, stream.height), "white")
            else:
                picture = overlay(depth, joints_uvd, skeleton)
            if not stream.width:
                # Colors have half the resolution.
                stream.width, stream.height = (max(side // 2 * 2, 2) for side in picture.size)
            for earlier in waiting:
                encode(Image.new("RGB", (stream.width, stream.height), "white"), earlier)
            waiting.clear()
            encode(picture, note)

        yield add
        container.mux(stream.encode(None))


def _write(note: str, picture: Image.Image) -> None:
    """Writes a note at the top of a picture, black on white, in as many lines as it takes."""
    if note:
        draw = ImageDraw.Draw(picture)
        letter_px = draw.textlength("m")
        text = textwrap.fill(note, max(int((picture.width - 8) / letter_px), 1))
        draw.rectangle(draw.multiline_textbbox((4, 4), text), "white")
        draw.multiline_text((4, 4), text, "black")
