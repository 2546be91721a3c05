"""Made-up packages of camera vendors, with the calls that `a2j_jax.inference.live` makes, and three frames."""

from collections.abc import Sequence
from datetime import timedelta
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

FX, FY, CX, CY = 300.0, 301.0, 160.0, 120.0
UNIT_MM = {"pyrealsense2": 0.125, "depthai": 1.0, "pyorbbecsdk": 0.1, "pyk4a": 1.0}


class Unplugged(RuntimeError):
    """What a package raises without its camera."""


class Calls:
    """Frames one after the other, then an error, as a camera that is pulled out."""

    def __init__(self, frames: Sequence[np.ndarray]) -> None:
        self.left, self.stopped = list(frames), 0

    def next(self) -> tuple[np.ndarray, int]:
        if not self.left:
            raise Unplugged("Frame didn't arrive\nwithin 5000")
        return self.left.pop(0), len(self.left)

    def stop(self) -> None:
        self.stopped += 1


def package(name: str, frames: Sequence[np.ndarray]) -> tuple[ModuleType, Calls]:
    """A module of this name; without frames, no camera is plugged in."""
    module, calls = ModuleType(name), Calls(frames)
    vars(module).update(_PACKAGES[name](calls))
    return module, calls


def _open(calls: Calls) -> None:
    if not calls.left:
        raise Unplugged("No device connected")


def _pyrealsense2(calls: Calls) -> dict[str, Any]:
    class Pipeline:
        def start(self, config: "Config") -> Any:
            assert config.streams == ["depth"]
            _open(calls)
            sensor = SimpleNamespace(get_depth_scale=lambda: UNIT_MM["pyrealsense2"] / 1000)
            device = SimpleNamespace(first_depth_sensor=lambda: sensor)
            found = SimpleNamespace(fx=FX, fy=FY, ppx=CX, ppy=CY)
            video = SimpleNamespace(get_intrinsics=lambda: found)
            stream = SimpleNamespace(as_video_stream_profile=lambda: video)
            return SimpleNamespace(get_device=lambda: device, get_stream=lambda _: stream)

        def wait_for_frames(self, timeout_ms: int = 5000) -> Any:
            counts, left = calls.next()
            depth = SimpleNamespace(get_data=lambda: counts, get_timestamp=lambda: 1e3 - left)
            return SimpleNamespace(get_depth_frame=lambda: depth)

        def stop(self) -> None:
            calls.stop()

    class Config:
        def __init__(self) -> None:
            self.streams: list[str] = []

        def enable_stream(self, stream_type: str) -> None:
            self.streams.append(stream_type)

    return {"pipeline": Pipeline, "config": Config, "stream": SimpleNamespace(depth="depth")}


def _depthai(calls: Calls) -> dict[str, Any]:
    class Queue:
        def get(self, timeout: timedelta) -> Any:
            assert timeout == timedelta(seconds=5)
            depth, left = calls.next()
            matrix = [[FX, 0.0, CX], [0.0, FY, CY], [0.0, 0.0, 1.0]]
            return SimpleNamespace(
                getFrame=lambda: depth,
                getTimestamp=lambda: timedelta(milliseconds=1000 - left),
                getTransformation=lambda: SimpleNamespace(getIntrinsicMatrix=lambda: matrix),
            )

    class Eye:
        def build(self, socket: str) -> "Eye":
            self.socket = socket
            return self

        def requestOutput(self, size: tuple[int, int]) -> str:
            assert size == (640, 400)
            return self.socket

    class Stereo:
        depth = SimpleNamespace(createOutputQueue=Queue)

        def build(self, left: str, right: str) -> "Stereo":
            assert (left, right) == ("left", "right")
            return self

    class Pipeline:
        def __enter__(self) -> "Pipeline":
            _open(calls)
            return self

        def __exit__(self, *_: object) -> None:
            calls.stop()

        def create(self, node: type) -> Any:
            return node()

        def start(self) -> None:
            pass

        def isRunning(self) -> bool:
            return True

    sockets = SimpleNamespace(CAM_B="left", CAM_C="right")
    node = SimpleNamespace(Camera=Eye, StereoDepth=Stereo)
    return {"Pipeline": Pipeline, "node": node, "CameraBoardSocket": sockets}


def _pyorbbecsdk(calls: Calls) -> dict[str, Any]:
    class Pipeline:
        def get_stream_profile_list(self, sensor: str) -> Any:
            assert sensor == "depth sensor"
            _open(calls)
            found = SimpleNamespace(fx=FX, fy=FY, cx=CX, cy=CY)
            profile = SimpleNamespace(get_intrinsic=lambda: found)
            return SimpleNamespace(get_default_video_stream_profile=lambda: profile)

        def start(self, config: Any) -> None:
            pass

        def wait_for_frames(self, timeout_ms: int) -> Any:
            if not calls.left:
                return None
            counts, left = calls.next()
            depth = SimpleNamespace(
                get_width=lambda: counts.shape[1],
                get_height=lambda: counts.shape[0],
                get_data=lambda: counts.view(np.uint8).reshape(-1),
                get_depth_scale=lambda: UNIT_MM["pyorbbecsdk"],
                get_timestamp=lambda: 1000 - left,
            )
            return SimpleNamespace(get_depth_frame=lambda: depth)

        def stop(self) -> None:
            calls.stop()

    class Config:
        def enable_stream(self, profile: Any) -> None:
            pass

    sensors = SimpleNamespace(DEPTH_SENSOR="depth sensor")
    return {"Pipeline": Pipeline, "Config": Config, "OBSensorType": sensors}


def _pyk4a(calls: Calls) -> dict[str, Any]:
    class PyK4A:
        def __init__(self, config: dict[str, Any]) -> None:
            assert config["depth_mode"] == "NFOV_UNBINNED"
            matrix = np.array([[FX, 0, CX], [0, FY, CY], [0, 0, 1]])
            self.calibration = SimpleNamespace(get_camera_matrix=lambda _: matrix)

        def start(self) -> None:
            _open(calls)

        def stop(self) -> None:
            calls.stop()

        def get_capture(self, timeout: int = -1) -> Any:
            depth, left = calls.next()
            return SimpleNamespace(depth=depth, depth_timestamp_usec=(1000 - left) * 1000)

    return {
        "PyK4A": PyK4A,
        "Config": dict,
        "ColorResolution": SimpleNamespace(OFF=0),
        "DepthMode": SimpleNamespace(NFOV_UNBINNED="NFOV_UNBINNED"),
        "CalibrationType": SimpleNamespace(DEPTH=0),
    }


_PACKAGES = {
    "pyrealsense2": _pyrealsense2,
    "depthai": _depthai,
    "pyorbbecsdk": _pyorbbecsdk,
    "pyk4a": _pyk4a,
}
