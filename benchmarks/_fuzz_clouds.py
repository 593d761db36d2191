"""Clouds in seven layouts, mutated, through `data_tools.clouds` and the judges of `_fuzz_judges.py`."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks._fuzz import NOTED, SAME, SILENT, Tally
from benchmarks._fuzz_judges import JUDGES, Columns
from data_tools.clouds.io import Cloud, CloudError, drop_not_finite, read_cloud

FORMATS = ("ply ascii", "ply little", "ply big", "pcd ascii", "pcd binary", "las", "npz", "npy", "xyz")
TEXT = ("ply ascii", "pcd ascii", "xyz")
WORDS = ("nan", "-nan(ind)", "-1.#IND", "1.#INF", "inf", "1e40", "-5", "0", "abc", "99999999", "1,5", "0x10", "1_000",
         "1.0D3", "1e999", "256", "1.004", "-0", "3", "vertex", "float", "uchar", "double", "list", "#", "//",
         "x", "red", "label", "nx")  # fmt: skip
PLY_WORDS = {"f4": "float", "f8": "double", "u1": "uchar", "u2": "ushort", "i4": "int"}
FULL = {"u1": 255.0, "u2": 65535.0, "f4": 1.0, "f8": 255.0}  # full brightness of the colours made here, by their type


@dataclass
class Made:
    """A cloud as it is written: columns in their types, and what the colours' full brightness is."""

    columns: Columns
    full: float


def make(rng: np.random.Generator, kind: str) -> Made:
    """A small cloud with some of colour, label, normals, in types that the format allows."""
    count = int(rng.integers(10, 40))
    xyz = rng.uniform(-4, 4, (count, 3)) + rng.choice([0, 0, 0, 5e5]) * np.array([1.0, 7.0, 0.001])
    type_ = "f8" if kind in ("las", "xyz", "npy") else str(rng.choice(["f4", "f8"]))
    columns = {axis: xyz[:, i].astype(type_) for i, axis in enumerate("xyz")}
    color_type = {"las": "u2", "pcd ascii": "f4", "pcd binary": "f4", "npy": "f8"}.get(kind, "")
    color_type = color_type or str(rng.choice(["u1", "u2", "f4", "f8"]))
    full = FULL[color_type]
    if kind == "las" or rng.random() < 0.7:
        shade = rng.integers(0, 256, (count, 3)) / 255.0 * full
        columns |= {name: shade[:, i].astype(color_type) for i, name in enumerate(("red", "green", "blue"))}
    if kind == "las" or (kind not in ("npy", "xyz") and rng.random() < 0.5):
        name = "classification" if kind == "las" else str(rng.choice(["label", "scalar_Classification"]))
        columns[name] = rng.integers(1, 20, count).astype("u1" if kind == "las" else rng.choice(["i4", "f4"]))
    return Made(columns, full)


# ------------------------------------------------------------------------------------------------------------- writing
def _text_rows(columns: Columns) -> str:
    rows = zip(*(value.tolist() for value in columns.values()), strict=True)
    return "".join(" ".join(f"{v:.17g}" if isinstance(v, float) else str(v) for v in row) + "\n" for row in rows)


def _table(columns: Columns, order: str) -> bytes:
    table = np.empty(len(columns["x"]), [(name, order + value.dtype.str[1:]) for name, value in columns.items()])
    for name, value in columns.items():
        table[name] = value
    return table.tobytes()


def write_ply(path: Path, made: Made, kind: str, rng: np.random.Generator) -> None:
    """ASCII or binary of either order, at times with faces after the vertices."""
    columns, count = made.columns, len(made.columns["x"])
    how = {"ply ascii": "ascii", "ply little": "binary_little_endian", "ply big": "binary_big_endian"}[kind]
    header = ["ply", f"format {how} 1.0", "comment made", f"element vertex {count}"]
    header += [f"property {PLY_WORDS[value.dtype.str[1:]]} {name}" for name, value in columns.items()]
    order = "<" if kind == "ply little" else ">"
    body = _text_rows(columns).encode() if kind == "ply ascii" else _table(columns, order)
    if rng.random() < 0.3:
        header += ["element face 1", "property list uchar int vertex_indices"]
        body += b"3 0 1 2\n" if kind == "ply ascii" else b"\3" + np.array([0, 1, 2], order + "i4").tobytes()
    path.write_bytes("\n".join([*header, "end_header", ""]).encode() + body)


def write_pcd(path: Path, made: Made, kind: str, rng: np.random.Generator) -> None:
    """ASCII or binary, colours packed into a float."""
    columns = dict(made.columns)
    if "red" in columns:
        parts = [np.rint(columns.pop(name) * 255 / made.full).astype(np.uint32) for name in ("red", "green", "blue")]
        columns["rgb"] = (parts[0] << 16 | parts[1] << 8 | parts[2]).astype("<u4").view("<f4")
    kinds = [value.dtype.str[1:] for value in columns.values()]
    header = ["# .PCD v0.7", "VERSION 0.7", f"FIELDS {' '.join(columns)}", f"SIZE {' '.join(k[1] for k in kinds)}"]
    header += [f"TYPE {' '.join(k[0].upper() for k in kinds)}", f"COUNT {' '.join('1' for _ in kinds)}"]
    count, data = len(columns["x"]), kind.removeprefix("pcd ")
    header += [f"WIDTH {count}", "HEIGHT 1", "VIEWPOINT 0 0 0 1 0 0 0", f"POINTS {count}", f"DATA {data}", ""]
    body = _text_rows(columns).encode() if data == "ascii" else _table(columns, "<")
    path.write_bytes("\n".join(header).encode() + body)


def write_las(path: Path, made: Made, kind: str, rng: np.random.Generator) -> None:
    """LAS 1.2, point format 2, steps of 0.1 mm."""
    import laspy

    las = laspy.create(point_format=2, file_version="1.2")
    las.header.scales, las.header.offsets = [1e-4] * 3, [np.floor(made.columns[axis].min()) for axis in "xyz"]
    for name, value in made.columns.items():
        setattr(las, name, value)
    las.write(str(path))


def write_arrays(path: Path, made: Made, kind: str, rng: np.random.Generator) -> None:
    """npz of points, colors, labels, or npy of a matrix or of fields; types, orders and layouts at random."""
    columns = made.columns
    points = np.stack([columns[axis] for axis in "xyz"], axis=1)
    color = np.stack([columns[name] for name in ("red", "green", "blue")], axis=1) if "red" in columns else None
    if kind == "npy":
        if rng.random() < 0.3:
            table = np.empty(len(points), [(name, value.dtype) for name, value in columns.items()])
            for name, value in columns.items():
                table[name] = value
            return np.save(path, table)
        return np.save(path, _odd_array(rng, points if color is None else np.hstack([points, color])))
    arrays = {"points": _odd_array(rng, points)}
    if color is not None:
        arrays["colors"] = _odd_array(rng, color)
    label = next((value for name, value in columns.items() if name in ("label", "scalar_Classification")), None)
    if label is not None:
        arrays["labels"] = label[:, None] if rng.random() < 0.5 else label
    return np.savez(path, **arrays)


def _odd_array(rng: np.random.Generator, value: np.ndarray) -> np.ndarray:
    """The array, or at times its like of another layout or type."""
    choice = rng.integers(0, 24)
    odd: dict[int, Callable[[], np.ndarray]] = {
        0: lambda: value.T,
        1: lambda: np.asfortranarray(value),
        2: lambda: value.astype(value.dtype.newbyteorder(">")),
        3: lambda: value.astype(np.float16) if np.abs(value).max() < 6e4 else value,
        4: lambda: np.column_stack([value, np.ones(len(value), value.dtype)]),
        5: lambda: value[:, :2],
        6: lambda: value[:3],
        7: lambda: value[None],
        8: lambda: value.astype(str),
        9: lambda: value[:0],
        10: lambda: value.reshape(-1),
        11: lambda: value.astype(complex),
        12: lambda: np.where(np.arange(value.size).reshape(value.shape) == 4, value.dtype.type(250), value),
    }
    return odd[int(choice)]() if int(choice) in odd else value


def write_xyz(path: Path, made: Made, kind: str, rng: np.random.Generator) -> None:
    """Text, at times with a header."""
    header = rng.choice(["", " ".join(made.columns) + "\n", "# made\n"])
    path.write_text(str(header) + _text_rows(made.columns))


WRITERS = {"ply": write_ply, "pcd": write_pcd, "las": write_las, "xyz": write_xyz}  # else: write_arrays


# ------------------------------------------------------------------------------------------------------------ mutating
def mutate_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """One fault of a disk or a transfer: bytes flipped, cut, doubled, zeroed, added."""
    start = int(rng.integers(0, len(data)))
    length = int(rng.integers(1, 40))
    choice = int(rng.integers(0, 6))
    if choice == 0:
        array = np.frombuffer(data, np.uint8).copy()
        array[rng.integers(0, len(data), int(rng.integers(1, 4)))] = rng.integers(0, 256)
        return array.tobytes()
    cut = {1: data[:start], 2: data[:start] + data[start + length :], 4: data + bytes(length)}
    cut[3] = data[:start] + data[start : start + length] * 2 + data[start + length :]
    cut[5] = data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]
    return cut[choice]


def mutate_text(text: str, rng: np.random.Generator) -> str:
    """One fault of an export or of a person with an editor: a word or a line changed, gone, doubled, swapped."""
    lines = text.split("\n")
    index, other = rng.integers(0, len(lines), 2)
    words = lines[index].split(" ")
    at = int(rng.integers(0, len(words)))
    choice = int(rng.integers(0, 9))
    if choice <= 3:
        words[at] = str(rng.choice(WORDS))
    elif choice == 4:
        words.insert(at, str(rng.choice(WORDS)))
    elif choice == 5:
        del words[at]
    if choice <= 5:
        lines[index] = " ".join(words)
    elif choice == 6:
        lines[index : index + 1] = [lines[index]] * int(rng.choice([0, 2]))
    elif choice == 7:
        lines[index], lines[other] = lines[other], lines[index]
    else:
        swaps = (("\n", "\r\n"), (" ", ","), (" ", "\t"), (" ", "  "), ("ply", "\ufeffply"), ("float", "double"))
        before, after = swaps[int(rng.integers(0, len(swaps)))]
        return text.replace(before, after)
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------------- judging
def same_cloud(cloud: Cloud, judged: Columns, made: Made) -> str:
    """What of a cloud differs from a judge's columns; empty where nothing does."""
    wanted = np.stack([np.asarray(judged[axis]) for axis in "xyz"], axis=1)
    if len(cloud) != len(wanted):
        return f"{len(cloud)} points, not {len(wanted)}"
    ours, value = cloud.coord.astype(np.float64) + cloud.origin, wanted.astype(np.float64)
    shifted = np.abs(value - cloud.origin)
    slack = 2.5e-7 * (np.abs(value) if wanted.dtype.itemsize < 8 else shifted) + 1e-9
    with np.errstate(invalid="ignore"):
        near = (np.abs(ours - value) <= slack) | (~np.isfinite(ours) & ~(shifted < 3.4e38))
    if not near.all():
        return f"coordinates differ in {int((~near).any(axis=1).sum())} points"
    if {"red", "green", "blue"} <= judged.keys() and judged["red"].dtype == made.columns.get("red", np.empty(0)).dtype:
        color = np.stack([judged[name] for name in ("red", "green", "blue")], axis=1).astype(np.float64)
        color = np.nan_to_num(color, posinf=0.0, neginf=0.0) * 255 / made.full
        if color.any() and (cloud.color is None or np.abs(cloud.color - np.clip(np.rint(color), 0, 255)).max() > 1):
            return "colours differ"
    label = next((judged[name] for name in judged if name.removeprefix("scalar_") in ("label", "classification")), None)
    if label is not None and label.any() and (cloud.segment is None or (np.abs(cloud.segment - label) > 1e-6).any()):
        return "labels differ"
    return ""


def judge_case(path: Path, kind: str, made: Made, tally: Tally, number: int) -> None:
    """Read one file with ours and theirs, and count the outcome."""
    cloud = tally.attempt(kind, f"case {number}", lambda: read_cloud(path), CloudError, [path.name])
    if cloud is None:
        return
    verdicts: dict[str, Columns | str] = {}
    for judge in JUDGES[kind.split()[0]]:
        try:
            verdicts[judge.__name__] = judge(path)
        except Exception as error:  # a judge may raise what it likes: it does not read the file
            verdicts[judge.__name__] = type(error).__name__
    differences = {}
    for name, judged in verdicts.items():
        try:
            differences[name] = f"refuses ({judged})" if isinstance(judged, str) else same_cloud(cloud, judged, made)
        except (KeyError, ValueError, TypeError) as error:
            differences[name] = f"has no x, y, z ({error})"
    by_color_or_label = any(words.startswith(("colours", "labels")) for words in differences.values())
    if not all(differences.values()) and not by_color_or_label:  # trimesh is a judge of coordinates alone
        for name, words in differences.items():
            if words:
                tally.disputes[f"{kind}: {name} {words.split(' in ')[0]}, the other judge reads as we do"] += 1
        tally.add(kind, SAME)
        return
    words = "; ".join(f"{name}: {text}" for name, text in differences.items())
    tally.add(kind, NOTED if told(cloud, list(differences.values())) else SILENT, f"case {number}: {words}")


def told(cloud: Cloud, differences: list[str]) -> bool:
    """Whether the reader's notes speak of what differs: a word about colours excuses no point."""
    dropped = drop_not_finite(cloud)[1]  # which every command counts in a note
    of_color = [note for note in cloud.notes if "colour" in note]
    if any(words.startswith("colours") for words in differences):
        return bool(of_color)
    refused = all(words.startswith("refuses") for words in differences if words)
    return dropped > 0 or len(of_color) < len(cloud.notes) or (bool(of_color) and refused)


def run(count: int, seed: int) -> Tally:
    """Make, mutate and read ``count`` clouds; a case depends on its number and the seed alone."""
    tally = Tally("clouds")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the judges' own
        for number in range(count):
            rng = np.random.default_rng([seed, number])
            kind = FORMATS[number % len(FORMATS)]
            path, made = case(Path(folder), kind, rng)
            judge_case(path, kind, made, tally, number)
            path.unlink()
    return tally


def case(folder: Path, kind: str, rng: np.random.Generator) -> tuple[Path, Made]:
    """One mutated file (one in eight stays as it was) and the cloud behind it."""
    path, made = written(folder, kind, rng)
    # most archives are odd by what is in them: a flipped byte is caught by their checksums
    rounds = [0, 1, 1, 1, 1, 1, 2, 3] if kind[:2] != "np" else [0, 0, 0, 0, 0, 1]
    for _ in range(int(rng.choice(rounds))):
        path.write_bytes(mutate(path.read_bytes(), kind, rng) or b"\n")
    return path, made


def written(folder: Path, kind: str, rng: np.random.Generator) -> tuple[Path, Made]:
    """A file as its format has it, and the cloud in it."""
    path, made = folder / f"case.{kind.split()[0]}", make(rng, kind)
    WRITERS.get(kind.split()[0], write_arrays)(path, made, kind, rng)
    return path, made


def mutate(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """One fault, in the text, the header or anywhere."""
    if kind in TEXT and rng.random() < 0.8:
        return mutate_text(data.decode("latin-1"), rng).encode("utf-8", "replace")
    if kind not in TEXT and kind.startswith(("ply", "pcd")) and rng.random() < 0.4:
        head, found, body = data.partition(b"end_header\n" if kind.startswith("ply") else b"DATA binary\n")
        return mutate_text(head.decode("latin-1"), rng).encode("utf-8", "replace") + found + body
    return mutate_bytes(data, rng) if data else data
