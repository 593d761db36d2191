"""``lam3c similarity``: how alike every point of a cloud is to picked ones."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from lam3c_plugin.commands.shared.options import add_encoder_options, add_output_options


def add_parser(subparsers: Any) -> None:
    """Add ``lam3c similarity``."""
    parser = subparsers.add_parser(
        "similarity",
        help="cosine similarity of every point to picked ones",
        description="Colours a cloud by the cosine similarity of its features to those of picked points (with several: "
        "to the most similar pick). Writes NAME_similarity.npz (similarity (P, N), picks), .ply and .png; with --view "
        "a page in which a click picks another point.",
        epilog="lam3c similarity room.ply --random tiny --pick 1.0,2.0,0.4 --pick 3,1,0.5 --view",
    )
    parser.add_argument("input", type=Path, metavar="IN", help="a cloud file or scene folder")
    parser.add_argument(
        "--pick",
        action="append",
        type=_pick,
        metavar="X,Y,Z",
        help="metres in the input's coordinates (the nearest point counts; "
        "may be given several times; default: the point in the middle of the box",
    )
    add_encoder_options(parser, level="2")
    add_output_options(parser, "out/similarity")
    parser._negative_number_matcher = re.compile(r"-\.?\d")  # -1,2,0.5 is a place and no option
    parser.set_defaults(run=run)


def _pick(text: str) -> tuple[float, float, float]:
    try:
        x, y, z = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y,Z in metres, as 1.0,2.5,0.4") from None
    return x, y, z


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    import numpy as np

    from data_tools.drawing.points import turntable
    from lam3c_plugin.analysis import similarity as core
    from lam3c_plugin.commands.shared.files import save_npz, save_picture, save_ply, say_made
    from lam3c_plugin.commands.shared.inputs import cell_features, open_encoder, output_names, say_notes
    from lam3c_plugin.commands.shared.pages import display_colors
    from lam3c_plugin.encode.files import full_coord, naming, read_input
    from lam3c_plugin.encode.upright import upright

    cloud = read_input(args.input)
    item, name = upright(cloud, args.no_level), output_names([args.input])[0]
    say_notes([(name, cloud.notes)])
    if args.pick:
        picked = core.nearest_rows(cloud.coord, np.array(args.pick) - cloud.origin)
    else:
        middle = (cloud.coord.min(axis=0) + cloud.coord.max(axis=0)) / 2
        picked = core.nearest_rows(cloud.coord, middle[None], limit=np.inf)
    encoder = open_encoder(args)
    with naming(args.input):
        features = cell_features(encoder, item, args)
    unit = core.unit_rows(features.feat)
    similarity = core.cosine_to(unit, features.inverse[picked])[:, features.inverse]
    best = similarity.max(axis=0)
    color = core.mark_points(core.heat_colors(best), cloud.coord, cloud.coord[picked])
    rows = {"colours": display_colors(cloud), "similarity to the points in green: dark blue little, yellow much": color}
    picture = turntable(item.level.coord, rows, f"{name}: similarity", args.size)
    done = [
        save_npz(args.out / f"{name}_similarity.npz", coord=full_coord(cloud), similarity=similarity, picked=picked),
        save_ply(args.out / f"{name}_similarity.ply", cloud, color),
        save_picture(args.out / f"{name}_similarity.png", picture),
    ]
    for number, row in enumerate(picked):
        place = ", ".join(f"{value:.3f}" for value in cloud.coord[row] + cloud.origin)
        low, high = np.percentile(similarity[number], [5, 95])
        print(f"pick {number + 1}: point {row} at ({place}); 90 % of the points lie between {low:.3f} and {high:.3f}")
    if args.view:
        _view(args, name, item, (unit, features.inverse), similarity, picked, color)
    say_made(done, "click other points of the page" if args.view else "--view: a page in which a click picks the point")
    return 0


def _view(
    args: argparse.Namespace, name: str, item: Any, cells: tuple[Any, Any], similarity: Any, picked: Any, color: Any
) -> None:
    from lam3c_plugin.analysis import similarity as core
    from lam3c_plugin.commands.shared.files import show_page
    from lam3c_plugin.commands.shared.pages import similarity_page

    (unit, inverse), cloud = cells, item.level
    packed = core.pack(unit)
    mean, largest = core.packing_error(unit, packed)
    layers = [("similarity", color, similarity.max(axis=0))]
    if cloud.color is not None:
        layers.append(("colours", cloud.color, None))
    if len(picked) > 1:
        for number, values in enumerate(similarity):
            paint = core.mark_points(core.heat_colors(values), cloud.coord, cloud.coord[picked[number], None])
            layers.append((f"pick {number + 1}", paint, values))
    note = (
        f"Click a point to compare all others with it. Clicks use {packed.code.shape[1]} of {unit.shape[1]} dimensions "
        f"in 8 bits: off by {mean:.3f} on average here, at most {largest:.3f}; the colours shown at first are exact."
    )
    html = similarity_page(item, layers, packed, inverse, f"{name}: similarity", note, args.max_points)
    print(show_page(args.out / f"{name}_similarity.html", html, not args.no_open))
