"""What decides a post-processed scene's bytes, with its cloud."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from data_tools.clouds.gravity import AXES
from data_tools.stages.scene_folder import settings_hash

VERSION = 1  # part of the settings hash: raise it when the same cloud gives another scene
CAP_RULES = ("uniform", "even", "confidence")
SCALE_RULES = ("auto", "scannet", "metric", "height", "fixed", "diagonal", "none")


@dataclass(frozen=True)
class Limits:
    """What a scene must reach to be kept; a value that switches a limit off stands in brackets.

    Attributes:
        min_score: of the whole score (0).
        max_double: share of the wall, floor and ceiling area that is there twice (1).
        max_noise: median distance to the plane through a point's neighbours, metres (1).
        min_coverage: share of floor and walls seen (0).
        min_points: points left in the end (0).
    """

    min_score: float = 0.25
    max_double: float = 0.40
    max_noise: float = 0.03
    min_coverage: float = 0.25
    min_points: int = 1000

    def __post_init__(self) -> None:
        """Refuse what no scene or every scene would pass by mistake: a ValueError of one line."""
        for name in ("min_score", "max_double", "min_coverage"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)} is not in [0, 1]")
        if self.max_noise <= 0 or self.min_points < 0:
            raise ValueError(f"max_noise {self.max_noise} > 0 and min_points {self.min_points} >= 0 are needed")


@dataclass(frozen=True)
class PostprocessSettings:
    """Settings of all steps. Lengths are in metres of the result unless said.

    Attributes:
        point_cap: most points that go into the costly steps (2 M in the release); the rest is drawn away first.
        cap_rule: every point has the same chance ("uniform"), dense places lose more ("even"), or the chance grows
            with the confidence ("confidence").
        outlier_limit: most points the outlier tests may take away, as a share (0.01 in the release).
        outlier_neighbours: neighbours whose mean distance is judged.
        outlier_ratio: standard deviations above the mean.
        radius_points: a point with fewer neighbours within radius_factor x the spacing is an outlier too.
        up: "auto", "planes" (the floor is one of the two largest, as in the release), or a direction of the file's
            frame that is up: "x", "y", "z", "-x", "-y", "-z".
        scale: "auto" (metric where the backend is, else scannet), "scannet", "metric", "height", "fixed" (by
            scale_factor), "diagonal" (the box's diagonal is drawn from ScanNet's, as the release does before it puts
            the fixed factor over it), "none".
        scale_factor: of "fixed" (1.753 in the release).
        min_height: a drawn scale is bent so that the cloud is no lower; counts only where a ceiling was seen.
        max_height: a drawn scale is bent so that the cloud is no higher.
        spacing: median distance to the nearest neighbour of the result (0.01333 in the release, 2/3 of a grid cell).
        min_points: thinning to ``spacing`` stops here (40 k in the release).
        thin_limit: most of the points left by cells of ``spacing`` that are thinned further to reach it, as a share
            (0.3 in the release; 1: all that is needed).
        neighbours: points per plane of the normals (32 in the release).
        normal_cell: one plane per cell of that many spacings is shared by its points; 0: a plane per point.
        grid: cell of the backbone; the scene must have fewer than 2^16 along each axis.
        normal_dtype: "float32", or "float16" to halve the normals on disk.
        limits: what a scene must reach.
        preview: draw preview.png.
        seed: of every draw, together with the scene's name.
    """

    point_cap: int = 2_000_000
    cap_rule: str = "uniform"
    outlier_limit: float = 0.01
    outlier_neighbours: int = 20
    outlier_ratio: float = 2.0
    radius_points: int = 4
    radius_factor: float = 6.0
    up: str = "auto"
    scale: str = "auto"
    scale_factor: float = 1.753
    min_height: float = 2.2
    max_height: float = 3.6
    spacing: float = 0.01333
    min_points: int = 40_000
    thin_limit: float = 1.0
    neighbours: int = 32
    normal_cell: float = 2.0
    grid: float = 0.02
    normal_dtype: str = "float32"
    limits: Limits = field(default_factory=Limits)
    preview: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what would fail later: a ValueError of one line."""
        choices = {"cap_rule": CAP_RULES, "scale": SCALE_RULES, "normal_dtype": ("float32", "float16")}
        for name, known in {**choices, "up": ("auto", "planes", *AXES)}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown; choose from {', '.join(known)}")
        if self.point_cap < 100 or self.min_points < 0:
            raise ValueError(f"point_cap {self.point_cap} must be >= 100 and min_points {self.min_points} >= 0")
        if not 0 <= self.outlier_limit <= 0.5 or self.outlier_neighbours < 2 or self.radius_points < 0:
            raise ValueError("outlier_limit in [0, 0.5], outlier_neighbours >= 2 and radius_points >= 0 are needed")
        if self.outlier_ratio <= 0 or self.radius_factor <= 0 or self.grid <= 0 or self.normal_cell < 0:
            raise ValueError("outlier_ratio, radius_factor and grid must be positive, normal_cell not negative")
        if not 0 <= self.spacing < 1 or self.neighbours < 3:
            raise ValueError(f"spacing {self.spacing} must be in [0, 1) m, neighbours {self.neighbours} at least 3")
        if self.scale_factor <= 0 or not 0 <= self.thin_limit <= 1:
            raise ValueError(f"scale_factor {self.scale_factor} > 0, thin_limit {self.thin_limit} in [0, 1] are needed")
        if not 0 < self.min_height < self.max_height:
            raise ValueError(f"0 < min_height {self.min_height} < max_height {self.max_height} is needed")

    def digest(self) -> str:
        """Hash that changes when a scene would."""
        return settings_hash({"version": VERSION, **asdict(self)})
