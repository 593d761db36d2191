"""The part of the learning report on its rooms: sets, seeds, noise levels."""

from __future__ import annotations

from dataclasses import fields

from data_tools.synthetic.rooms.noise import NOISE_LEVELS, NoiseLevel
from data_tools.synthetic.rooms.rooms import ROOM_KINDS
from experiments.learning.markdown import in_words, table
from experiments.learning.presets import SEEDS
from experiments.learning.scores import Results

NOISE_TITLES = {
    "view_shift": "view shift, std, m",
    "view_turn": "view turn, std, degrees",
    "double_share": "misplaced views (double walls), share",
    "double_shift": "their shift, m",
    "depth_floor": "depth error, std, m",
    "depth_square": "more of it per depth², 1/m",
    "depth_wave": "smooth depth error a view, share of the depth",
    "drift": "bending of the cloud, m",
    "holes": "holes per 10 m² of floor",
    "hole_radius": "their largest radius, m",
    "floaters": "floating points at depth edges, share",
    "density_fall": "density falls with depth to the power of",
    "blur": "colours mix over, m",
    "blur_mix": "share of the mixture",
    "color_noise": "colour noise, std, 0..1",
    "exposure": "brightness of a view, std",
}


def section(results: Results) -> str:
    """The sets of rooms and the noise levels."""
    levels = list(NOISE_LEVELS)
    rows = [
        (NOISE_TITLES[field.name], *(f"{getattr(NOISE_LEVELS[level], field.name):g}" for level in levels))
        for field in fields(NoiseLevel)
    ]
    return f"""## Data

Rooms of `data_tools.synthetic`: {len(results.classes)} classes, {len(ROOM_KINDS)} kinds of rooms
({", ".join(kind.replace("_", " ") for kind in ROOM_KINDS)}), layouts and styles drawn anew for every room. Furniture
of a room shares its paints, so that colour alone does not tell the classes. A room's seed is that of its set and its
number, so no two sets share one.

{table(("set", "generator's seed", "rooms", "noise", "labels used"), _sets(results))}

The noise levels (`data_tools/synthetic/rooms/noise.py`); `pi3` is the one nearest to clouds of that network:

{table(("noise", *levels), rows)}"""


def _sets(results: Results) -> list[tuple[str, ...]]:
    """The sets of rooms: name, seed, number, noise, labels."""
    settings, main = results.settings, results.main
    seeds = settings.get("generator_seeds", SEEDS)
    rooms = sorted({run["rooms"] for run in results.pretrain})
    noise = [level for level in NOISE_LEVELS if level in {run["noise"] for run in results.pretrain}]
    number = in_words(map(str, rooms)) or "–"
    if main is not None and len(rooms) > 1:
        number = f"{main.rooms} (curve: {number})"
    lines = [("pre-training", str(seeds["pretrain"]), number, ", ".join(noise) or "–", "none")]
    for split, title in (("train", "probe and fine-tuning"), ("val", "validation"), ("test", "test")):
        lines.append((title, str(seeds[split]), str(settings.get(f"{split}_rooms", "–")), "clean", "all"))
    return lines
