"""``lam3c pca``: clouds coloured by the principal components of their features."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lam3c_plugin.commands.shared.options import add_encoder_options, add_output_options


def add_parser(subparsers: Any) -> None:
    """Add ``lam3c pca``."""
    parser = subparsers.add_parser(
        "pca",
        help="colour clouds by the principal components of their features",
        description="Colours clouds by three principal components of their features. Writes NAME_pca.ply (every point, "
        "the input's coordinates) and NAME_pca.png (four sides; colours above, components below); "
        "with --view also NAME_pca.html.",
        epilog="lam3c pca room.ply --random tiny --view",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="clouds, scene folders, folders of them")
    parser.add_argument("--first", type=int, default=0, help="components to pass over (default 0)")
    parser.add_argument(
        "--joint", action="store_true", help="one set of components for all inputs: equal colours mean equal features"
    )
    add_encoder_options(parser, level="2")
    add_output_options(parser, "out/pca")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from lam3c_plugin.commands.shared.files import say_made
    from lam3c_plugin.commands.shared.inputs import for_each, input_paths, open_encoder
    from lam3c_plugin.errors import ConfigError

    if args.first < 0:
        raise ConfigError(f"--first {args.first}: give 0 or more")
    paths = input_paths(args.inputs, args.out)
    encoder = open_encoder(args)
    if not args.joint:
        code = for_each(args, paths, lambda item, name: _colour(args, [_read(args, encoder, item, name, small=False)]))
    else:
        read: list[_Read] = []
        small = len(paths) > 1
        code = for_each(args, paths, lambda item, name: read.append(_read(args, encoder, item, name, small)))
        if read:
            _colour(args, read)
    turn = "click a point of the page" if args.view else "--view turns them in a browser"
    say_made(f"pictures and coloured points in {args.out}", f"{turn}; `lam3c similarity IN --pick X,Y,Z` compares one")
    return code


_Read = tuple[str, Any, Any]  # name, input, features


def _read(args: argparse.Namespace, encoder: Any, item: Any, name: str, small: bool) -> _Read:
    from dataclasses import replace

    import numpy as np

    from lam3c_plugin.commands.shared.inputs import cell_features

    found = cell_features(encoder, item, args)
    if small:
        found = replace(found, feat=found.feat.astype(np.float16))  # three decimals, and many rooms fit into memory
    return name, item, found


def _colour(args: argparse.Namespace, read: list[_Read]) -> None:
    """Colours clouds by the components that they have in common."""
    from lam3c_plugin.analysis.components import component_colors

    names, items, features = zip(*read, strict=True)
    colors, components = component_colors([found.feat for found in features], args.first)
    share = " ".join(f"{value:.0%}" for value in components.share[args.first :])
    for name, item, found, color in zip(names, items, features, colors, strict=True):
        _write(args, name, item, color[found.inverse], f"variance of the components shown: {share or 'none'}")


def _write(args: argparse.Namespace, name: str, item: Any, color: Any, note: str) -> None:
    from data_tools.drawing.pictures import to_uint8
    from data_tools.drawing.points import turntable
    from lam3c_plugin.commands.shared.files import save_picture, save_ply, show_page
    from lam3c_plugin.commands.shared.pages import color_layer, display_colors, layer, layers_page

    color, level = to_uint8(color), item.level
    rows = {"colours": display_colors(level), "principal components of the features": color}
    picture = turntable(level.coord, rows, f"{name}: features", args.size)
    done = [
        save_ply(args.out / f"{name}_pca.ply", item.cloud, color),
        save_picture(args.out / f"{name}_pca.png", picture),
    ]
    print(f"{name}: {len(level):,} points, {note}; {', '.join(map(str, done))}")
    if args.view:
        layers = [layer(level, "components", color), *color_layer(level)]
        html = layers_page(item, layers, f"{name}: components", f"{note[0].upper()}{note[1:]}.", args.max_points)
        print(show_page(args.out / f"{name}_pca.html", html, not args.no_open))
