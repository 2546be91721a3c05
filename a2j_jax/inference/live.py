"""A live camera: its frames, and where hands are drawn as they come.

One iterator of `SourceFrame` is behind every source: a camera, a folder or a recording. No device ever ran: they were
written after the documentation of their packages, and tests drive them with made-up packages of the same calls. Every
frame is in mm, with the intrinsics of the depth stream, and a time. A `Viewer` is a window of Tk, or rerun's.
"""

import contextlib
import importlib
import io
import itertools
import re
import time
from collections.abc import Callable, Generator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from a2j_jax.data.recordings import Recording, count_frames, depth_frames, open_recordings
from a2j_jax.errors import UserError, in_one_line, printable
from a2j_jax.files import read_contents
from a2j_jax.geometry import Camera, Float64
from a2j_jax.inference.frames import frame_files, overlay
from a2j_jax.log import logger
from a2j_jax.pictures import LIMB_COLORS
from a2j_jax.tracks import Skeleton

TIMES = "timestamps.txt"  # of a folder: a time in seconds for each frame, a line each
_RATE_HZ = 30.0  # of a folder without
_PATIENCE_MS = 5000  # without a frame, a camera is taken for unplugged
_NOTHING = "no frame for 5 s"
_MM_PER_M = 1000.0


class SourceFrame(NamedTuple):
    """One frame of a source.

    Attributes:
      depth_mm: (H, W) uint16 or float32, 0 = no reading.
      camera: of the depth stream at this size.
      time_s: on the source's clock.
      name: for warnings: of the file, in a recording with the number of the frame; empty of a camera's.
    """

    depth_mm: NDArray[Any]
    camera: Camera
    time_s: float
    name: str = ""


Frames = Generator[SourceFrame, None, None]


class CameraLost(Exception):
    """A camera that gave frames gives no more."""


def folder_frames(
    folder: str | Path,
    camera: Camera,
    depth_unit_mm: float = 1.0,
    rate_hz: float | None = None,
    in_real_time: bool = True,
) -> Frames:
    """Replays the frames of a folder in the order of the numbers in their names, or those of a recording.

    Args:
      folder: of frames that `depth_files.read_depth` takes, or a file of `data.recordings`. Frames that cannot be read
        are left out, with a warning each.
      camera: of the frames.
      depth_unit_mm: mm per count.
      rate_hz: frames a second; None: by `timestamps.txt` of the folder, the rate of the video, or 30.
      in_real_time: whether to wait for the time of each frame; otherwise they come as fast as they are read.

    Raises:
      UserError: no such folder or file, no frames in it, or none that can be read; times that do not fit.
    """
    paths = sorted(frame_files([folder]), key=_by_number)
    sources = open_recordings(paths)
    count = count_frames(sources)
    is_timed = (Path(folder) / TIMES).exists()
    if rate_hz is None and isinstance(sources[0], Recording) and not is_timed:
        rate_hz = sources[0].rate_hz or _RATE_HZ
    times = _times(Path(folder), count, rate_hz)
    started, first, read = time.perf_counter(), None, 0
    frames = itertools.chain.from_iterable(
        depth_frames(source, depth_unit_mm=depth_unit_mm, floats_in_mm=True) for source in sources
    )
    for (path, depth), at in zip(frames, times, strict=False):
        first = at if first is None else first
        if isinstance(depth, UserError):
            logger.warning(f"left out: {depth}")
            continue
        early = at - first - (time.perf_counter() - started)
        if in_real_time and early > 0:
            time.sleep(early)
        read += 1
        yield SourceFrame(depth.depth, camera, at, printable(path))
    if not read:
        raise UserError(f"{folder}: none of {count} frames can be read")


def camera_frames(name: str) -> Frames:
    """The frames of a camera that is plugged in, by the name of its source in `DEVICES`.

    Raises:
      UserError: its package is not installed, or no camera answers.
      CameraLost: it gave frames and then failed, was unplugged, or gave none for five seconds.
    """
    package, open_frames = DEVICES[name]
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # NumPy explains at length, then it raises
            module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(
            f"--source {name} needs the package {package}: pip install 'a2j-jax[{name}]' ({in_one_line(error)})"
        ) from error
    except Exception as error:  # of a system library, or built for another NumPy
        raise UserError(
            f"--source {name}: {package} is installed and cannot be loaded ({in_one_line(error)})"
        ) from error
    came = False
    try:
        with contextlib.closing(open_frames(module)) as frames:
            for frame in frames:
                came = True
                yield frame
    except Exception as error:  # each package has its own
        why = in_one_line(error)
        if came:
            raise CameraLost(f"{name}: the camera is gone ({why})") from error
        raise UserError(
            f"{name}: no camera answers ({why}); is it plugged in, and used by no other program?"
        ) from error
    raise CameraLost(f"{name}: the camera gives no more frames")


def _realsense(rs: Any) -> Frames:
    """Intel RealSense, by pyrealsense2."""
    pipeline, config = rs.pipeline(), rs.config()
    config.enable_stream(rs.stream.depth)
    profile = pipeline.start(config)
    try:
        unit = profile.get_device().first_depth_sensor().get_depth_scale() * _MM_PER_M
        stream = profile.get_stream(rs.stream.depth).as_video_stream_profile()
        found = stream.get_intrinsics()
        camera = Camera(found.fx, found.fy, found.ppx, found.ppy)
        while True:
            depth = pipeline.wait_for_frames(_PATIENCE_MS).get_depth_frame()
            counts = np.asanyarray(depth.get_data())
            yield SourceFrame(_in_mm(counts, unit), camera, depth.get_timestamp() / 1000.0)
    finally:
        pipeline.stop()


def _oak(dai: Any) -> Frames:
    """Luxonis OAK with stereo cameras, by depthai 3: depth in the left camera, mm."""
    with dai.Pipeline() as pipeline:
        left, right = (
            pipeline.create(dai.node.Camera).build(socket).requestOutput((640, 400))
            for socket in (dai.CameraBoardSocket.CAM_B, dai.CameraBoardSocket.CAM_C)
        )
        queue = pipeline.create(dai.node.StereoDepth).build(left, right).depth.createOutputQueue()
        pipeline.start()
        while pipeline.isRunning():
            message = queue.get(timedelta(milliseconds=_PATIENCE_MS))
            if message is None:
                raise TimeoutError(_NOTHING)
            (fx, _, u0), (_, fy, v0), _ = message.getTransformation().getIntrinsicMatrix()
            camera, now = Camera(fx, fy, u0, v0), message.getTimestamp().total_seconds()
            yield SourceFrame(np.array(message.getFrame()), camera, now)


def _orbbec(ob: Any) -> Frames:
    """Orbbec, by pyorbbecsdk2."""
    pipeline, config = ob.Pipeline(), ob.Config()
    profiles = pipeline.get_stream_profile_list(ob.OBSensorType.DEPTH_SENSOR)
    profile = profiles.get_default_video_stream_profile()
    found = profile.get_intrinsic()
    camera = Camera(found.fx, found.fy, found.cx, found.cy)
    config.enable_stream(profile)
    pipeline.start(config)
    try:
        while True:
            frames = pipeline.wait_for_frames(_PATIENCE_MS)
            depth = None if frames is None else frames.get_depth_frame()
            if depth is None:
                raise TimeoutError(_NOTHING)
            size = depth.get_height(), depth.get_width()
            counts = np.frombuffer(depth.get_data(), np.uint16).reshape(size)
            now = depth.get_timestamp() / 1000.0
            yield SourceFrame(_in_mm(counts, depth.get_depth_scale()), camera, now)
    finally:
        pipeline.stop()


def _kinect(pyk4a: Any) -> Frames:
    """Azure Kinect, by pyk4a-bundle: depth in mm."""
    config = pyk4a.Config(
        color_resolution=pyk4a.ColorResolution.OFF,
        depth_mode=pyk4a.DepthMode.NFOV_UNBINNED,
        synchronized_images_only=False,
    )
    device = pyk4a.PyK4A(config)
    device.start()
    try:
        matrix = np.asarray(device.calibration.get_camera_matrix(pyk4a.CalibrationType.DEPTH))
        camera = Camera(matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])
        while True:
            capture = device.get_capture(_PATIENCE_MS)
            if capture.depth is not None:
                now = capture.depth_timestamp_usec / 1e6
                yield SourceFrame(np.array(capture.depth), camera, now)
    finally:
        device.stop()


#: Source -> the package that is imported, and its frames. The extra that installs it has the name of the source.
DEVICES: dict[str, tuple[str, Callable[[Any], Frames]]] = {
    "realsense": ("pyrealsense2", _realsense),
    "oak": ("depthai", _oak),
    "orbbec": ("pyorbbecsdk", _orbbec),
    "kinect": ("pyk4a", _kinect),
}


def _in_mm(counts: NDArray[Any], unit_mm: float) -> NDArray[Any]:
    """A copy in mm: the camera reuses its memory."""
    if abs(unit_mm - 1.0) < 1e-6:
        return counts.copy()
    return counts.astype(np.float32) * np.float32(unit_mm)


def _by_number(path: Path) -> list[Any]:
    """A key that puts frame 2 before frame 10."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdecimal() else part for part in parts]


def _times(folder: Path, count: int, rate_hz: float | None) -> Iterator[float]:
    """The time of each frame, s; without a file of times, of as many as there are."""
    path = folder / TIMES
    if rate_hz is not None or not path.exists():
        return (number / (rate_hz or _RATE_HZ) for number in itertools.count())
    try:
        times = [float(word) for word in read_contents(path, "times in seconds").split()]
    except ValueError as error:
        raise UserError(f"{path}: expected a time in seconds for each frame ({error})") from error
    if len(times) != count or not np.isfinite(times).all():
        raise UserError(f"{path}: {len(times)} times for {count} frames: expected one for each")
    return iter(times)


# --- Viewers


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
