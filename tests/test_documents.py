"""What README, docs, notebooks and docstrings of scripts name is there: links, files, modules, configs."""

from __future__ import annotations

import ast
import fnmatch
import importlib
import re

import pytest

from tests.documents import PACKAGES, ROOT, Document, documents, repository

DOCUMENTS = {document.name: document for document in documents()}
FOLDERS = (*PACKAGES, "configs", "scripts", "tests", "docs", "examples", "notebooks")
#: files of Pointcept, and files that runs write or people bring
ELSEWHERE = re.compile(
    r"(^|/)(config|undo|tools/(test|train)|train|[\w-]+-fit|pointcept/.*|sonata_v1m1_base|README|dataset_card|learning|results)"
    r"\.(py|sh|md)$|^configs/scannet|lam3c-install\.json$"
)
#: configs of Pointcept
HOSTS = {"pretrain-sonata-v1m1-0-base", "pretrain-msc-v1m1-1-spunet-pointcontrast", "pretrain-msc-v1m2-0-spunet-csc"}
OLD = re.compile(
    r"\bstandalone\b|\b(apps|collecting|segmenting|reconstructors|proof)[/.]\w|\blam3c_plugin[./]viz\b|\b_io_\w+"
    r"|\bstage_run\b|\b_normals\.py|\bsynthetic/(walkthrough|trajectory|apartment|truth)\.py"
)

_FILE = re.compile(r"(?<![\w/.>*}$~%<-])(?:[\w.-]+/)*[\w.-]*\w\.(?:py|sh|md|ipynb|js|css|toml|yml|cff)\b(?![\w/*<{])")
_FOLDER = re.compile(rf"(?<![\w/.>*}}$~-])(?:{'|'.join(FOLDERS)})/[\w./-]*(?![\w/.*<{{\[]|-\w*[{{\[])")
_MODULE = re.compile(rf"(?<![\w/.-])(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+")
_CONFIG = re.compile(r"(?<![\w-])(?:pretrain|semseg|insseg)-[\w-]+-v\dm\d[\w-]*(?![\w*\[{<…-])")
_SHORT = re.compile(r"…?-?(\d\w*-[\w-]+)")
_PATTERN = re.compile(r"(?:pretrain|semseg|insseg)-[\w,*{}-]+")


def file_exists(name: str, document: Document) -> bool:
    """Whether a file is there: below the root, beside the document, or as the end of some path."""
    if (ROOT / name).exists() or (document.folder / name).exists() or ELSEWHERE.search(name):
        return True
    return any(path.endswith("/" + name.removeprefix("./")) for path in repository())


def module_exists(name: str) -> bool:
    """Whether a dotted name can be imported: a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.fixture(params=DOCUMENTS)
def document(request: pytest.FixtureRequest) -> Document:
    return DOCUMENTS[request.param]


def test_links_lead_somewhere(document):
    broken = []
    for target in document.links():
        path, _, anchor = target.partition("#")
        page = (document.folder / path).resolve() if path else ROOT / document.name
        known = DOCUMENTS.get(page.relative_to(ROOT).as_posix()) if page.is_relative_to(ROOT) else None
        if not page.exists() or (anchor and (known is None or anchor not in known.anchors())):
            broken.append(target)
    assert broken == []


def test_paths_are_there(document):
    files = {name for name in _FILE.findall(document.words) if not file_exists(name, document)}
    folders = {
        name for name in _FOLDER.findall(document.words) if not re.search(r"[A-Z]{4}", name)
    }  # no DATASET/CONFIG
    folders = {
        name for name in folders if not any((ROOT / f"{name.rstrip('./')}{end}").exists() for end in ("", ".py"))
    }
    assert sorted(files | {name for name in folders if not ELSEWHERE.search(name) and not _FILE.fullmatch(name)}) == []


def test_pages_are_short_and_listed():
    pages = {name: page for name, page in DOCUMENTS.items() if re.fullmatch(r"README\.md|docs/.*\.md", name)}
    lines = {name: len(page.text.splitlines()) for name, page in pages.items()}
    long = {name: count for name, count in lines.items() if count > (130 if name == "README.md" else 300)}
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    unlisted = [
        name
        for name in pages.keys() - {"README.md"}
        if name not in pages["README.md"].links() or f": {name.removeprefix('docs/')}\n" not in site + "\n"
    ]
    assert (long, sorted(unlisted)) == ({}, [])


def test_modules_are_there(document):
    names = {name for name in _MODULE.findall(document.words) if not re.search(r"\.(py|md|sh)$", name)}
    assert sorted(name for name in names if not module_exists(name)) == []


def test_examples_import_what_is_there(document):
    missing = []
    for block in document.fences("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
                missing += [f"{node.module}.{name.name}" for name in node.names]
            elif isinstance(node, ast.Import):
                missing += [name.name for name in node.names if name.name.split(".")[0] in PACKAGES]
    assert [name for name in missing if not module_exists(name)] == []


def spelled_out(pattern: str) -> list[str]:
    """A name with `{a,b}` as a shell spells it out."""
    match = re.fullmatch(r"(.*?)\{([^{}]*)\}(.*)", pattern)
    return (
        [name for word in match[2].split(",") for name in spelled_out(match[1] + word + match[3])]
        if match
        else [pattern]
    )


def test_configs_are_there(document):
    stems = {path.stem for path in (ROOT / "configs").rglob("*.py")}
    long = {name for name in _CONFIG.findall(document.words) if name.removesuffix("-fit") not in stems}
    spans = [name for span in document.spans() if _PATTERN.fullmatch(span) for name in spelled_out(span)]
    long |= {name for name in spans if not fnmatch.filter(stems, name.removesuffix(".py").removesuffix("-fit"))}
    short = {match[1] for span in document.spans() if (match := _SHORT.fullmatch(span))}
    assert sorted(long - HOSTS | {name for name in short if not any(stem.endswith(f"-{name}") for stem in stems)}) == []


def test_old_names_are_gone(document):
    assert [match[0] for match in OLD.finditer(document.words)] == []


def test_the_readers_find_what_is_wrong():
    page = Document("page.md", "# A page\n`scripts/gone.sh` and [b](#a-page) [c](gone.md)\n")
    assert page.links() == ["#a-page", "gone.md"]
    assert page.anchors() == {"a-page"}
    assert [file_exists(name, page) for name in ("scripts/gone.sh", "losses/clustering.py")] == [False, True]
    assert [module_exists(name) for name in ("data_tools.gravity", "lam3c_plugin.load")] == [False, True]
