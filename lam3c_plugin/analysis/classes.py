"""Colours of classes: ScanNet's own for its 20, or made for any number of them."""

from __future__ import annotations

import numpy as np

from data_tools.drawing.pictures import hues

#: ScanNet's colours for its 20 classes, in the order of ``labels.SCANNET_20``
SCANNET_20_COLORS = (
    (174, 199, 232), (152, 223, 138), (31, 119, 180), (255, 187, 120), (188, 189, 34), (140, 86, 75), (255, 152, 150),
    (214, 39, 40), (197, 176, 213), (148, 103, 189), (196, 156, 148), (23, 190, 207), (247, 182, 210), (219, 219, 141),
    (255, 127, 14), (158, 218, 229), (44, 160, 44), (112, 128, 144), (227, 119, 194), (82, 84, 163),
)  # fmt: skip
UNLABELLED = (190, 190, 190)


def palette(count: int) -> np.ndarray:
    """(count, 3) uint8: ScanNet's colours for 20 classes, else hues."""
    if count == len(SCANNET_20_COLORS):
        return np.array(SCANNET_20_COLORS, dtype=np.uint8)
    return hues(range(count))


def label_colors(segment: np.ndarray, count: int) -> np.ndarray:
    """(N, 3) uint8 colours of labels (N,); below 0 light grey."""
    table = np.concatenate([palette(count), np.array([UNLABELLED], dtype=np.uint8)])
    return table[np.where((segment >= 0) & (segment < count), segment, count)]
