"""Make the report: thumbnails, pages, data files, index. Only what changed is made; killed runs leave nothing half."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from data_tools.reporting.clouds import load_cloud
from data_tools.reporting.index_page import chunk_text, extremes, gallery_rows, write_index
from data_tools.reporting.model import Report, ReportSettings, SceneRow
from data_tools.reporting.pages import page_key
from data_tools.reporting.pictures import RENDERED_POINTS, cloud_picture, shrunk
from data_tools.reporting.scene_page import page_path, scene_key, write_scene_page
from data_tools.stages.files import is_being_written, replacing
from data_tools.stages.run import in_processes

FOLDERS = ("data", "scenes", "thumbs")
SERVE = "serve.js"  # empty on disk; the server answers with another one
THUMB_WIDTH = 280  # pixels; thumbnails are 4 : 3


def write_file(path: Path, data: bytes | str) -> bool:
    """Write through a temporary name, unless the file holds just that already; returns whether it was written."""
    data = data.encode("utf-8") if isinstance(data, str) else data
    if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return False
    with replacing(path) as partial_path:
        partial_path.write_bytes(data)
    return True


def make_thumb(folder: Path, row: SceneRow) -> bool:
    """Make one scene's thumbnail, where it is not there yet; whether there is one."""
    path = folder.joinpath("thumbs", row.place[0], row.thumb)
    if path.is_file():
        return True
    data = shrunk(row.picture, THUMB_WIDTH, crop=True) if row.picture is not None else None
    if data is None and row.cloud is not None and row.cloud.is_dir():
        cloud = load_cloud(row, RENDERED_POINTS)
        if cloud is not None:
            data = cloud_picture(cloud.coord, cloud.color, cloud.normal, THUMB_WIDTH)
    if data is not None:
        write_file(path, data)
    return data is not None


def _thumbs(report: Report, folder: Path, jobs: int, is_quiet: bool) -> set[tuple[str, str]]:
    """All thumbnails: their folders and names."""
    from tqdm import tqdm

    results = in_processes(report.scenes, partial(make_thumb, folder), lambda row: False, jobs)
    bar = tqdm(results, total=len(report.scenes), desc="thumbnails", unit="scene", disable=is_quiet)
    rows = [report.scenes[index] for index, has_thumb in bar if has_thumb]
    return {(row.place[0], row.thumb) for row in rows}


def chosen_pages(report: Report, folder: Path, settings: ReportSettings) -> list[SceneRow]:
    """Scenes that get a page: the first by name, the best and worst, and those that have one already."""
    most = len(report.scenes) if settings.pages is None else settings.pages
    best, worst = extremes(report.scenes, settings.extremes)
    chosen = {row.place for row in [*report.scenes[:most], *best, *worst]}
    return [row for row in report.scenes if row.place in chosen or page_path(folder, row).is_file()]


def make_page(report: Report, folder: Path, settings: ReportSettings, row: SceneRow) -> bool:
    """A scene's page, unless the one on disk is current; returns whether it was written."""
    path = page_path(folder, row)
    if page_key(path) == scene_key(row, settings, report.videos.get(row.video, {})):
        return False
    return write_file(path, write_scene_page(report, row, settings))


def sweep(folder: Path, expected: Iterable[Path]) -> int:
    """Remove what earlier reports left in the folders of the report; returns how many files."""
    wanted, removed = set(expected), 0
    for name in FOLDERS:
        for root, folders, files in os.walk(folder / name, topdown=False):
            for file in files:
                path = Path(root, file)
                if path not in wanted and not is_being_written(path):
                    path.unlink(missing_ok=True)
                    removed += 1
            if not any(Path(root).iterdir()) and folders is not None:
                Path(root).rmdir()
    return removed


def build(
    report: Report, folder: Path, settings: ReportSettings, jobs: int = 1, is_quiet: bool = False
) -> dict[str, int]:
    """Write or refresh a report.

    Args:
        folder: of the report; only its sub-folders ``data``, ``scenes``, ``thumbs`` and ``index.html`` are touched.
        jobs: processes for the thumbnails.
        is_quiet: no progress bar.

    Returns:
        Counts: scenes, thumbnails, pages, written (pages that changed), removed (stale files).

    Raises:
        OSError: the folder cannot be written; what was there is whole still.
    """
    from tqdm import tqdm

    thumbs = _thumbs(report, folder, jobs, is_quiet)
    rows, written = chosen_pages(report, folder, settings), 0
    for row in tqdm(rows, desc="pages", unit="page", disable=is_quiet):
        written += make_page(report, folder, settings, row)
        row.has_page = True
    lines = gallery_rows(report.scenes, thumbs)
    files = [folder / "data" / SERVE]
    chunks = []
    for start in range(0, len(lines), settings.chunk):
        chunks.append(f"scenes-{len(chunks):04d}.js")
        files.append(folder / "data" / chunks[-1])
        write_file(files[-1], chunk_text(lines[start : start + settings.chunk]))
    write_file(folder / "data" / SERVE, "")
    write_file(folder / "index.html", write_index(report, settings, chunks, thumbs))
    files += [page_path(folder, row) for row in rows] + [folder.joinpath("thumbs", *thumb) for thumb in thumbs]
    removed = sweep(folder, files)
    return {
        "scenes": len(report.scenes),
        "thumbnails": len(thumbs),
        "pages": len(rows),
        "written": written,
        "removed": removed,
    }
