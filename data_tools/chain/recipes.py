"""The recipes: settings by stage that differ from the defaults, with their reasons. Data only; docs/build_roomtours.md.

``best`` is today's defaults. ``release`` does what the scripts of the release of arXiv 2512.23042 do by default, step
by step. ``phone`` is one room, filmed by the person who wants to see it, on a laptop without a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_tools.postprocessing.settings import Limits

USUAL = "best"
NO_LIMITS = Limits(min_score=0.0, max_double=1.0, max_noise=1.0, min_coverage=0.0, min_points=0)
RECIPES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    USUAL: {},
    "release": {
        "segment": {
            "labels": "clip",
            "rule": "joined",
            "rooms": ("living room", "bedroom", "bathroom"),
            "rate": 5.0,  # of the rooms
            "margin": 0.2,
            "max_length": 0.0,
            "prior_outdoor": 0.5,  # indoor against outdoor, nothing else
            "prior_other": 0.0,
            "copies": 0.0,  # it looked for none
        },
        "reconstruct": {
            "backend": "pi3",
            "replace_blurred": False,
            "skip_start": 10.0,
            "resize": "lanczos",
            "chunk_frames": 400,  # all in one pass
        },
        "postprocess": {
            "outlier_neighbours": 50,
            "outlier_ratio": 4.0,
            "radius_points": 1,
            "radius_factor": 10.0,
            "up": "planes",
            "scale": "fixed",  # by 1.753, whatever is drawn; "diagonal" is the draw
            "thin_limit": 0.3,
            "normal_cell": 0.0,  # a plane per point
            "limits": NO_LIMITS,
        },
    },
    "phone": {
        "segment": {
            "labels": "none",  # one room is filmed: nothing to tell apart
            "min_indoor": 3.0,
            "min_room": 3.0,
            "max_length": 0.0,
            "copies": 0.0,  # filmed twice means wanted twice
        },
        "reconstruct": {"backend": "sfm", "min_frames": 40, "max_frames": 120, "frame_rate": 3.0},
        "postprocess": {
            "scale": "height",  # the nearest to the truth for a single room
            "limits": NO_LIMITS,  # a person's only room is shown, whatever its quality
        },
    },
}
