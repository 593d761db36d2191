"""The page of one scene: its cloud to turn, frames, timeline, and every factor of meta.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_tools.reporting.clouds import layers_of, load_cameras, load_cloud
from data_tools.reporting.measures import flat, number, quality_parts
from data_tools.reporting.model import AREAS, STAGE_TITLES, Report, ReportSettings, SceneRow
from data_tools.reporting.pages import THEME_BUTTON, assets_digest, link, page, text
from data_tools.reporting.pictures import cloud_picture, data_address, shrunk
from data_tools.reporting.scan import find_pictures
from data_tools.reporting.viewer import camera_lines, embed, help_line, viewer_part, viewer_spec
from data_tools.stages.files import read_json
from data_tools.stages.scene_folder import META, settings_hash

MOST_FRAMES = 8
FRAME_WIDTH = 480  # pixels, at most
TIMELINE_WIDTH = 1600
MOST_LINES = 12
SHARES = ("score", "coverage", "floor_coverage", "wall_coverage", "double")  # quality parts in [0, 1]


def scene_key(row: SceneRow, settings: ReportSettings, video: dict[str, Any]) -> str:
    """What a scene's page depends on: its records, the settings, the writers of pages."""
    return settings_hash(
        {
            "scene": row.key,
            "state": [row.stage, row.status, row.reason, row.label, row.video],
            "video": video,
            "points": settings.points,
            "assets": assets_digest(),
        }
    )


def write_scene_page(report: Report, row: SceneRow, settings: ReportSettings) -> str:
    """HTML of one scene; stands alone but for the link back."""
    meta = read_json(report.out / row.split / row.name / META, dict) if row.split else {}
    video = report.videos.get(row.video, {})
    parts = [
        f'<header><h1>{text(row.name)}</h1><a href="../../index.html">all scenes</a>{THEME_BUTTON}</header>',
        f'<p class="soft">{_subtitle(row, video)}</p>',
        _cloud_part(report, row, settings, meta),
        _preview_part(report, row),
        _frames_part(report, row),
        _timeline_part(report, row),
        _quality_part(quality_parts(meta), meta.get("verdict")),
        _records_part(report, row),
        _meta_part(meta),
    ]
    key = scene_key(row, settings, video)
    return page(row.name, "\n".join(filter(None, parts)), styles=("viewer.css",), scripts=("viewer.js",), key=key)


def _subtitle(row: SceneRow, video: dict[str, Any]) -> str:
    facts = [row.split or "not packaged", row.label]
    if row.points:
        facts.append(f"{row.points:,} points")
    if len(row.extent) == 3:
        facts.append(" × ".join(f"{value:.2f}" for value in row.extent) + " m" + (f" ({row.said})" if row.said else ""))
    if row.spacing:
        facts.append(f"{1000 * row.spacing:.1f} mm spacing")
    if row.score is not None:
        facts.append(f"score {row.score:.3f}")
    shown = [text(fact) for fact in facts if fact]
    url, title = str(video.get("url") or ""), str(video.get("title") or row.video)
    if url.startswith(("https://", "http://")):
        shown.append(f'<a href="{text(url)}" rel="noreferrer noopener">{text(title)}</a>')
    elif title:
        shown.append(text(title))
    state = ""
    if row.status in ("rejected", "failed"):
        state = f"<br><b>{text(row.status)} at {text(row.stage)}</b>: {text(row.reason)}"
    return " · ".join(shown) + state


def _cloud_part(report: Report, row: SceneRow, settings: ReportSettings, meta: dict[str, Any]) -> str:
    cloud = load_cloud(row, settings.points)
    if cloud is None:
        picture = shrunk(row.picture, 960) if row.picture else None
        note = '<p class="soft">No cloud of this scene is there (any more).</p>'
        return note + (f'<img class="wide" src="{data_address(picture)}" alt="{text(row.name)}">' if picture else "")
    classes = meta.get("classes") if isinstance(meta.get("classes"), list) else None
    poses = load_cameras(report, row)
    lines = None if poses is None or not len(poses) else camera_lines(_some(poses))
    picture = data_address(cloud_picture(cloud.coord, cloud.color, cloud.normal, 640, quality=75))
    spec = viewer_spec(layers_of(cloud, classes), row.name, embed, settings.points, lines, picture)
    shown = f" Shown: {len(cloud):,} of {row.points:,} points." if row.points > len(cloud) else ""
    return f"{viewer_part(spec)}\n{help_line(shown)}"


def _some(poses: Any) -> Any:
    """At most 100 cameras, evenly: more hide the cloud."""
    return poses[:: -(-len(poses) // 100)]


def _preview_part(report: Report, row: SceneRow) -> str:
    data = shrunk(report.stage_folder("postprocess", row) / "preview.png", 1200)
    return f'<img class="wide" src="{data_address(data)}" alt="views of {text(row.name)}">' if data else ""


def _frames_part(report: Report, row: SceneRow) -> str:
    files = find_pictures(report.work / AREAS["reconstruct"] / row.name / "frames")[:MOST_FRAMES]
    shown = [(file, shrunk(file, FRAME_WIDTH)) for file in files]
    images = [
        f'<img src="{data_address(data)}" alt="{text(file.stem)}" loading="lazy">' for file, data in shown if data
    ]
    return f'<h2>Frames</h2>\n<div class="frames">{"".join(images)}</div>' if images else ""


def _timeline_part(report: Report, row: SceneRow) -> str:
    path = report.work / AREAS["segment"] / row.video / "timeline.png"
    data = shrunk(path, TIMELINE_WIDTH) if row.video and path.is_file() else None
    if not data:
        return ""
    image = f'<img class="wide" src="{data_address(data)}" alt="timeline of {text(row.video)}">'
    return f"<h2>Timeline of the video</h2>\n{image}"


def _quality_part(parts: dict[str, float], verdict: object) -> str:
    """The verdict in words, with what to film better, and the figures behind it."""
    if not parts:
        return ""
    said = "".join(f"<li>{text(line)}</li>" for line in verdict) if isinstance(verdict, list) else ""
    lines = []
    for name, value in parts.items():
        meter = f'<span class="meter"><i style="width:{100 * value:.1f}%"></i></span>'
        shown = meter if name in SHARES and 0 <= value <= 1 else ""
        lines.append(f"<tr><td>{text(name.replace('_', ' '))}</td><td>{value:.4g}</td><td>{shown}</td></tr>")
    return f'<h2>Quality</h2>\n<ul>{said}</ul>\n<div class="facts"><table>{"".join(lines)}</table></div>'


def _records_part(report: Report, row: SceneRow) -> str:
    """What each stage noted of the scene."""
    lines = []
    for stage in ("reconstruct", "postprocess"):
        record = read_json(report.stage_folder(stage, row) / "record.json", dict)
        if not record:
            continue
        notes = record.get("notes") if isinstance(record.get("notes"), list) else []
        result = record.get("result") if isinstance(record.get("result"), dict) else {}
        facts = [f"{name} {_plain(value)}" for name, value in sorted(result.items()) if _plain(value)]
        said = "<br>".join(text(line) for line in [record.get("reason"), *notes, ", ".join(facts)] if line)
        lines.append(
            f"<tr><td>{text(STAGE_TITLES[stage])}</td><td>{text(record.get('status'))}</td><td>{said}</td></tr>"
        )
    if not lines:
        return ""
    head = "<tr><th>stage</th><th>state</th><th>what it says</th></tr>"
    return f'<h2>Stages</h2>\n<div class="scroll"><table>{head}{"".join(lines)}</table></div>'


def _plain(value: object) -> str:
    found = number(value)
    if found is not None:
        return f"{found:.6g}"
    return value if isinstance(value, str) and len(value) < 80 else ""


def _meta_part(source: dict[str, Any]) -> str:
    """Every factor that was applied, as a table of plain values and as the file itself."""
    if not source:
        return ""
    rows = []
    for name, value in sorted(flat(source).items()):
        shown = _factor(value)
        if shown:
            rows.append(f"<tr><td>{text(name)}</td><td>{shown}</td></tr>")
    whole = text(json.dumps(source, indent=1, sort_keys=True, ensure_ascii=False))
    return (
        f'<h2>Factors</h2>\n<div class="facts"><table>{"".join(rows)}</table></div>\n'
        f"<details><summary>all of meta.json</summary><pre>{whole}</pre></details>"
    )


def _factor(value: object) -> str:
    """A factor as HTML: plain values, lines of text, short vectors; empty for what only the file shows."""
    if isinstance(value, (bool, str, int)):
        return text(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return "<br>".join(text(part) for part in value[:MOST_LINES])
    if isinstance(value, list) and 0 < len(value) <= 4 and all(number(part) is not None for part in value):
        return ", ".join(f"{part:.6g}" for part in value)
    return ""


def page_path(report_folder: Path, row: SceneRow) -> Path:
    """Where a scene's page lies."""
    return report_folder.joinpath("scenes", row.place[0], f"{row.name}.html")


def page_link(row: SceneRow) -> str:
    """Address of a scene's page from the index."""
    return link("scenes", row.place[0], f"{row.name}.html")
