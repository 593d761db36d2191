"""A hook of MkDocs: README is the first page, and links to files outside of ``docs/`` lead to the repository."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)\s#]+)")


def _in_repository(target: str, config: Any) -> str:
    """Address of a file or folder of the repository: where it is published, else in this checkout."""
    if not config.repo_url:
        return (ROOT / target).as_uri()
    return f"{config.repo_url}/{'tree' if (ROOT / target).is_dir() else 'blob'}/main/{target}"


def on_files(files: Any, config: Any) -> Any:
    """Add README as the first page."""
    from mkdocs.structure.files import File

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=_LINK.sub(lambda found: _moved(found, "", config), text)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point the links of a page that leave ``docs/`` at the repository."""
    if page.file.src_uri == "index.md":
        return markdown
    folder = os.path.dirname(f"docs/{page.file.src_uri}")
    return _LINK.sub(lambda found: _moved(found, folder, config, keep=True), markdown)


def _moved(found: re.Match[str], folder: str, config: Any, keep: bool = False) -> str:
    target = os.path.normpath(os.path.join(folder, found[2]))
    if target.startswith("docs/"):
        return found[0] if keep else found[1] + target.removeprefix("docs/")
    return found[1] + _in_repository(target, config)
