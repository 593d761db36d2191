"""The yield: scenes a video, hours kept, and why not, by the set that videos come from, beside the paper's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from data_tools.reporting.measures import generic_reason, number
from data_tools.reporting.model import Report
from data_tools.reporting.pages import text

#: arXiv 2512.23042: scenes, videos of its own, and the sets beside those
PAPER_SCENES, PAPER_VIDEOS = 49_219, 3_462
PAPER_SETS = "RealEstate10K, YouTube House Tours, HouseTours"
PAPER = f"{PAPER_SCENES:,} scenes from {PAPER_VIDEOS:,} videos and {PAPER_SETS}"
OTHERS = "others"  # videos that no list named
SHOWN = 3


@dataclass
class Yield:
    """What one set of videos gave.

    Attributes:
        used: videos with a finished scene.
        kept: hours of video in finished scenes.
        reasons: (stage, reason) of videos and scenes that are not finished.
    """

    name: str
    videos: int = 0
    used: int = 0
    scenes: int = 0
    hours: float = 0.0
    kept: float = 0.0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def a_video(self) -> float:
        """Scenes a video."""
        return self.scenes / max(self.videos, 1)


def yields(report: Report) -> list[Yield]:
    """A row for every set, by name; empty where no scene has a video."""
    found: dict[str, Yield] = {}

    def of(video: str) -> Yield:
        name = report.origins.get(video) or OTHERS
        return found.setdefault(name, Yield(name))

    for video, facts in report.videos.items():
        of(video).videos += 1
        of(video).hours += (number(facts.get("duration")) or 0.0) / 3600
    used: set[str] = set()
    for row in report.scenes:
        if row.video in report.videos and row.split:
            of(row.video).scenes += 1
            of(row.video).kept += row.seconds / 3600
            of(row.video).used += row.video not in used
            used.add(row.video)
    video_of = {row.name: row.video for row in report.scenes} | {video: video for video in report.videos}
    for stage, states in report.states.items():
        for item, state in states.items():
            if state.status in ("rejected", "failed") and video_of.get(item) in report.videos:
                of(video_of[item]).reasons[stage, generic_reason(state.reason, item)] += 1
    return sorted(found.values(), key=lambda row: (row.name == OTHERS, row.name))


def yield_line(rows: Sequence[Yield]) -> str:
    """One line over all sets."""
    names = ("videos", "used", "scenes", "hours", "kept")
    total = Yield("", *(sum(getattr(row, name) for row in rows) for name in names))
    return (
        f"yield: {total.scenes:,} scenes of {total.videos:,} videos ({total.a_video:.1f} a video), {total.kept:.1f} of "
        f"{total.hours:.1f} h kept; the paper: {PAPER}"
    )


def yields_part(rows: Sequence[Yield]) -> str:
    """The table of the report's first page."""
    if not rows:
        return ""
    lines = []
    for row in rows:
        why = "; ".join(f"{count:,} {stage}: {reason}" for (stage, reason), count in row.reasons.most_common(SHOWN))
        figures = (f"{row.videos:,}", f"{row.used:,}", f"{row.scenes:,}", f"{row.a_video:.1f}")
        hours = (f"{row.hours:.1f}", f"{row.kept:.1f}", f"{row.kept / row.hours:.0%}" if row.hours else "")
        cells = "".join(f'<td class="number">{cell}</td>' for cell in (*figures, *hours))
        lines.append(f'<tr><td>{text(row.name)}</td>{cells}<td class="small">{text(why)}</td></tr>')
    heads = ("videos", "with a scene", "scenes", "scenes a video", "hours", "hours kept", "share")
    head = "".join(f'<th class="number">{name}</th>' for name in heads)
    head = f"<tr><th>set</th>{head}<th>why not, most frequent</th></tr>"
    most = PAPER_SCENES / PAPER_VIDEOS
    note = f"The paper (arXiv 2512.23042): {PAPER}; {most:.1f} a video if the sets had given none."
    table = f'<div class="scroll"><table id="yield">{head}{"".join(lines)}</table></div>'
    return f'<h2>Yield</h2>\n{table}\n<p class="soft small">{text(note)}</p>'
