"""Read what the stages left: records, meta files, the logs. Any part may be missing."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_tools.chain.items import folders_in
from data_tools.chain.journal import Journal
from data_tools.packaging.run import FAILURES, read_failures
from data_tools.reporting.measures import take_facts
from data_tools.reporting.model import AREAS, STAGES, STATUSES, Report, ReportError, SceneRow, State
from data_tools.stages.files import read_json
from data_tools.stages.record import RECORD
from data_tools.stages.scene_folder import META

VERSION = 1  # of thumbnails: raise it when the same scene gives another picture
SCENES = "scenes.json"
PREVIEW = "preview.png"
PICTURES = (".jpg", ".jpeg", ".png")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def parse(data: bytes) -> dict[str, Any]:
    """JSON object of bytes; empty where there is none or it is damaged."""
    try:
        value = json.loads(data) if data else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def find_pictures(folder: Path) -> list[Path]:
    """Pictures in a folder by name; none where it is missing."""
    try:
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith("."))
    except OSError:
        return []


def scan(out: Path, work: Path | None = None) -> Report:
    """All that is known below a dataset folder.

    Args:
        out: ``<out>/<split>/<scene>/``, ``package_failures.json``.
        work: the stages' folders and logs; default ``<out>/_work``.

    Raises:
        ReportError: the folder is missing or holds nothing to report on; one line.
    """
    if not out.is_dir():
        raise ReportError(f"{out}: is no folder; give the folder that build_roomtours.py or package.py wrote")
    work = work or out / "_work"
    report = Report(out, work, [], {stage: {} for stage in STAGES}, {})
    scenes: dict[str, SceneRow] = {}
    digests: defaultdict[str, list[bytes]] = defaultdict(list)
    _scan_videos(report, scenes)
    for stage in ("reconstruct", "postprocess"):
        _scan_stage(report, stage, scenes, digests)
    packaged = list(_scan_packaged(report, scenes, digests))
    for failure in read_failures(out / FAILURES):
        name = str(failure.get("scene") or failure["source"])
        report.states["package"].setdefault(name, State("failed", str(failure.get("reason", ""))))
    _scan_logs(report, scenes)
    done = {row.name for row in packaged}
    others = [row for name, row in scenes.items() if name not in done]
    report.scenes = sorted([*packaged, *others], key=lambda row: row.place)
    for row in report.scenes:
        mark = f"{VERSION}\0{row.split}".encode()
        row.key = hashlib.blake2b(b"\0".join([*digests[row.name], mark]), digest_size=8).hexdigest()
    if not report.scenes and not report.videos and not any(report.states.values()):
        raise ReportError(f"{out}: holds no scene, no record and no log; check the path or --work")
    report.license = str(read_json(out / "stats.json", dict).get("license") or "")
    return report


def _state(record: dict[str, Any]) -> State | None:
    status = str(record.get("status", ""))
    return State(status, " ".join(str(record.get("reason", "")).split())) if status in STATUSES else None


def _scan_videos(report: Report, scenes: dict[str, SceneRow]) -> None:
    """Videos' facts, and a waiting row for every scene that segmentation found."""
    for stage in ("collect", "segment"):
        for folder in folders_in(report.work / AREAS[stage]):
            record = read_json(folder / RECORD, dict)
            state = _state(record)
            if state is None:
                continue
            report.states[stage][folder.name] = state
            result = record.get("result")
            facts = report.videos.setdefault(folder.name, {})
            result = result if isinstance(result, dict) else {}
            facts.update(result if stage == "collect" else {})
            if "duration" in result:
                facts.setdefault("duration", result["duration"])
            if stage == "segment" and state.status == "done":
                _scan_scenes(folder, facts, scenes)


def _scan_scenes(folder: Path, facts: dict[str, Any], scenes: dict[str, SceneRow]) -> None:
    found = read_json(folder / SCENES, dict)
    video = found.get("video")
    for name, value in (video if isinstance(video, dict) else {}).items():
        facts.setdefault(name, value)
    for scene in found.get("scenes") or []:
        name = str(scene.get("scene_id", "")) if isinstance(scene, dict) else ""
        if name:
            scenes[name] = SceneRow(name, video=folder.name, label=str(scene.get("label") or ""))
            scenes[name].seconds = _seconds(scene.get("intervals"))
            scenes[name].picture = next(iter(find_pictures(folder / "thumbs")), None)


def _seconds(intervals: Any) -> float:
    """Of a scene; 0 where its times are damaged, which is no reason to show nothing of the data set."""
    try:
        return float(sum(end - start for start, end in intervals))
    except (TypeError, ValueError):
        return 0.0


def _scan_stage(
    report: Report, stage: str, scenes: dict[str, SceneRow], digests: defaultdict[str, list[bytes]]
) -> None:
    for folder in folders_in(report.work / AREAS[stage]):
        data = _read(folder / RECORD)
        record = parse(data)
        state = _state(record)
        if state is None:
            continue
        report.states[stage][folder.name] = state
        row = scenes.setdefault(folder.name, SceneRow(folder.name))
        row.stage, row.status, row.reason = stage, state.status, state.reason
        digests[row.name].append(data)
        facts = record.get("result")
        take_facts(row, facts if isinstance(facts, dict) else {})
        row.picture = next(iter(find_pictures(folder / "frames")), row.picture)
        if state.status == "done":
            row.status = "waiting"  # for the next stage, until that one says something
            row.cloud = folder / "cloud.ply" if (folder / "cloud.ply").is_file() else row.cloud


def _scan_packaged(
    report: Report, scenes: dict[str, SceneRow], digests: defaultdict[str, list[bytes]]
) -> Iterator[SceneRow]:
    for split in folders_in(report.out):
        if split.name.startswith("_") or split.name == "report" or split.resolve() == report.work.resolve():
            continue
        for folder in folders_in(split):
            data = _read(folder / META)
            meta = parse(data)
            if not meta:
                continue
            known = scenes.get(folder.name, SceneRow(folder.name))
            stage = "postprocess" if (folder / RECORD).is_file() else "package"
            row = SceneRow(folder.name, split.name, known.video, stage, "done", label=known.label, cloud=folder)
            row.seconds = known.seconds
            take_facts(row, meta)
            digests[folder.name].append(data)
            row.picture = folder / PREVIEW if (folder / PREVIEW).is_file() else None  # the cloud says more than a frame
            states = report.states[stage]
            states[folder.name if folder.name not in states else f"{split.name}/{folder.name}"] = State("done")
            yield row


def _scan_logs(report: Report, scenes: dict[str, SceneRow]) -> None:
    """The logs say what folders cannot: items whose process died, and how long the work took."""
    journal = Journal(report.work / "log")
    for row in journal.rows.values():
        if row.stage not in STAGES or row.status != "failed" or row.name in report.states[row.stage]:
            continue
        report.states[row.stage][row.name] = State(row.status, " ".join(row.reason.split()))
        if row.name == row.video:
            report.videos.setdefault(row.video, {})
        else:
            scene = scenes.setdefault(row.name, SceneRow(row.name, video=row.video))
            scene.stage, scene.status, scene.reason = row.stage, row.status, row.reason
    for stage in ("reconstruct", "postprocess", "package"):
        for name, state in report.states[stage].items():
            if name in scenes and state.status in ("rejected", "failed"):
                scenes[name].stage, scenes[name].status, scenes[name].reason = stage, state.status, state.reason
    report.origins = journal.origins
    report.seconds = {stage: round(value, 1) for stage, value in journal.seconds.items() if value > 0}
