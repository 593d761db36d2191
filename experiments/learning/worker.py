"""One job in a process of its own: ``python -m experiments.learning.worker OUT JOB``, started by the runner.

It reads the job's ``job.json`` and writes ``result.json`` when all is done. When the runner goes away, however that
happens, its end of this process's input closes: the job then stops as on SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_tools.stages.files import write_json
from data_tools.stages.locks import BusyError, run_lock
from experiments.learning import data, finetune, pretrain, probes, terms
from lam3c_plugin.errors import Lam3cError, run_main

Work = Callable[[Mapping[str, Any], Path, Path], dict[str, Any]]
WORK: dict[str, Work] = {
    "data": data.run,
    "random": pretrain.run_random,
    "pretrain": pretrain.run,
    "probe": probes.run,
    "finetune": finetune.run,
    "terms": terms.run,
}
PATIENCE = 180.0  # seconds for the last worker of a killed runner to save and end


def main(argv: list[str] | None = None) -> int:
    """Do the job; return the exit code."""
    out, job = (sys.argv[1:] if argv is None else argv)[:2]
    # the engine's training takes the signal itself, saves and ends; everything else ends here and now
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    _stop_with_runner()
    with _folder_of_my_own(Path(out) / "jobs" / job):
        return work(Path(out), job)


def work(out: Path, job: str) -> int:
    """Do a job of which ``job.json`` is there, in this process, and write its result."""
    folder = out / "jobs" / job
    description = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    begun = time.perf_counter()
    result = WORK[description["kind"]](description["spec"], folder, out)
    write_json(folder / "result.json", {**description, **result, "seconds": round(time.perf_counter() - begun, 2)})
    return 0


@contextmanager
def _folder_of_my_own(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Wait until no other worker is at the job."""
    try:
        with run_lock(folder / ".lock", patience):
            yield
    except BusyError as error:
        raise Lam3cError(f"{str(error).split(';')[0]}; end that process and start again") from error


def _stop_with_runner() -> None:
    def wait() -> None:
        while sys.stdin.buffer.raw.read(1):  # type: ignore[attr-defined] - unbuffered: nothing is lost to a fork
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(run_main(main))
