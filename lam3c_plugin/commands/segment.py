"""``lam3c segment``: a class for every point, by a linear head on the features."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lam3c_plugin.commands.shared.options import add_encoder_options, add_output_options


def add_parser(subparsers: Any) -> None:
    """Add ``lam3c segment``."""
    parser = subparsers.add_parser(
        "segment",
        help="a class for every point, by a linear probe head",
        description="Classifies every point with a linear head on the full features. Writes NAME_segment.ply "
        "(coloured, the label as `segment`), NAME_segment.npz (segment, probability) and NAME_segment.png, and prints "
        "how many points each class has; with --view a page, too.",
        epilog="lam3c segment room.ply --checkpoint lam3c-ptv3-base --head scannet --view",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="clouds, scene folders, folders of them")
    parser.add_argument(
        "--head",
        metavar="NAME_OR_FILE",
        help="scannet (the zoo's probe head for the encoder), a zoo name, or a file as `lam3c probe --save-head` "
        "writes it; default: the head in the checkpoint",
    )
    parser.add_argument("--names", metavar="LIST", help="scannet, scannet200, scannetpp, s3dis, synthetic or a file")
    add_encoder_options(parser)
    add_output_options(parser, "out/segment")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from lam3c_plugin.analysis.heads import classify
    from lam3c_plugin.commands.shared.classes import class_names
    from lam3c_plugin.commands.shared.files import say_made
    from lam3c_plugin.commands.shared.inputs import cell_features, for_each, input_paths, open_encoder
    from lam3c_plugin.encode.heads import find_head
    from lam3c_plugin.errors import ConfigError

    if args.level != "full":
        raise ConfigError(f"--level {args.level}: probe heads read all levels; leave it out")
    paths = input_paths(args.inputs, args.out)
    encoder = open_encoder(args)
    head = find_head(args.head, encoder, args.checkpoint)
    names = head.names if head.names and not args.names else class_names(args.names, len(head.weight))

    def work(item: Any, name: str) -> None:
        features = cell_features(encoder, item, args)
        label, share = classify(features.feat, head)
        _write(args, name, item, label[features.inverse], share[features.inverse], names)

    code = for_each(args, paths, work)
    turn = "open the page" if args.view else "--view turns them in a browser"
    say_made(f"labels (.npz), coloured points (.ply) and pictures in {args.out}", f"look at the pictures; {turn}")
    return code


def _write(args: argparse.Namespace, name: str, item: Any, segment: Any, share: Any, names: list[str]) -> None:
    import numpy as np

    from data_tools.drawing.pictures import to_uint8, with_legend
    from data_tools.drawing.points import turntable
    from lam3c_plugin.analysis.classes import label_colors, palette
    from lam3c_plugin.commands.shared.files import save_npz, save_picture, save_ply, show_page
    from lam3c_plugin.commands.shared.pages import color_layer, display_colors, layer, layers_page

    level = item.level
    color, colors = label_colors(segment, names), palette(names)
    counts = np.bincount(segment, minlength=len(names))
    present = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    legend = [(names[i], colors[i]) for i in present]
    picture = turntable(
        level.coord, {"colours": display_colors(level), "classes": color}, f"{name}: classes", args.size
    )
    done = [
        save_ply(args.out / f"{name}_segment.ply", item.cloud, color, segment),
        save_npz(args.out / f"{name}_segment.npz", segment=segment, probability=share, names=np.array(names)),
        save_picture(args.out / f"{name}_segment.png", with_legend(picture, legend)),
    ]
    print(f"{name}: {len(level):,} points; {', '.join(map(str, done))}")
    width = max(len(names[i]) for i in present)
    print(f"{'class':<{width}}      points   share  mean probability")
    for i in present:
        print(
            f"{names[i]:<{width}}  {counts[i]:>10,}  {counts[i] / len(level):>6.1%}  {share[segment == i].mean():.3f}"
        )
    if args.view:
        gray = to_uint8(np.repeat(share[:, None], 3, axis=1))
        layers = [layer(level, "classes", color, legend), layer(level, "probability", gray), *color_layer(level)]
        html = layers_page(item, layers, f"{name}: classes", f"{len(present)} classes.", args.max_points)
        print(show_page(args.out / f"{name}_segment.html", html, not args.no_open))
