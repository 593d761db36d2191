"""The settings that a data set was begun with, in ``WORK/run.json``: they stay, whatever today's defaults are.

A stage's entry holds its settings and their mark, a hash taken when they were recorded; the mark is part of the keys
of the stage's results. So a changed default or a new field redoes nothing; ``--redo STAGE`` records new settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from data_tools.chain.folders import is_finished
from data_tools.chain.items import STAGES, Places, folders_in
from data_tools.stages.files import write_json

FILE = "run.json"


@dataclass(frozen=True)
class Settings:
    """What is asked of each stage.

    Attributes:
        stages: settings by stage (frozen dataclasses with ``digest()``).
        marks: of each stage's settings, as recorded.
        is_new: stages whose record is to be written.
    """

    stages: Mapping[str, Any]
    marks: Mapping[str, str]
    is_new: frozenset[str] = frozenset()

    @classmethod
    def of(cls, stages: Mapping[str, Any]) -> Settings:
        """Settings that nothing was recorded for."""
        return cls(stages, {name: stage.digest() for name, stage in stages.items()}, frozenset(stages))


def read_recorded(work: Path) -> dict[str, Any]:
    """What is on record, by stage; empty where there is none.

    Raises:
        ValueError: the file cannot be read; one line.
    """
    path = work / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["stages"]
        return {name: found[name] for name in STAGES if {"mark", "settings"} <= found.get(name, {}).keys()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}); mend or delete it: it holds the stages' settings"
        ) from None


def settle(
    places: Places,
    usual: Mapping[str, Any],
    change: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    given: Mapping[str, Sequence[str]],
    redo: str = "",
) -> Settings:
    """The settings of a run: those on record, with what the command line says.

    Args:
        places: the folders.
        usual: today's defaults by stage; for stages without a record, and for the one that is redone.
        change: puts in what the command line says explicitly.
        given: names of those fields, by stage.
        redo: stage to do again with new settings, and what follows it; empty for none.

    Raises:
        ValueError: an explicit setting is another than the recorded one, and something is finished with that; one line.
    """
    recorded = read_recorded(places.work)
    order = list(STAGES)
    free = order[order.index(redo) :] if redo else []
    base = {
        name: stage if name == redo or name not in recorded else _base(stage, recorded[name], given.get(name, ()))
        for name, stage in usual.items()
    }
    wanted = dict(change(base))
    marks, is_new = {}, set()
    for name, stage in wanted.items():
        is_same = name in recorded and name != redo and stage.digest() == base[name].digest()
        if not is_same and name in recorded and name not in free and _has_finished(places, name):
            raise ValueError(_conflict(places, name, base[name], stage))
        marks[name] = recorded[name]["mark"] if is_same else stage.digest()
        if not is_same or _plain(stage) != recorded[name]["settings"]:
            is_new.add(name)
    return Settings(wanted, marks, frozenset(is_new))


def record(places: Places, settings: Settings) -> None:
    """Write what is new on record; other stages' entries stay.

    Raises:
        OSError: the disk is full or not writable.
    """
    if not settings.is_new:
        return
    known = read_recorded(places.work)
    for name in settings.is_new:
        known[name] = {"mark": settings.marks[name], "settings": _plain(settings.stages[name])}
    write_json(places.work / FILE, {"stages": known})


def _base(usual: Any, entry: Mapping[str, Any], given: Sequence[str]) -> Any:
    """The recorded settings; what no longer goes (a file that is gone) may be given anew."""
    try:
        return restored(usual, entry["settings"])
    except ValueError:
        if not given:
            raise
        return restored(usual, {name: value for name, value in entry["settings"].items() if name not in given})


def restored(usual: Any, values: Mapping[str, Any]) -> Any:
    """Settings of JSON values: fields that are gone are passed over, new ones have today's default.

    Raises:
        ValueError: a value that the stage refuses; one line.
    """
    changes: dict[str, Any] = {}
    for field in fields(usual):
        if field.name not in values or not field.init:
            continue
        value, before = values[field.name], getattr(usual, field.name)
        if is_dataclass(before) and isinstance(value, dict):
            value = restored(before, value)
        changes[field.name] = tuple(value) if isinstance(value, list) else value
    return replace(usual, **changes)


def differences(before: Any, after: Any, within: str = "") -> list[tuple[str, Any, Any]]:
    """Fields that differ: (name, before, after); deeper ones with dots."""
    found: list[tuple[str, Any, Any]] = []
    for field in fields(after):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if is_dataclass(new) and is_dataclass(old):
            found += differences(old, new, f"{within}{field.name}.")
        elif old != new:
            found.append((f"{within}{field.name}", old, new))
    return found


def _plain(stage: Any) -> Any:
    values = {name: v for name, v in asdict(stage).items() if name not in getattr(stage, "UNRECORDED", ())}
    return json.loads(json.dumps(values, default=str))


def _has_finished(places: Places, stage: str) -> bool:
    return any(is_finished(folder) for area in places.areas(stage) for folder in folders_in(area))


def _conflict(places: Places, stage: str, before: Any, after: Any) -> str:
    name, old, new = next(iter(differences(before, after)), ("settings", "those on record", "others"))
    return (
        f"{stage}.{name} is {old!r} in {places.work / FILE}, {new!r} is asked for: --redo {stage} does the stage and "
        "what follows again with it, another --out begins anew"
    )


def changes_line(places: Places, settings: Settings) -> Sequence[str]:
    """A line for every recorded setting that changes."""
    recorded, lines = read_recorded(places.work), []
    for name in sorted(settings.is_new & recorded.keys(), key=list(STAGES).index):
        before = restored(settings.stages[name], recorded[name]["settings"])
        lines += [f"{name}.{f}: {old!r} -> {new!r}" for f, old, new in differences(before, settings.stages[name])]
    return lines
