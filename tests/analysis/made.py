"""A small furnished corner, labelled scenes made of it, and a command line run in this process."""

import numpy as np

from data_tools.clouds.io import Cloud, write_ply
from lam3c_plugin import cli


def corner(seed=0, count=1500):
    """Floor (class 0), two walls (1) and a box (2), 2 m wide; colours tell them apart."""
    rng = np.random.default_rng(seed)
    part = rng.integers(0, 4, count)
    uv = rng.random((count, 2)) * 2
    box = [0.6 + rng.random(2) * 0.5, 0.5]
    flat = np.zeros(count)
    places = [
        np.stack([uv[:, 0], uv[:, 1], flat], 1),
        np.stack([uv[:, 0], flat, uv[:, 1]], 1),
        np.stack([flat, uv[:, 0], uv[:, 1]], 1),
        np.stack([*(uv.T * 0.25 + box[0][:, None]), flat + box[1]], 1),
    ]
    coord = np.choose(part[:, None], places).astype(np.float32)
    segment = np.array([0, 1, 1, 2])[part].astype(np.int32)
    base = np.array([[120, 80, 40], [200, 200, 210], [30, 60, 190]])[segment]
    color = np.clip(base + rng.normal(0, 8, (count, 3)), 0, 255).astype(np.uint8)
    normal = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]], np.float32)[part]
    return Cloud(coord, color, normal, segment=segment)


def put_scene(folder, cloud, labels="segment"):
    """The cloud as a scene folder."""
    folder.mkdir(parents=True)
    for name, value in (("coord", cloud.coord), ("color", cloud.color), ("normal", cloud.normal)):
        np.save(folder / f"{name}.npy", value)
    np.save(folder / f"{labels}.npy", cloud.segment)
    return folder


def put_data(root, train=3, val=1):
    """``root/train`` and ``root/val`` with labelled corners."""
    for split, count, first in (("train", train, 0), ("val", val, 100)):
        for i in range(count):
            put_scene(root / split / f"corner_{i}", corner(first + i))
    return root


def put_file(path, **changes):
    """A corner as a file."""
    return write_ply(path, corner(**changes))


def run(*argv):
    """``lam3c ARGV`` -> exit code; argparse's own exits too."""
    try:
        return cli.main([str(arg) for arg in argv])
    except SystemExit as end:
        return end.code
