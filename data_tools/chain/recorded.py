"""The settings that a data set was begun with, in ``WORK/run.json``: they stay, whatever today's defaults are.

A stage's entry holds its settings, the recipe that they began with, and their mark, a hash taken when they were
recorded; the mark is part of the keys of the stage's results. So a changed default or a new field redoes nothing;
``--redo STAGE`` records new settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from data_tools.chain.items import STAGES, Places, folders_in
from data_tools.chain.recipes import NO_LIMITS, USUAL
from data_tools.postprocessing.settings import Limits
from data_tools.stages.files import write_json
from data_tools.stages.record import StageRecord, read_record

FILE = "run.json"


@dataclass(frozen=True)
class Settings:
    """What is asked of each stage.

    Attributes:
        stages: settings by stage (frozen dataclasses with ``digest()``).
        marks: of each stage's settings, as recorded.
        recipes: that each stage's settings began with.
        is_new: stages whose record is to be written.
    """

    stages: Mapping[str, Any]
    marks: Mapping[str, str]
    recipes: Mapping[str, str] = field(default_factory=dict)
    is_new: frozenset[str] = frozenset()

    @classmethod
    def of(cls, stages: Mapping[str, Any]) -> Settings:
        """Settings that nothing was recorded for."""
        marks = {name: stage.digest() for name, stage in stages.items()}
        return cls(stages, marks, dict.fromkeys(stages, USUAL), frozenset(stages))


def as_only_room(settings: Any) -> Any:
    """Settings of post-processing that a data set's only room is made with: usual limits of quality do not count."""
    return replace(settings, limits=NO_LIMITS) if getattr(settings, "limits", None) == Limits() else settings


def read_recorded(work: Path) -> dict[str, Any]:
    """What is on record, by stage; empty where there is none.

    Raises:
        ValueError: the file cannot be read; one line.
    """
    path = work / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["stages"]
        return {name: found[name] for name in STAGES if {"mark", "recipe", "settings"} <= found.get(name, {}).keys()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}); mend it, or delete it and give the stages' settings again"
        ) from None


def recipes_of(known: Mapping[str, Any], recipe: str, redo: str) -> dict[str, str]:
    """The recipe of each stage.

    Args:
        known: what is on record.
        recipe: named on the command line; empty for none.
        redo: stage that is done again; a recipe is then for this one alone.
    """
    found = {}
    for stage in STAGES:
        stays = stage in known and (not recipe or redo not in ("", stage))
        found[stage] = known[stage]["recipe"] if stays else recipe or USUAL
    return found


def settle(
    places: Places,
    recipes: Mapping[str, str],
    usual: Mapping[str, Any],
    change: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    given: Mapping[str, Sequence[str]],
    redo: str = "",
) -> Settings:
    """The settings of a run: those on record, with what the command line says.

    Args:
        places: the folders.
        recipes: of each stage (`recipes_of`).
        usual: today's settings by those; for stages without a record of that recipe, and for the one that is redone.
        change: puts in what the command line says explicitly.
        given: names of those fields, by stage.
        redo: stage to do again with new settings, and what follows it; empty for none.

    Raises:
        ValueError: an explicit setting is another than the recorded one, or the record is gone, and something is
            finished with other settings; one line.
    """
    recorded = read_recorded(places.work)
    order = list(STAGES)
    free = order[order.index(redo) :] if redo else []
    known = {
        name: _base(usual[name], entry, given.get(name, ()))
        for name, entry in recorded.items()
        if name in usual and name != redo
    }
    kept = {name: stage for name, stage in known.items() if recorded[name]["recipe"] == recipes[name]}
    wanted = dict(change({**usual, **kept}))
    marks, is_new = {}, set()
    for name, stage in wanted.items():
        is_same = name in known and stage.digest() == known[name].digest()
        if not is_same and name in known and name not in free and _has_finished(places, name):
            raise ValueError(_conflict(places, name, known[name], stage))
        if name not in recorded and name not in free and _was_made_otherwise(places, name, stage):
            raise ValueError(
                f"{places.work / FILE} has no settings of {name}, and what is finished was made with others: "
                f"give those again (--recipe, --backend, --set, ...), or do it anew with --redo {name}"
            )
        marks[name] = recorded[name]["mark"] if is_same else stage.digest()
        if not is_same or _entry(marks[name], recipes[name], stage) != recorded[name]:
            is_new.add(name)
    return Settings(wanted, marks, dict(recipes), frozenset(is_new))


def record(places: Places, settings: Settings) -> None:
    """Write what is new on record; other stages' entries stay.

    Raises:
        OSError: the disk is full or not writable.
    """
    if not settings.is_new:
        return
    known = read_recorded(places.work)
    for name in settings.is_new:
        known[name] = _entry(settings.marks[name], settings.recipes[name], settings.stages[name])
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
    for found in fields(usual):
        if found.name not in values or not found.init:
            continue
        value, before = values[found.name], getattr(usual, found.name)
        if is_dataclass(before) and isinstance(value, dict):
            value = restored(before, value)
        changes[found.name] = tuple(value) if isinstance(value, list) else value
    return replace(usual, **changes)


def differences(before: Any, after: Any, within: str = "") -> list[tuple[str, Any, Any]]:
    """Fields that differ: (name, before, after); deeper ones with dots."""
    found: list[tuple[str, Any, Any]] = []
    for name in (entry.name for entry in fields(after)):
        old, new = getattr(before, name), getattr(after, name)
        if is_dataclass(new) and is_dataclass(old):
            found += differences(old, new, f"{within}{name}.")
        elif old != new:
            found.append((f"{within}{name}", old, new))
    return found


def _entry(mark: str, recipe: str, stage: Any) -> dict[str, Any]:
    values = {name: v for name, v in asdict(stage).items() if name not in getattr(stage, "UNRECORDED", ())}
    return {"mark": mark, "recipe": recipe, "settings": json.loads(json.dumps(values, default=str))}


def _finished(places: Places, stage: str) -> Iterator[StageRecord]:
    records = (read_record(folder) for area in places.areas(stage) for folder in folders_in(area))
    return (record for record in records if record is not None and (record.stage, record.status) == (stage, "done"))


def _has_finished(places: Places, stage: str) -> bool:
    return any(True for _ in _finished(places, stage))


def _was_made_otherwise(places: Places, stage: str, settings: Any) -> bool:
    first = next(_finished(places, stage), None)
    return first is not None and first.settings_hash not in (settings.digest(), as_only_room(settings).digest())


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
