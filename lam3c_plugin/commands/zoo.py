"""``lam3c zoo``: find, download, check, convert and publish checkpoints."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lam3c_plugin.errors import CheckpointError

if TYPE_CHECKING:
    from lam3c_plugin.checkpoints.weights import Weights
    from lam3c_plugin.zoo import Card, Entry

_EXAMPLES = """examples:
  lam3c zoo list
  lam3c zoo download lam3c-ptv3-base                     shows the licence and asks once
  lam3c zoo download lam3c-ptv3-base --from /media/usb   out of a folder, without network
  lam3c zoo convert exp/run/model/model_last.pth backbone.safetensors --part teacher
  lam3c zoo info backbone.safetensors
  lam3c zoo add someone/their-checkpoints
  lam3c zoo publish exp/run/model/model_last.pth --out my-lam3c --repo me/my-lam3c"""


# ------------------------------------------------------------------------------------------------- list and download
def run_list(args: argparse.Namespace) -> int:
    """Print the entries of all indexes."""
    from lam3c_plugin.zoo import entries, store

    rows = [(entry, store.on_machine(entry)) for entry in entries()]
    if args.json:
        listed = [{**entry.to_json(), "here": lock.path if lock else None} for entry, lock in rows]
        print(json.dumps(listed, indent=1))
        return 0
    width = max(len(entry.name) for entry, _ in rows)
    for entry, lock in rows:
        print(f"{entry.name:<{width}}  {'here' if lock else '-':<4}  {entry.licence.upper():<13}  {entry.summary}")
        digest = entry.sha256 or (lock.sha256 if lock else None)
        known = f"SHA-256 {digest[:16]}…" if digest else "SHA-256 recorded at the first download"
        print(f"{'':<{width}}        {entry.where}; {known}")
        if args.scores and entry.scores:
            print(f"{'':<{width}}        " + ", ".join(f"{key} {value:g}" for key, value in entry.scores.items()))
    return 0


def run_download(args: argparse.Namespace) -> int:
    """Download entries and print where they lie; one of several that fails is said, and the rest goes on."""
    from lam3c_plugin.zoo import entries, find, obtain

    known = entries()
    options = {"source": args.source, "offline": True if args.offline else None, "yes": args.yes, "update": args.update}
    failed = 0
    for entry in [find(name, known) for name in args.names]:
        try:
            print(obtain(entry, **options))
        except CheckpointError as error:
            if len(args.names) == 1:
                raise
            print(f"error: {error}", file=sys.stderr)
            failed += 1
    if not failed:  # stdout has paths alone, for scripts
        print(f"next: `lam3c pca CLOUD --checkpoint {args.names[0]} --view` shows features", file=sys.stderr)
    return int(bool(failed))


def run_add(args: argparse.Namespace) -> int:
    """Add or remove other people's index."""
    from lam3c_plugin.zoo import added

    if args.remove:
        print(f"removed {added.remove(args.index)}")
        return 0
    path, made = added.add(args.index)
    for entry in made:
        print(f"{entry.name}  {entry.licence.upper()}  {entry.summary}")
    print(f"kept in {path}; `lam3c zoo add --remove {made[0].name}` undoes it")
    return 0


# ---------------------------------------------------------------------------------------------------- verify and info
def run_verify(args: argparse.Namespace) -> int:
    """Compare files with their hashes and read them; the exit code is 1 if one is wrong."""
    from lam3c_plugin.zoo import entries, store

    names = args.names or [entry.name for entry in entries() if store.on_machine(entry)]
    if not names:
        print("nothing is downloaded; `lam3c zoo verify FILE` checks a file")
    failed = 0
    for name in names:
        try:
            print(f"ok     {name}: {_verify(name)}")
        except CheckpointError as error:
            failed += 1
            print(f"wrong  {name}: {error}")
    return int(bool(failed))


def _place(name: str) -> tuple[Path, Entry | None]:
    """The path that a name means, or its entry; nothing is downloaded. Old spellings of file names are understood."""
    from lam3c_plugin.zoo import entries, resolve

    path, known = Path(name).expanduser(), entries()
    entry = next((entry for entry in known if name.lower() == entry.name), None)
    if entry is None and not path.exists():
        entry = next((entry for entry in known if name.lower() in entry.spellings()), None)
        if path.parent != Path():
            path = resolve(path)  # the other spelling, or an error that says what is like it
    return path, entry


def _verify(name: str) -> str:
    from lam3c_plugin.checkpoints.weights import read
    from lam3c_plugin.zoo import publish, store

    path, entry = _place(name)
    lock = store.on_machine(entry) if entry else None
    if entry and lock is None:
        raise CheckpointError(f"it is not on this machine; run `lam3c zoo download {entry.name}`")
    path = Path(lock.path) if lock else path
    said = []
    wanted = (entry.sha256 or lock.sha256) if lock and entry else None
    if path.is_dir() and (path / publish.SUMS).is_file():
        said.append(f"{len(publish.check_sums(path))} files as in {publish.SUMS}")
    elif path.is_file():
        digest = store.sha256_of(path)
        if wanted and digest != wanted:
            raise CheckpointError(f"{path} has the SHA-256 {digest} where {wanted} was expected; get it again")
        said.append(f"SHA-256 {digest}" + (" as expected" if wanted else " (nothing to compare with)"))
    weights = read(path, config=entry.config if entry else None)
    if weights.backbone:
        weights.check_usable()
    return "; ".join([*said, weights.keys_report() if weights.backbone else "a head"])


def run_info(args: argparse.Namespace) -> int:
    """Print what a checkpoint is."""
    from lam3c_plugin.checkpoints.weights import read
    from lam3c_plugin.zoo import entries, find, store

    path, entry = _place(args.name)
    if entry is None and not path.exists():
        find(args.name, entries())  # says so, and what is like it
    if entry:
        lock = store.on_machine(entry)
        if lock is None:
            content = {**entry.to_json(), "here": None}
            _print_facts(content, args.json)
            if not args.json:
                print(f"it is not on this machine; `lam3c zoo download {entry.name}` gets it")
            return 0
        path = Path(lock.path)
    weights = read(path, part=args.part, config=_config(args) or (entry.config if entry else None))
    _print_facts(_facts(weights, entry), args.json)
    return 0


def _print_facts(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for key, value in facts.items():
        if key == "backbone_config" and value:
            print("config")
            print("\n".join(f"  {name:<16} {_short(item)}" for name, item in value.items()))
        elif value not in (None, [], {}):
            print(f"{key:<11} {_short(value)}")


def _facts(weights: Weights, entry: Entry | None) -> dict[str, Any]:
    from lam3c_plugin.checkpoints import convert
    from lam3c_plugin.zoo import store

    source = weights.source
    tensors = {**weights.backbone, **(weights.head or {})}
    return {
        "source": str(source),
        "name": entry.name if entry else None,
        "licence": f"{entry.licence.upper()} {entry.licence_url}" if entry else None,
        "kind": weights.kind,
        "parameters": weights.parameters or None,
        "dtypes": sorted({str(value.dtype).removeprefix("torch.") for value in tensors.values()}),
        "keys": weights.keys_report() if weights.backbone else None,
        "inputs": weights.inputs,
        "head": weights.head_config,
        "sha256": store.sha256_of(source) if source.is_file() else None,
        "tensors": convert.tensors_digest(weights),
        "notes": weights.notes,
        "backbone_config": weights.backbone_config,
    }


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


# ------------------------------------------------------------------------------------------------ convert and publish
def run_convert(args: argparse.Namespace) -> int:
    """Write a checkpoint in another format."""
    from lam3c_plugin.checkpoints import convert
    from lam3c_plugin.zoo import publish

    weights = _load(args)
    target = Path(args.target).expanduser()
    layout = args.to or convert.default_format(target, weights)
    if not args.force:
        for path in convert.targets(weights, target, layout):
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                raise CheckpointError(f"{path} is there already; name another file, or pass --force")
    _say(weights)
    for path in publish.write(weights, target, layout, _card(args, target)):
        print(path)
    print(f"next: `lam3c zoo info {target}` tells what is in it", file=sys.stderr)
    return 0


def run_publish(args: argparse.Namespace) -> int:
    """Write a Hub folder and upload it where a repository is named."""
    from lam3c_plugin.zoo import publish

    weights = _load(args)
    weights.check_usable()  # others shall be able to use it
    _say(weights)
    folder = Path(args.out or (args.repo or "").rpartition("/")[2] or f"{Path(args.checkpoint).stem}-hub").expanduser()
    publish.write_folder(weights, folder, _card(args, folder))
    print(folder)
    if not args.repo:
        print("nothing was uploaded; `--repo owner/name` does that with your own login", file=sys.stderr)
        return 0
    print(publish.upload(folder, args.repo, private=args.private))
    return 0


def _load(args: argparse.Namespace) -> Weights:
    from lam3c_plugin.checkpoints.weights import read
    from lam3c_plugin.zoo import open_weights

    weights = open_weights(args.checkpoint, part=args.part, config=_config(args), yes=args.yes)
    if args.head:
        head = read(Path(args.head).expanduser())
        if head.head is None:
            raise CheckpointError(f"{args.head} has no head (seg_head.weight and seg_head.bias)")
        weights.head, weights.head_config = head.head, head.head_config
    return weights


def _say(weights: Weights) -> None:
    print(f"{weights.source}: {weights.kind}; {weights.keys_report()}", file=sys.stderr)
    broken = weights.not_finite()
    notes = [
        *weights.notes,
        *([f"{len(broken)} tensors hold NaN or infinite values ({broken[0]}, …)"] if broken else []),
    ]
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _config(args: argparse.Namespace) -> dict[str, Any] | None:
    """``--config``: JSON, or a file of it."""
    if not args.config:
        return None
    try:
        text = args.config if args.config.lstrip().startswith("{") else Path(args.config).read_text(encoding="utf-8")
        content = json.loads(text)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"--config {args.config:.60}: {error}; give JSON or a file of it") from error
    if not isinstance(content, dict):
        raise CheckpointError("--config must be a JSON object of the backbone's arguments")
    return content.get("backbone", content)


def _card(args: argparse.Namespace, target: Path) -> Card:
    from lam3c_plugin.zoo import Card
    from lam3c_plugin.zoo.card import entry_name

    scores = {}
    for item in args.score:
        key, _, value = item.rpartition("=")
        try:
            scores[key.strip()] = float(value)
        except ValueError:
            key = ""
        if not key.strip():
            raise CheckpointError(f"--score {item!r} must be NAME=PERCENT, such as 'ScanNet LP=66.0'")
    texts = {
        "summary": " ".join((args.summary or "").split()),
        "licence": args.licence,
        "repo": getattr(args, "repo", None),
    }
    name = args.name or target.resolve().name
    return Card(entry_name(name), scores=scores, **{key: value for key, value in texts.items() if value})


# ------------------------------------------------------------------------------------------------------------ parsers
def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "zoo",
        help="checkpoints: list, download, verify, convert, info, add, publish",
        description="Checkpoints: names, downloads, checks, formats. Files are opened as data and never run.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=lambda args: parser.print_help())
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions")

    def action(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        made.set_defaults(run=run)
        return made

    command = action("list", run_list, "what there is, and what is on this machine")
    command.add_argument("--scores", action="store_true", help="with their scores (mIoU, percent)")
    command.add_argument("--json", action="store_true", help="as JSON")

    command = action("download", run_download, "get checkpoints; a broken download goes on where it stopped")
    command.add_argument("names", nargs="+", metavar="NAME")
    command.add_argument("--from", dest="source", metavar="DIR|URL", help="a folder with the file, or a Hub mirror")
    command.add_argument("--offline", action="store_true", help="no network (as HF_HUB_OFFLINE=1)")
    command.add_argument("--update", action="store_true", help="take the source's present version, not the first one")
    command.add_argument("--yes", action="store_true", help="agree to the licence")

    command = action("verify", run_verify, "compare hashes and read the tensors; without names: all that is downloaded")
    command.add_argument("names", nargs="*", metavar="NAME|FILE")

    command = action("info", run_info, "kind, config, parameters, keys and hash of a checkpoint")
    command.add_argument("name", metavar="NAME|FILE")
    command.add_argument("--json", action="store_true", help="as JSON")
    _add_reading(command)

    command = action("convert", run_convert, "write a checkpoint in another format, number for number")
    command.add_argument("checkpoint", metavar="NAME|FILE")
    command.add_argument("target", metavar="OUT", help="file or folder; its ending says the format")
    command.add_argument(
        "--to", choices=("backbone", "safetensors", "folder", "head", "training", "segmentor"), help="the format"
    )
    command.add_argument("--force", action="store_true", help="overwrite")
    _add_writing(command)

    command = action("add", run_add, "add other people's index: a file, folder, https address or Hub repository")
    command.add_argument("index", metavar="INDEX")
    command.add_argument("--remove", action="store_true", help="remove the index that brought the entry INDEX")

    command = action("publish", run_publish, "write a folder for the Hub, and upload it with your own login")
    command.add_argument("checkpoint", metavar="NAME|FILE")
    command.add_argument("--out", metavar="DIR", help="the folder")
    command.add_argument("--repo", metavar="OWNER/NAME", help="upload to this repository of the Hub")
    command.add_argument("--private", action="store_true", help="make the repository private")
    _add_writing(command)


def _add_reading(command: argparse.ArgumentParser) -> None:
    command.add_argument("--part", choices=("student", "teacher"), default="student", help="of a training checkpoint")
    command.add_argument("--config", metavar="JSON", help="backbone arguments over the file's: JSON, or a file of it")


def _add_writing(command: argparse.ArgumentParser) -> None:
    _add_reading(command)
    command.add_argument("--head", metavar="FILE", help="a head to put beside the backbone")
    command.add_argument("--name", help="in the model card and the index")
    command.add_argument("--summary", help="one line for the model card")
    command.add_argument("--licence", help="its id (default: cc-by-nc-4.0, as LAM3C's weights and RoomTours are)")
    command.add_argument("--score", action="append", default=[], metavar="NAME=PERCENT", help="repeatable")
    command.add_argument("--yes", action="store_true", help="agree to the licence of a zoo name")
