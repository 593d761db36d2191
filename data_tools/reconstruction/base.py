"""What a reconstruction backend takes and gives, and the settings of the stage (NumPy only).

Conventions: images are (H, W, 3) uint8 RGB; cameras have OpenCV axes (x right, y down, z forward); an intrinsic matrix
holds pixels, pixel (0, 0) has its centre at (0, 0); poses are camera-to-world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import numpy as np

from data_tools.stages.record import StageError
from data_tools.stages.scene_folder import settings_hash

VERSION = 3  # part of the settings hash: raise it when the same frames give another cloud
BACKENDS = {
    "pi3": "data_tools.reconstruction.pi3:Pi3Reconstructor",
    "vggt": "data_tools.reconstruction.vggt:VggtReconstructor",
    "depth_anything": "data_tools.reconstruction.depth_anything:DepthAnythingReconstructor",
    "mapanything": "data_tools.reconstruction.mapanything:MapAnythingReconstructor",
    "sfm": "data_tools.reconstruction.sfm:SfmReconstructor",
}
DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("auto", "bf16", "fp16", "fp32")
EDGES = ("auto", "depth", "normal", "none")
SKIES = ("none", "color")
RESIZES = ("area", "lanczos")
FEWEST_IN_CHUNK = 16
Camera4 = tuple[float, float, float, float]


@dataclass
class Frames:
    """The frames of a scene, in the order of time.

    Attributes:
        images: (F, H, W, 3) uint8 RGB.
        index: (F,) int64 frame numbers in the video (of the file's first frame on, not the scene's).
        time: (F,) float64 seconds in the video.
        intrinsics: (3, 3) float64 of a known camera for the (H, W) images, or None.
    """

    images: np.ndarray
    index: np.ndarray
    time: np.ndarray
    intrinsics: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Hold the shapes together.

        Raises:
            ValueError: a wrong shape or type; one line.
        """
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            raise ValueError(f"frames are {self.images.dtype} {self.images.shape}; (F, H, W, 3) uint8 is needed")
        _check_shape("index", self.index, (len(self),))
        _check_shape("time", self.time, (len(self),))
        if self.intrinsics is not None:
            _check_shape("intrinsics", self.intrinsics, (3, 3))

    def __len__(self) -> int:
        return len(self.images)

    def select(self, index: np.ndarray) -> Frames:
        """Some of the frames (boolean mask or indices), as new `Frames`."""
        return Frames(self.images[index], self.index[index], self.time[index], self.intrinsics)


@dataclass
class Prediction:
    """What a backend gives: V views with a pose, each a grid of h x w points.

    Attributes:
        points: (V, h, w, 3) float32 in one world.
        valid: (V, h, w) bool: the backend itself stands by the point. Points that are not valid may be anything.
        confidence: (V, h, w) float32 in [0, 1], higher is surer; what it means is the backend's.
        color: (V, h, w, 3) uint8, the image under the points.
        camera_to_world: (V, 4, 4) float64.
        intrinsics: (V, 3, 3) float64 for the h x w grid.
        view: (V,) int64 rows of `Frames`; frames that got no pose are absent.
        is_metric: whether the world is in metres.
        notes: what happened, in words.
        figures: facts for the record, JSON types only.
        min_confidence: points under it are dropped where the settings name no threshold.
        edge: "depth" or "normal", the rule where the settings name none.
    """

    points: np.ndarray
    valid: np.ndarray
    confidence: np.ndarray
    color: np.ndarray
    camera_to_world: np.ndarray
    intrinsics: np.ndarray
    view: np.ndarray
    is_metric: bool = False
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    min_confidence: float = 0.0
    edge: str = "depth"

    def __post_init__(self) -> None:
        """Hold the shapes together.

        Raises:
            ValueError: a wrong shape, or a pose that is not a rotation and a shift; one line.
        """
        if self.points.ndim != 4 or self.points.shape[-1] != 3:
            raise ValueError(f"points have shape {self.points.shape}; (V, h, w, 3) is needed")
        views, grid = len(self.points), self.points.shape[:3]
        _check_shape("valid", self.valid, grid)
        _check_shape("confidence", self.confidence, grid)
        _check_shape("color", self.color, self.points.shape)
        _check_shape("camera_to_world", self.camera_to_world, (views, 4, 4))
        _check_shape("intrinsics", self.intrinsics, (views, 3, 3))
        _check_shape("view", self.view, (views,))
        if self.valid.dtype != bool or self.color.dtype != np.uint8:
            raise ValueError(f"valid is {self.valid.dtype}, color {self.color.dtype}; bool and uint8 are needed")
        rotation = self.camera_to_world[:, :3, :3]
        if not np.isfinite(self.camera_to_world).all() or (
            views and np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max() > 1e-2
        ):
            raise ValueError("camera_to_world holds matrices that are no rigid poses")

    def __len__(self) -> int:
        return len(self.points)


@runtime_checkable
class Reconstructor(Protocol):
    """A backend. It may raise ``StageError`` for a scene it cannot do, and the out-of-memory errors as they come.

    Attributes:
        name: of the backend, for records.
        max_frames: the most frames of a scene that make sense for it, or None.
        chunk_frames: the most frames of one pass, or None; a scene of more is reconstructed in chunks.
    """

    name: str
    max_frames: int | None
    chunk_frames: int | None

    @staticmethod
    def frame_size(settings: ReconstructSettings, width: int, height: int) -> tuple[int, int]:
        """(width, height) that frames of a source of that size are read at: what the network takes."""
        ...

    def reconstruct(self, frames: Frames, seed: int) -> Prediction:
        """Points and cameras of a scene whose frames have that size; the same frames and seed, the same prediction."""
        ...


@dataclass(frozen=True)
class ReconstructSettings:
    """What decides a scene's cloud, with its frames.

    Attributes:
        backend: one of `BACKENDS`.
        weights: a local path or a hub name; empty takes the backend's own.
        device: "auto" (cuda where there is one), "cpu", "cuda".
        dtype: "auto" (bf16, or fp16 on older GPUs; fp32 on CPU), "bf16", "fp16", "fp32".
        min_frames: a scene gives ``frame_rate`` x its length, at least these (never more than it has).
        max_frames: and at most these.
        frame_rate: frames a second.
        chunk_frames: frames of one pass, at most; a scene of more is reconstructed in chunks with overlap. 0 takes the
            backend's number (and where it has none, no more than its own ``max_frames``).
        max_side: longer side that sfm reads frames at, pixels; networks take the sizes of their own options.
        skip_start: seconds of a scene's beginning that give no frame (10 in the release).
        resize: of frames that are made smaller, once: "area", or "lanczos" (the release).
        replace_blurred: take the sharpest frame near each place instead of the exact one.
        confidence: points under it are dropped; None takes the backend's rule.
        edge: "depth" (jumps of depth), "normal" (jumps of depth that the surface's slope does not explain), "none";
            "auto" takes the backend's rule.
        edge_tolerance: relative jump of depth.
        border: pixels of the grid dropped along each side.
        sky: "none", or "color": bright blue or white regions that touch the top of the image.
        mask_folder: images named as the frame numbers (``000123.png``); points under black pixels are dropped.
        dynamic: drop what neighbouring views see through (moving people); needs good poses.
        max_points: of the cloud, drawn without bias; 0 keeps all.
        intrinsics: (fx, fy, cx, cy) of the video's camera in its full resolution, or None.
        seed: of all draws.
        deterministic: same input, same bytes: single-threaded and reproducible kernels where a backend has a choice.
        options: settings of the backend, by name.
    """

    backend: str = "pi3"
    weights: str = ""
    device: str = "auto"
    dtype: str = "auto"
    min_frames: int = 200
    max_frames: int = 400
    frame_rate: float = 4.0
    chunk_frames: int = 0
    max_side: int = 640
    skip_start: float = 0.0
    resize: str = "area"
    replace_blurred: bool = True
    confidence: float | None = None
    edge: str = "auto"
    edge_tolerance: float = 0.03
    border: int = 0
    sky: str = "none"
    mask_folder: str = ""
    dynamic: bool = False
    max_points: int = 4_000_000
    intrinsics: Camera4 | None = None
    seed: int = 0
    deterministic: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what would fail later.

        Raises:
            ValueError: an unknown name or a number out of range; one line.
        """
        choices = {
            "backend": BACKENDS,
            "device": DEVICES,
            "dtype": DTYPES,
            "edge": EDGES,
            "sky": SKIES,
            "resize": RESIZES,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown: choose from {', '.join(known)}")
        if not 1 <= self.min_frames <= self.max_frames:
            raise ValueError(f"frames {self.min_frames} to {self.max_frames}: give 1 <= min <= max")
        if self.chunk_frames and self.chunk_frames < FEWEST_IN_CHUNK:
            raise ValueError(f"chunks of {self.chunk_frames} frames: give at least {FEWEST_IN_CHUNK}, or 0")
        if self.frame_rate <= 0 or self.max_side < 28 or self.skip_start < 0:
            words = f"frame rate {self.frame_rate} / longer side {self.max_side} / skipped start {self.skip_start}"
            raise ValueError(f"{words}: give > 0 / at least 28 / 0 or more")
        if self.confidence is not None and not 0 <= self.confidence <= 1:
            raise ValueError(f"confidence {self.confidence} is not in [0, 1]")
        if self.edge_tolerance <= 0 or self.border < 0 or self.max_points < 0:
            raise ValueError("edge tolerance must be > 0, border and point cap >= 0")
        if self.intrinsics is not None and (len(self.intrinsics) != 4 or min(self.intrinsics[:2]) <= 0):
            raise ValueError(f"intrinsics {self.intrinsics}: give fx,fy,cx,cy in pixels of the video")

    def digest(self) -> str:
        """Hash of everything that touches the result."""
        return settings_hash({"version": VERSION, **asdict(self), "options": dict(self.options)})


def backend_class(name: str) -> type[Reconstructor]:
    """The class of a backend; importing it needs none of its libraries.

    Raises:
        ValueError: unknown name.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend {name!r} is unknown: choose from {', '.join(BACKENDS)}")
    module, _, attribute = BACKENDS[name].partition(":")
    return getattr(import_module(module), attribute)


def build_reconstructor(name: str, settings: ReconstructSettings) -> Reconstructor:
    """The backend of that name, ``Class(settings)``; its libraries are imported here and not before.

    Raises:
        StageError: a library or weights it needs are missing; the line tells how to get them.
        ValueError: unknown name.
    """
    return backend_class(name)(settings)


def take_options(settings: ReconstructSettings, known: Mapping[str, Any]) -> dict[str, Any]:
    """The backend's options, defaults filled in.

    Raises:
        StageError: an option the backend does not have.
    """
    unknown = sorted(set(settings.options) - set(known))
    if unknown:
        names = ", ".join(known) or "none"
        raise StageError(f"{settings.backend} has no option {', '.join(unknown)}; it has: {names}")
    return {**known, **settings.options}


def _check_shape(name: str, value: np.ndarray, wanted: tuple[int, ...]) -> None:
    if value.shape != wanted:
        raise ValueError(f"{name} has shape {value.shape}; {wanted} is needed")
