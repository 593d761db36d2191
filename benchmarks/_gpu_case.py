"""What a section of `gpu.py` is given, what it leaves behind, and how that reads as Markdown."""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass
class Case:
    """One section's run.

    Attributes:
        device: "cuda" or "cpu".
        dry: tiny sizes, to see that every line runs.
        deadline: `time.monotonic` at which the section is stopped.
        file: takes a line of JSON for every row and note, at once.
    """

    device: str
    dry: bool
    deadline: float
    file: Path

    @property
    def left(self) -> float:
        """Seconds until the section is stopped."""
        return self.deadline - time.monotonic()

    def row(self, table: str, **values: Any) -> None:
        """A row of one of the section's tables."""
        self._write({"table": table, "row": values})

    def note(self, text: str) -> None:
        """A sentence below the tables."""
        self._write({"note": text})

    @contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """A part that may fail without the others: its error becomes a note."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self._write({"failure": f"{what}: {type(error).__name__}: {' '.join(str(error).split())[:400]}"})
        self.free()

    def free(self) -> None:
        """Give back what the last part held on the device."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def _write(self, line: dict[str, Any]) -> None:
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")
        print(line, flush=True)


def read_rows(file: Path) -> dict[str, Any]:
    """``tables``, ``notes`` and ``failures`` of a section's file; a line that a kill cut off is left out."""
    found: dict[str, Any] = {"tables": {}, "notes": [], "failures": []}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "row" in entry:
            found["tables"].setdefault(entry["table"], []).append(entry["row"])
        elif "note" in entry:
            found["notes"].append(entry["note"])
        else:
            found["failures"].append(entry["failure"])
    return found


def markdown(results: Mapping[str, Any]) -> str:
    """All sections as tables."""
    lines = ["# GPU", ""] + [f"- {key}: {value}" for key, value in results["run"].items()]
    for section in results["sections"]:
        lines += ["", f"## {section['name']}: {section['title']}", ""]
        lines += [f"{section['state']}; {section['seconds']:.0f} of {section['allowed']:.0f} s"]
        for name, rows in section.get("tables", {}).items():
            columns = list(dict.fromkeys(column for row in rows for column in row))
            lines += ["", f"{name}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
            lines += [f"| {' | '.join(_shown(row.get(column)) for column in columns)} |" for row in rows]
        lines += [""] + [f"- {note}" for note in section.get("notes", [])]
        lines += [f"- **failed** {failure}" for failure in section.get("failures", [])]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "/")
