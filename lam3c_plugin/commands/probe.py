"""``lam3c probe``: how much of a labelling a linear layer, or the nearest neighbours, read off frozen features."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lam3c_plugin.commands.shared.options import add_encoder_options, add_output_options

#: options that go into probe.json
RECORDED = ("level", "grid_size", "few", "labels", "ignore", "train_points", "val_points", "neighbours", "seed")


def add_parser(subparsers: Any) -> None:
    """Add ``lam3c probe``."""
    parser = subparsers.add_parser(
        "probe",
        help="linear and kNN probe on labelled scenes: mIoU, also with few labels",
        description="Encodes labelled scenes once (cached), then trains a linear layer and asks the nearest "
        "neighbours, with 1, 10 and 100 % of the labels. Writes probe.json, probe.txt and, of the first validation "
        "scene, probe.png and probe.ply; with --view also probe.html. A quick probe on a sample of points, not the "
        "protocol of the paper's tables (docs/tour.md).",
        epilog="lam3c probe --data data/rooms --random tiny --save-head head.pth",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/ scenes, or with scenes")
    parser.add_argument("--split", type=float, metavar="SHARE", help="of the scenes to train on, drawn with --seed")
    parser.add_argument("--labels", default="segment", help="label file in a scene folder (default segment)")
    parser.add_argument("--ignore", type=int, action="append", default=[], help="a label that does not count")
    parser.add_argument("--names", metavar="LIST", help="scannet, scannet200, scannetpp, s3dis, synthetic or a file")
    parser.add_argument("--few", choices=("points", "scenes"), default="points", help="what 1 and 10 %% are taken of")
    parser.add_argument("--shares", type=_shares, default=(0.01, 0.1, 1.0), help="percent (default 1,10,100)")
    parser.add_argument("--seeds", type=int, default=3, help="draws of few labels (default 3)")
    parser.add_argument("--train-points", type=int, default=4096, help="kept of a scene (default 4096; 0: all)")
    parser.add_argument("--val-points", type=int, default=20_000, help="kept of a scene (default 20000; 0: all)")
    parser.add_argument("--neighbours", type=int, default=20, help="that vote (default 20)")
    parser.add_argument("--save-head", type=Path, metavar="FILE", help="the linear probe with all labels (.pth)")
    add_encoder_options(parser)
    add_output_options(parser, "out/probe")
    parser.set_defaults(run=run)


def _shares(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) / 100 for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 < value <= 1 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r}: give percents between 0 and 100, as 1,10,100")
    return values


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    import numpy as np

    from lam3c_plugin.analysis.probing import run_probes
    from lam3c_plugin.commands.shared.classes import names_of_labels
    from lam3c_plugin.commands.shared.files import say_made
    from lam3c_plugin.commands.shared.inputs import cell_features, open_encoder
    from lam3c_plugin.encode.heads import write_head
    from lam3c_plugin.encode.labelled import check_labels, encode_samples, find_splits
    from lam3c_plugin.encode.upright import upright
    from lam3c_plugin.errors import ConfigError

    if min(args.seeds, args.neighbours) < 1 or min(args.train_points, args.val_points) < 0:
        raise ConfigError("--seeds and --neighbours are at least 1, --train-points and --val-points at least 0")
    train_scenes, val_scenes = find_splits(args.data, args.split, args.seed)
    check_labels(train_scenes, val_scenes, args.labels, args.ignore)  # before minutes of encoding
    encoder = open_encoder(args)
    key = {
        "weights": encoder.fingerprint(),
        **{name: getattr(args, name) for name in ("level", "grid_size", "no_level", "normals", "chunk")},
    }

    def encode(cloud: Any) -> tuple[np.ndarray, np.ndarray]:
        found = cell_features(encoder, upright(cloud, args.no_level), args)
        return found.feat, found.inverse

    sides = []
    for scenes, most in ((train_scenes, args.train_points), (val_scenes, args.val_points)):
        sides.append(encode_samples(scenes, encode, key, args.out / "cache", args.labels, args.ignore, most, args.seed))
    train, val = sides
    highest = max((int(s.label.max()) for s in (*train, *val) if len(s.label)), default=-1)
    names = names_of_labels(args.names, args.labels, train_scenes[0], highest)
    seeds = range(args.seed, args.seed + args.seeds)
    result = run_probes(train, val, len(names), args.shares, args.few, seeds, k=args.neighbours)
    if args.save_head:
        write_head(args.save_head, result.head.weight, result.head.bias, names, encoder.grid_size)
    made = [*_report(args, encoder, result, names, (len(train), len(val)))]
    made += _picture(args, encoder, val_scenes[0], result, names)
    option = args.save_head or "head.pth"
    weights = "".join(f" --{name} {value}" for name in ("checkpoint", "random") if (value := getattr(args, name)))
    use = f"`lam3c segment CLOUD --head {option}{weights}` labels other clouds with this probe"
    say_made([*made, *filter(None, [args.save_head])], use if args.save_head else f"--save-head {option}, then {use}")
    return 0


def _report(
    args: argparse.Namespace, encoder: Any, result: Any, names: list[str], scenes: tuple[int, int]
) -> list[Path]:
    """Print the tables and write them, and everything as JSON."""
    import json

    from lam3c_plugin.analysis.probing import class_table, few_label_table
    from lam3c_plugin.commands.shared.files import save_text

    tables = f"{few_label_table(result.rows, args.few)}\n\n{class_table(result.scores, names)}\n"
    print(f"{scenes[0]} training and {scenes[1]} validation scenes, {encoder.info.source}\n{tables}")
    content = {
        "encoder": encoder.info.source,
        "data": str(args.data),
        "scenes": {"train": scenes[0], "val": scenes[1]},
        "settings": {name: getattr(args, name) for name in RECORDED},
        "classes": names,
        "rows": [vars(row) for row in result.rows],
        "iou": {name: [round(float(v), 6) for v in scores.iou] for name, scores in result.scores.items()},
        "points": {name: [int(v) for v in scores.points] for name, scores in result.scores.items()},
    }
    return [
        save_text(args.out / "probe.json", json.dumps(content, indent=1) + "\n"),
        save_text(args.out / "probe.txt", tables),
    ]


def _picture(args: argparse.Namespace, encoder: Any, scene: Path, result: Any, names: list[str]) -> list[Path]:
    """The first validation scene: its labels, and what each probe makes of it."""
    import numpy as np

    from data_tools.drawing.pictures import with_legend
    from data_tools.drawing.points import turntable
    from lam3c_plugin.analysis.classes import label_colors, palette
    from lam3c_plugin.analysis.heads import classify
    from lam3c_plugin.analysis.probing import ignore_labels
    from lam3c_plugin.commands.shared.files import save_picture, save_ply, show_page
    from lam3c_plugin.commands.shared.inputs import cell_features
    from lam3c_plugin.commands.shared.pages import color_layer, layer, layers_page
    from lam3c_plugin.encode.labelled import read_labelled
    from lam3c_plugin.encode.upright import upright

    cloud = read_labelled(scene, args.labels)
    truth = ignore_labels(cloud.segment, args.ignore)
    item = upright(cloud, args.no_level)
    found, level = cell_features(encoder, item, args), item.level
    linear = classify(found.feat, result.head)[0][found.inverse]
    knn = result.bank.predict(found.feat)[found.inverse]
    values = {"labels": truth, "linear": linear, "kNN": knn}
    painted = {name: label_colors(value, names) for name, value in values.items()}
    present = np.unique(np.concatenate([truth[truth >= 0], linear, knn]))
    legend = [(names[i], palette(names)[i]) for i in present]
    picture = turntable(level.coord, painted, f"{scene.name}: labels and what the probes make of them", args.size)
    done = [
        save_picture(args.out / "probe.png", with_legend(picture, legend)),
        save_ply(args.out / "probe.ply", cloud, painted["linear"], linear),
    ]
    if args.view:
        layers = [layer(level, name, color, legend) for name, color in painted.items()] + color_layer(level)
        html = layers_page(item, layers, f"{scene.name}: probes", "Validation scene.", args.max_points)
        print(show_page(args.out / "probe.html", html, not args.no_open))
    return done
