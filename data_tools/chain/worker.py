"""What runs in a worker process: one call after the other, each in a folder of its own."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tqdm import tqdm

from data_tools.chain.items import COPY_OF, STAGES, Call, Outcome, StageFunction
from data_tools.segmentation.settings import LOOKS_A_SCENE
from data_tools.stages.record import (
    RECORD,
    RejectedError,
    StageError,
    StageRecord,
    read_record,
    run_stage,
    write_record,
)

_COUNTER = itertools.count()
PR_SET_PDEATHSIG = 1


def execute(functions: Mapping[str, StageFunction], call: Call) -> Outcome:
    """Run a call in a folder that no other attempt knows; nothing is raised for a bad item.

    Returns:
        The outcome, which names the folder. Giving it its final name is left to whoever accepts the outcome.
    """
    host, folder = socket.gethostname(), call.folder
    if call.attempts is not None:
        token = f"{host}-{os.getpid()}-{time.time_ns():x}-{next(_COUNTER)}"
        folder = call.attempts / token / call.folder.parent.name / call.name
    start = time.perf_counter()
    try:
        _seed(call, folder)
        function = reject_copy if call.original else functions[call.stage]
        record = function(replace(call, folder=folder))
        _put_key(call, record, folder)
    except Exception as error:  # a bug or an odd file must not end the run: it becomes the item's reason
        traceback.print_exc()
        record = StageRecord(call.stage, call.name, "failed", _reason(call, error), _is_permanent(error))
    return Outcome(call, record, folder, time.perf_counter() - start, host)


def reject_copy(call: Call) -> StageRecord:
    """A scene that shows what another one shows: a record that says so."""

    def work(_: Path, record: StageRecord) -> None:
        facts = record.result = dict(call.original)
        original = f"{facts['split']}/{facts[COPY_OF]}"  # reads as a path: equal reasons are counted together
        raise RejectedError(f"near-duplicate of {original}: {facts['alike']} of {LOOKS_A_SCENE} frames are alike")

    return run_stage(call.stage, call.folder, "", "", work)


def _seed(call: Call, folder: Path) -> None:
    """The record of a finished folder (made by the stage's own script, say) lets the stage say that it is current."""
    if call.attempts is None:
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (call.folder / RECORD).is_file() and (call.folder / STAGES[call.stage].needs).is_file():
        folder.mkdir()
        shutil.copyfile(call.folder / RECORD, folder / RECORD)


def _put_key(call: Call, record: StageRecord, folder: Path) -> None:
    """The call's key goes into the record, there too where the stage wrote it."""
    record.key = call.key
    stored = read_record(folder)
    is_same = stored is not None and all(
        getattr(stored, name) == getattr(record, name) for name in ("stage", "status", "reason")
    )
    if is_same and stored.key != call.key:
        write_record(folder, record)


def _reason(call: Call, error: Exception) -> str:
    text = " ".join(str(error).split())[:500]
    if isinstance(error, StageError):
        return text
    if isinstance(error, MemoryError):
        return f"{call.name}: does not fit into memory; use fewer frames or points"
    return f"{call.name}: {type(error).__name__}: {text or 'no message'}; see the worker's log"


def _is_permanent(error: Exception) -> bool:
    return error.permanent if isinstance(error, StageError) else False


def serve(pipe: Connection, functions: Mapping[str, StageFunction], log: Path | None) -> None:
    """Main function of a local worker: calls come in, outcomes go out, until the pipe closes.

    Ctrl-C and SIGTERM are the parent's business: it waits for the work in hand or kills the worker. When the parent
    dies, so does the worker.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which programs started by a stage would inherit
    die_with_parent()
    tqdm.set_lock(threading.RLock())  # its own lies between processes, and leaks where one is killed
    if log is not None:
        _redirect(log)
    while True:
        try:
            call = pipe.recv()
        except EOFError:
            return
        outcome = execute(functions, call)
        sys.stdout.flush()
        pipe.send(outcome)


def die_with_parent() -> None:
    """End this process when its parent is gone, so that no orphan works beside a new run."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if sys.platform == "linux":  # at once, even where a library holds the interpreter lock
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:
            os._exit(1)


def _redirect(log: Path) -> None:
    """What libraries print goes to a file, for it would tear the progress bar."""
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError:
        handle = os.open(os.devnull, os.O_WRONLY)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
