"""What a run ends with: statistics and card of the data set, the report, the table of counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from data_tools.chain.engine import Tally
from data_tools.chain.items import STAGES, Places, VideoItem
from data_tools.chain.journal import Journal, Row
from data_tools.chain.trouble import general_reason
from data_tools.packaging.card import CARD, STATS, write_summary
from data_tools.stages.files import write_text
from data_tools.stages.record import STATES, StageError, read_record

TITLE = "RoomTours"
SHOWN_REASONS = 12
FEW = 3  # videos or scenes that are spoken of one by one


def refresh_summary(places: Places) -> bool:
    """Write ``stats.json`` and ``dataset_card.md`` where scenes came or went since the last time.

    Returns:
        Whether they were written.

    Raises:
        OSError: the disk is full or not writable.
    """
    files = [places.out / name for name in (STATS, CARD)]
    if all(file.is_file() for file in files):
        written = min(file.stat().st_mtime_ns for file in files)
        if all(split.stat().st_mtime_ns < written for split in places.splits()):
            return False
    write_summary(places.out, title=TITLE)
    return True


def copies_line(places: Places, pairs: Sequence[tuple[str, str, int]]) -> str:
    """One line on near-duplicates that shards made apart from each other, and a list of them beside the logs.

    Args:
        places: the folders.
        pairs: of `Copies.pairs`.

    Raises:
        OSError: the disk is full or not writable.
    """
    path = places.work / "copies.tsv"
    write_text(path, "".join(f"{copy}\t{original}\t{count}\n" for copy, original, count in pairs))
    return f"{len(pairs)} finished scenes are near-duplicates of others: {path} names both; nothing was taken out"


def counts_table(rows: Sequence[Row], seconds: Mapping[str, float]) -> str:
    """Counts by stage and state, hours of work, and the reasons of what was not done, most frequent first."""
    counts = Counter((row.stage, row.status) for row in rows)
    lines = [f"{'stage':12} " + " ".join(f"{state:>9}" for state in STATES) + f" {'hours':>7}"]
    for stage in STAGES:
        if any(counts[stage, state] for state in STATES):
            hours = seconds.get(stage, 0.0) / 3600
            lines.append(f"{stage:12} " + " ".join(f"{counts[stage, s]:>9}" for s in STATES) + f" {hours:>7.2f}")
    alike: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row.status != "done":
            alike.setdefault((row.stage, row.status, general_reason(row)), []).append(row.reason)
    # what only one item has, or all of them word by word, is said as it is
    reasons = sorted(alike.items(), key=lambda entry: -len(entry[1]))
    if reasons:
        lines += ["", "why not:"]
        for (stage, status, general), own in reasons[:SHOWN_REASONS]:
            lines.append(f"{len(own):>6}  {stage} {status}: {own[0] if len(set(own)) == 1 else general}")
        if len(reasons) > SHOWN_REASONS:
            lines.append(f"        and {len(reasons) - SHOWN_REASONS} others; --status names all")
    return "\n".join(lines)


def tally_line(tally: Tally) -> str:
    """One line: what this run did."""
    did = Counter[str]()
    for (_, status), count in tally.ran.items():
        did[status] += count
    parts = [f"{did[state]} {state}" for state in (*STATES, "as before") if did[state]] or ["nothing to do"]
    line = f"this run: {', '.join(parts)} ({tally.videos} videos, {tally.scenes} scenes; {tally.before} settled before)"
    return line + (f"; {tally.removed} folders moved to WORK/removed" if tally.removed else "")


def plan_lines(videos: Sequence[VideoItem], settings: Any, cores: int) -> list[str]:
    """What a run does with a few local videos or folders of photos by sfm, and about how long it takes.

    Args:
        videos: of the run; nothing is said of more than `FEW`, nor of what cannot be read: its stage will.
        settings: of the reconstruct stage; nothing is said of backends other than sfm.
        cores: that sfm may use.
    """
    from data_tools.reconstruction.frames import count_frames
    from data_tools.reconstruction.sfm import CORE_SECONDS, SfmReconstructor
    from data_tools.video.images import list_images
    from data_tools.video.sampling import probe_video

    lines: list[str] = []
    if settings.backend != "sfm" or len(videos) > FEW:
        return lines
    for video in videos:
        if video.path is None:
            continue
        try:
            if video.path.is_dir():
                found = len(list_images(video.path))
                what, count = f"{found} images", min(found, settings.max_frames)
            else:
                length = probe_video(video.path).duration
                what, count = f"{length:.0f} s", count_frames(settings, length, SfmReconstructor.max_frames)
        except (StageError, OSError):
            continue
        minutes = max(1, round(count * CORE_SECONDS / cores / 60))
        lines.append(
            f"{video.path.name}: {what}, at most {count} of its frames: cameras, then depth, then one cleaned cloud; "
            f"about {minutes} min on {cores} free core{'s' if cores > 1 else ''}"
        )
    return lines


def scene_lines(places: Places, rows: Sequence[Row]) -> list[str]:
    """Size and verdict of each finished scene, where they are few, and the address of its page."""
    from data_tools.postprocessing.quality import room_lines

    done = [row.name for row in rows if row.stage == "postprocess" and row.status == "done"]
    lines: list[str] = []
    for name in done if len(done) <= FEW else []:
        for split in places.splits():
            record = read_record(split / name)
            if record is None:
                continue
            first, *others = room_lines(record.result)
            lines += ["", f"{name}: {first}", *(f"  {line}" for line in others if line)]
            page = places.out / "report" / "scenes" / split.name / f"{name}.html"
            lines += [f"  {page.absolute().as_uri()}"] if page.is_file() else []
    return lines


def again_line(places: Places, count: int) -> str:
    """A line on clouds that went when their scenes were finished and are wanted again; empty where there are none.

    Args:
        places: the folders.
        count: scenes that are to be reconstructed.
    """
    if not count:
        return ""
    took = [row.seconds for row in Journal(places.log).rows.values() if row.stage == "reconstruct" and row.seconds]
    hours = f", about {count * sum(took) / len(took) / 3600:.2g} h of one worker" if took else ""
    return (
        f"{count} scenes have no cloud as reconstructed (it goes when a scene is finished; --keep-clouds keeps it): "
        f"they are reconstructed first{hours}\n"
    )


def refresh_report(places: Places, jobs: int = 1, is_quiet: bool = False) -> None:
    """The HTML report in ``OUT/report``; only what changed is made again.

    Raises:
        OSError: the disk is full or not writable.
    """
    from data_tools.report import ReportSettings, build, scan
    from data_tools.reporting.model import ReportError
    from data_tools.reporting.yields import yield_line, yields

    try:
        found = scan(places.out, places.work)
    except ReportError:
        return  # not one scene, record or row: the table of counts has said why
    build(found, places.out / "report", ReportSettings(title=TITLE), jobs, is_quiet)
    print(yield_line(yields(found)))
