"""The report's first page: the funnel, reasons, distributions, best and worst, the gallery."""

from __future__ import annotations

from collections.abc import Sequence

from data_tools.reporting.charts import charts_of, draw_chart, short
from data_tools.reporting.measures import funnel, reasons
from data_tools.reporting.model import STAGE_TITLES, STATUSES, ReasonRow, Report, ReportSettings, SceneRow, Step
from data_tools.reporting.pages import THEME_BUTTON, link, page, script_json, text
from data_tools.reporting.scene_page import page_link
from data_tools.reporting.yields import yields, yields_part

ORDERS = {
    "name": "by name",
    "score-down": "best score first",
    "score": "worst score first",
    "points-down": "most points first",
    "points": "fewest points first",
    "floor-down": "largest first",
    "floor": "smallest first",
    "height-down": "highest first",
    "height": "lowest first",
    "spacing-down": "widest spacing first",
    "spacing": "narrowest spacing first",
}
SCANNET_NOTE = (
    "Bars: scenes of this data set, the upright line its median. Dashed: ScanNet, <b>approximate</b>: log-normals "
    "around public figures (the ScanNet paper's sums over 1,513 scans: 34,453 m² of floor, 78,595 m² of surface; about "
    "150,000 vertices a scan), their spread estimated; made without its data."
)


def extremes(scenes: Sequence[SceneRow], count: int) -> tuple[list[SceneRow], list[SceneRow]]:
    """The best and the worst by score, best (worst) first; no scene is in both."""
    scored = sorted((row for row in scenes if row.score is not None), key=lambda row: (-(row.score or 0), row.place))
    best = scored[: min(count, (len(scored) + 1) // 2)]
    return best, scored[len(best) :][-count:][::-1] if count else []


def gallery_rows(scenes: Sequence[SceneRow], thumbs: set[tuple[str, str]]) -> list[list[object]]:
    """Rows of a data file, in the order of ``FIELDS`` in gallery.js."""
    rows: list[list[object]] = []
    for row in scenes:
        x, y, z = (round(v, 3) for v in row.extent) if len(row.extent) == 3 else (0, 0, 0)
        score = None if row.score is None else round(row.score, 4)
        thumb = row.thumb if (row.place[0], row.thumb) in thumbs else ""
        facts = [row.place[0], row.name, row.status, row.reason, row.label, row.video]
        rows.append([*facts, score, row.points, x, y, z, row.said, round(row.spacing, 6), thumb, int(row.has_page)])
    return rows


def chunk_text(rows: list[list[object]]) -> str:
    """A data file: a script, since pages opened from disk may not read JSON."""
    return f"RoomTours.chunk({script_json(rows)});\n"


def write_index(report: Report, settings: ReportSettings, chunks: Sequence[str], thumbs: set[tuple[str, str]]) -> str:
    """HTML of the first page; ``chunks`` are names of data files, ``thumbs`` (folder, file name) of thumbnails."""
    by_name = {row.name: row for row in report.scenes}
    parts = [
        f"<header><h1>{text(settings.title)}</h1>{THEME_BUTTON}</header>",
        _figures(report),
        _funnel_part(funnel(report), report.seconds),
        yields_part(yields(report)),
        _reasons_part(reasons(report), by_name),
        _charts_part(report.scenes),
        _extremes_part(report, settings, thumbs),
        _gallery_part(report, chunks),
    ]
    if report.license:
        parts.append(f'<h2>License</h2>\n<p class="soft">{text(report.license)}</p>')
    return page(settings.title, "\n".join(filter(None, parts)), scripts=("gallery.js",) if report.scenes else ())


def _figures(report: Report) -> str:
    packaged = [row for row in report.scenes if row.split]
    floor = sum(row.extent[0] * row.extent[1] for row in packaged if len(row.extent) == 3)
    figures = [(f"{len(packaged):,}", "scenes packaged")]
    for split in sorted({row.split for row in packaged}):
        count = sum(row.split == split for row in packaged)
        if count != len(packaged):
            figures.append((f"{count:,}", f"in {split}"))
    if report.videos:
        figures.insert(0, (f"{len(report.videos):,}", "videos"))
    if packaged:
        figures.append((short(sum(row.points for row in packaged)), "points"))
        figures.append((f"{floor:,.0f} m²", "floor plan, width × depth"))
    cells = "".join(f"<div><b>{text(value)}</b><span>{text(name)}</span></div>" for value, name in figures)
    return f'<div class="figures">{cells}</div>'


def _funnel_part(steps: Sequence[Step], seconds: dict[str, float]) -> str:
    if not steps:
        return ""
    most = max(step.total for step in steps) or 1
    lines = [_step_line(step, most, seconds.get(step.stage, 0.0)) for step in steps]
    key = "".join(f'<span><i class="{status}"></i>{status}</span>' for status in STATUSES)
    return f'<h2>From videos to scenes</h2>\n<div class="funnel">{"".join(lines)}</div>\n<div class="key">{key}</div>'


def _step_line(step: Step, most: int, seconds: float) -> str:
    bars = []
    for status in STATUSES:
        if step.counts[status]:
            width, title = 100 * step.counts[status] / most, f"{status}: {step.counts[status]:,}"
            bars.append(f'<i class="{status}" style="width:{width:.3f}%" title="{title}"></i>')
    notes = [f"{step.counts[status]:,} {status}" for status in STATUSES[1:] if step.counts[status]]
    if seconds > 0:
        notes.append(f"{seconds / 3600:.1f} h of work" if seconds >= 360 else f"{seconds:.0f} s of work")
    side = f'<b>{step.counts["done"]:,}</b> <span class="soft small">{" · ".join(notes)}</span>'
    return f'<span>{STAGE_TITLES[step.stage]}</span><span class="bar">{"".join(bars)}</span><span>{side}</span>'


def _reasons_part(rows: Sequence[ReasonRow], by_name: dict[str, SceneRow]) -> str:
    if not rows:
        return ""
    lines = []
    for row in rows:
        examples = "".join(f"<div>{_example(item, reason, by_name)}</div>" for item, reason in row.examples)
        more = f"<details><summary>{len(row.examples)} of them</summary>{examples}</details>"
        shown = more if row.count > 1 else examples
        lines.append(
            f'<tr><td class="word">{text(row.stage)}</td><td class="word">{text(row.status)}</td>'
            f'<td class="number">{row.count:,}</td><td>{text(row.reason)}</td><td class="small">{shown}</td></tr>'
        )
    head = '<tr><th>stage</th><th>state</th><th class="number">items</th><th>reason</th><th>examples</th></tr>'
    table = f'<div class="scroll"><table id="reasons">{head}{"".join(lines)}</table></div>'
    return f"<h2>What was left out, and why</h2>\n{table}"


def _example(item: str, reason: str, by_name: dict[str, SceneRow]) -> str:
    row = by_name.get(item)
    name = f'<a href="{text(page_link(row))}">{text(item)}</a>' if row is not None and row.has_page else text(item)
    return f'{name} <span class="soft">{text(reason)}</span>'


def _charts_part(scenes: Sequence[SceneRow]) -> str:
    charts = charts_of([row for row in scenes if row.split] or scenes)
    if not charts:
        return ""
    figures = "\n".join(draw_chart(chart) for chart in charts)
    return f'<h2>Distributions</h2>\n<div class="charts">\n{figures}\n</div>\n<p class="soft small">{SCANNET_NOTE}</p>'


def _card(row: SceneRow, thumbs: set[tuple[str, str]]) -> str:
    place = row.place[0]
    has_thumb = (place, row.thumb) in thumbs
    image = (
        f'<img loading="lazy" alt="{text(row.name)}" src="{text(link("thumbs", place, row.thumb))}">'
        if has_thumb
        else ""
    )
    tag = "" if row.status == "done" else f'<span class="tag {text(row.status)}">{text(row.status)}</span>'
    score = "" if row.score is None else f'<span class="score">{row.score:.2f}</span>'
    said = f" ({row.said})" if row.said else ""
    size = " × ".join(f"{value:.1f}" for value in row.extent) + f" m{said}" if row.extent else row.label
    inner = f'<div class="shot">{image}{tag}{score}</div><b>{text(row.name)}</b><span>{text(row.reason or size)}</span>'
    if row.has_page:
        return f'<a class="card" href="{text(page_link(row))}" title="{text(row.name)}">{inner}</a>'
    return f'<div class="card" title="{text(row.name)}">{inner}</div>'


def _extremes_part(report: Report, settings: ReportSettings, thumbs: set[tuple[str, str]]) -> str:
    parts = []
    for title, rows in zip(
        ("Best by score", "Worst by score"), extremes(report.scenes, settings.extremes), strict=True
    ):
        if rows:
            parts.append(f'<h2>{title}</h2>\n<div class="row">{"".join(_card(row, thumbs) for row in rows)}</div>')
    return "\n".join(parts)


def _options(values: Sequence[tuple[str, str]]) -> str:
    return "".join(f'<option value="{text(value)}">{text(name)}</option>' for value, name in values)


def _gallery_part(report: Report, chunks: Sequence[str]) -> str:
    if not report.scenes:
        return '<h2 id="gallery">Scenes</h2>\n<p class="soft">No scene yet.</p>'
    places = sorted({row.place[0] for row in report.scenes})
    statuses = [status for status in STATUSES if any(row.status == status for row in report.scenes)]
    named = [(place, "not packaged" if place == "_" else place) for place in places]
    data = script_json({"scenes": len(report.scenes), "chunks": [link("data", name) for name in chunks]})
    return (
        '<h2 id="gallery">Scenes</h2>\n<div class="tools">'
        '<input type="search" id="find" placeholder="name, room, video, reason" aria-label="search">'
        f'<select id="split" aria-label="split">{_options([("", "all splits"), *named])}</select>'
        f'<select id="status" aria-label="state">{_options([("", "all states"), *((s, s) for s in statuses)])}</select>'
        f'<select id="order" aria-label="order">{_options(list(ORDERS.items()))}</select>'
        '<span class="soft small" id="count"></span></div>\n<div class="grid" id="cards"></div>\n'
        '<div class="pager"><button type="button" id="before">back</button><span class="small" id="where"></span>'
        '<button type="button" id="after">next</button></div>\n'
        f'<script type="application/json" id="gallery-data">{data}</script>'
    )
