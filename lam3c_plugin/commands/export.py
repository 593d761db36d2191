"""``lam3c export``: the network as a file that runs without this package (torch.export, ONNX)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lam3c_plugin.commands.shared.options import add_encoder_options

DESCRIPTION = """Exports everything of the encoder that has weights, for clouds of any size. Which points meet (cells,
curves, patches, neighbours, pooling) depends on the cloud through sorting and searching, which no export format holds
well: these index tables are inputs of the exported network. --tables IN writes them for a cloud, and
lam3c_plugin.export.network.lookup_tables makes them in PyTorch. Every file is run and held against the encoder on
clouds of other sizes before it gets its name (docs/tour.md)."""


def add_parser(subparsers: Any) -> None:
    """Add ``lam3c export``."""
    parser = subparsers.add_parser(
        "export",
        help="the network for torch.export (.pt2) or ONNX, checked against the encoder",
        description=DESCRIPTION,
        epilog="lam3c export --torch-export encoder.pt2 --tables room.ply --tables-out room_tables.npz",
    )
    parser.add_argument("--torch-export", type=Path, metavar="FILE.pt2", help="write with torch.export")
    parser.add_argument(
        "--onnx", type=Path, metavar="FILE.onnx", help="write ONNX (needs onnx, onnxscript, onnxruntime)"
    )
    parser.add_argument(
        "--head", metavar="NAME_OR_FILE", help="put a linear head behind it, as `lam3c segment` takes it"
    )
    parser.add_argument("--tables", type=Path, metavar="IN", help="a cloud whose inputs are to be written")
    parser.add_argument("--tables-out", type=Path, default=Path("tables.npz"), help="where to (default tables.npz)")
    add_encoder_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from lam3c_plugin.commands.shared.files import say_made
    from lam3c_plugin.commands.shared.inputs import open_encoder
    from lam3c_plugin.encode.files import read_input
    from lam3c_plugin.encode.heads import find_head
    from lam3c_plugin.errors import ConfigError
    from lam3c_plugin.export.files import linear_of, traced, write_onnx, write_torch

    if not (args.torch_export or args.onnx or args.tables):
        raise ConfigError("nothing to do: give --torch-export FILE.pt2, --onnx FILE.onnx or --tables IN")
    if args.level != "full":
        raise ConfigError(f"--level {args.level}: the exported network gives all levels; leave it out and cut columns")
    args.device = "cpu" if args.device == "auto" else args.device  # the file does not depend on it
    cloud = read_input(args.tables) if args.tables else None
    encoder = open_encoder(args)
    head = linear_of(find_head(args.head, encoder, args.checkpoint)) if args.head else None
    if args.torch_export or args.onnx:
        program = traced(encoder.backbone, head)
        for path, write in ((args.torch_export, write_torch), (args.onnx, write_onnx)):
            if path:
                off = write(program, encoder.backbone, path, head)
                print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; off by {off:.1e} of the largest value at most")
    if cloud is not None:
        _write_tables(args, encoder, cloud, head)
    made = [path for path in (args.torch_export, args.onnx, args.tables_out if args.tables else None) if path]
    say_made(made, "docs/tour.md runs it without this package; --tables IN writes the inputs of a cloud")
    return 0


def _write_tables(args: argparse.Namespace, encoder: Any, cloud: Any, head: Any) -> None:
    """The inputs of a cloud, the cell of each point, and what the network should give."""
    import torch

    from lam3c_plugin.commands.shared.files import save_npz
    from lam3c_plugin.commands.shared.inputs import say_notes
    from lam3c_plugin.encode.clouds import prepare
    from lam3c_plugin.encode.files import full_coord
    from lam3c_plugin.encode.upright import upright
    from lam3c_plugin.export.files import encoder_output, flat_inputs
    from lam3c_plugin.export.network import lookup_tables

    options = {"grid_size": args.grid_size, "normals": args.normals, "color_range": 255}
    level = upright(cloud, args.no_level).level
    say_notes([(args.tables.name, cloud.notes)])
    cells = prepare(full_coord(level), level.color, level.normal, **options)
    with torch.inference_mode():
        inputs = flat_inputs(cells.feat, lookup_tables(encoder.backbone, cells.cells))
        wanted = encoder_output(encoder.backbone, cells.feat, cells.cells, head)
    path = save_npz(args.tables_out, **inputs, inverse=cells.inverse.numpy(), output=wanted.numpy())
    print(f"{path}: {len(inputs)} inputs, `inverse` (the cell of each point) and `output` (what to expect)")
