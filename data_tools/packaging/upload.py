"""Send a folder to a dataset of the Hugging Face Hub; what is there already is not sent again."""

from __future__ import annotations

import re
from pathlib import Path

from data_tools.packaging.card import NO_SPLITS, README, has_other_license, write_card
from data_tools.stages.record import StageError

ADDRESS = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)(?:/([^\s]+?))?/*")
LEFT_OUT = (".*", "*/.*", *(f"{name}/*" for name in NO_SPLITS))  # hidden files, the chain's work and report
MANY = 10_000


def parse_address(text: str) -> tuple[str, str]:
    """Dataset and path within it of ``hf://datasets/USER/NAME[/path]``.

    Raises:
        ValueError: it is something else; one line.
    """
    found = ADDRESS.fullmatch(text)
    if found is None or ".." in text.split("/"):
        raise ValueError(f"--upload {text!r}: give hf://datasets/USER/NAME, with or without /a/path behind it")
    return found[1], found[2] or ""


def upload(folder: Path, address: str, license_note: str = "") -> str:
    """Send a folder; a dataset that is not there is made, private.

    Raises:
        StageError: huggingface_hub is missing, nobody is logged in, no right, no connection; what was sent stays.
        OSError: a file cannot be read.
    """
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise StageError(f"--upload needs {error.name}: pip install huggingface_hub", permanent=False) from None
    repo, within = parse_address(address)
    if not hub.get_token():
        raise StageError("nobody is logged in to the hub: run `hf auth login` or set HF_TOKEN, then this again", False)
    sent = [path for path in folder.rglob("*") if _is_sent(path.relative_to(folder).parts)]
    links = [path for path in sent if path.is_symlink() and path.is_dir()]
    if links:  # which the hub's client passes over
        raise StageError(f"{links[0]}: a link to a folder is not sent; --shards 2GB packs its scenes", False)
    if not (folder / README).is_file():
        write_card(folder, folder, license_note)
    elif has_other_license(folder, license_note):
        print(f"note: {folder / README} names another licence than the scenes have: mend or delete it, then this again")
    if (count := sum(path.is_file() for path in sent)) > MANY:
        print(f"note: {count:,} files; the hub takes a few large ones sooner: --shards 2GB first")
    api = hub.HfApi(library_name="lam3c")
    try:
        api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo, folder_path=folder, path_in_repo=within, repo_type="dataset", ignore_patterns=[*LEFT_OUT]
        )
    except Exception as error:  # errors of the hub, its web client and xet share no base class
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StageError(
            f"{address}: {reason:.200}; check name, rights and connection, then start it again: what is there stays",
            permanent=False,
        ) from error
    return f"{address}: as {folder} is now ({done.commit_url})"


def _is_sent(parts: tuple[str, ...]) -> bool:
    """Whether `LEFT_OUT` lets a path through."""
    return parts[0] not in NO_SPLITS and not any(part.startswith(".") for part in parts)
