"""Colours of classes: ScanNet's own where a name is one of its 40, else made, each far from the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_tools.drawing.pictures import hues

#: ScanNet's colours of the 40 classes of NYUv2, of which its 20 are a part
SCANNET_COLORS = {
    "wall": (174, 199, 232), "floor": (152, 223, 138), "cabinet": (31, 119, 180), "bed": (255, 187, 120),
    "chair": (188, 189, 34), "sofa": (140, 86, 75), "table": (255, 152, 150), "door": (214, 39, 40),
    "window": (197, 176, 213), "bookshelf": (148, 103, 189), "picture": (196, 156, 148), "counter": (23, 190, 207),
    "blinds": (178, 76, 76), "desk": (247, 182, 210), "shelves": (66, 188, 102), "curtain": (219, 219, 141),
    "dresser": (140, 57, 197), "pillow": (202, 185, 52), "mirror": (51, 176, 203), "floor mat": (200, 54, 131),
    "clothes": (92, 193, 61), "ceiling": (78, 71, 183), "books": (172, 114, 82), "refrigerator": (255, 127, 14),
    "television": (91, 163, 138), "paper": (153, 98, 156), "towel": (140, 153, 101),
    "shower curtain": (158, 218, 229), "box": (100, 125, 154), "whiteboard": (178, 127, 135), "person": (120, 185, 128),
    "night stand": (146, 111, 194), "toilet": (44, 160, 44), "sink": (112, 128, 144), "lamp": (96, 207, 209),
    "bathtub": (227, 119, 194), "bag": (213, 92, 176), "otherstructure": (94, 106, 211),
    "otherfurniture": (82, 84, 163), "otherprop": (100, 85, 144),
}  # fmt: skip
#: the same things under the names of other lists
_SAME = {
    "refridgerator": "refrigerator", "fridge": "refrigerator", "shelf": "shelves", "bookcase": "bookshelf",
    "tv": "television", "rug": "floor mat", "mat": "floor mat", "couch": "sofa", "nightstand": "night stand",
    "board": "whiteboard", "book": "books", "clutter": "otherprop",
}  # fmt: skip
_OURS = {"plant": (85, 107, 47)}  # not among the 40, and seen in most rooms
UNLABELLED = (190, 190, 190)


def palette(names: Sequence[str]) -> np.ndarray:
    """(K, 3) uint8 colours of classes by their names; no two alike."""
    colors: dict[int, tuple[int, ...]] = {}
    for number, name in enumerate(names):
        known = (SCANNET_COLORS | _OURS).get(_SAME.get(name, name))
        if known is not None and known not in colors.values():
            colors[number] = known
    least = 300 / max(len(names), 1) ** 0.5  # the more classes, the nearer their colours have to be
    made = iter(hues(range(40 * len(names))).tolist())
    for number in range(len(names)):
        while number not in colors:
            color = np.array(next(made))
            taken = np.array([UNLABELLED, *colors.values()])
            if np.linalg.norm(taken - color, axis=1).min() >= least:
                colors[number] = tuple(color.tolist())
            least *= 0.995  # it ends
    return np.array([colors[number] for number in range(len(names))], dtype=np.uint8).reshape(-1, 3)


def label_colors(segment: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(N, 3) uint8 colours of labels (N,) of named classes; below 0 light grey."""
    table = np.concatenate([palette(names), np.array([UNLABELLED], dtype=np.uint8)])
    return table[np.where((segment >= 0) & (segment < len(names)), segment, len(names))]
