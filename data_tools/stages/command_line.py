"""The one end of a command line: what happened as one line on stderr, and an exit code.

0 all well or the reader of a pipe went away, 1 an error, 2 wrong arguments, 130 Ctrl-C. ``LAM3C_DEBUG=1`` prints the
traceback too. `lam3c_plugin.errors.run_main` is made of this function: besides the atomic write, drawing, pages and
clouds the one thing that the plugin takes from `data_tools`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

INTERRUPTED = "start it again to go on"
NOT_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


class UsageError(Exception):
    """Wrong arguments; the message is one line."""

    exit_code = 2


@contextlib.contextmanager
def usage_errors(*kinds: type[Exception]) -> Iterator[None]:
    """What the arguments ask for is checked in here.

    Args:
        kinds: errors that mean wrong arguments, besides ValueError and a file that is not there.

    Raises:
        UsageError: in place of those.
    """
    try:
        yield
    except (ValueError, *NOT_THERE, *kinds) as error:
        raise UsageError(_line(error, None)) from error


def count(text: str) -> int:
    """The type of an option that counts.

    Raises:
        ArgumentTypeError: no whole number, or a negative one.
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, 0 or more")
    return int(text)


def let_threads_sleep() -> None:
    """Have OpenMP's waiting threads sleep, unless ``OMP_WAIT_POLICY`` says otherwise; before PyTorch is imported.

    One that spins starves those that work whenever cores are shared: up to 10 times slower. GNU's, LLVM's and Intel's
    library read the variable when they are loaded; their own (GOMP_SPINCOUNT, KMP_BLOCKTIME) go before it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def run_main(
    main: Callable[[], int | None],
    name: str,
    expected: tuple[type[BaseException], ...] = (OSError,),
    out: Path | None = None,
    interrupted: str = INTERRUPTED,
) -> int:
    """Call ``main`` and return the exit code of the process.

    Args:
        main: returns an exit code, None for 0.
        name: begins the line of an error that has no ``label`` of its own.
        expected: errors that are one line, with their ``exit_code`` or 1; others are bugs and keep their traceback.
        out: the output, named where an OSError names no file.
        interrupted: ends the line after Ctrl-C, ``stopped: ...``.
    """
    let_threads_sleep()
    try:
        code = int(main() or 0)
        sys.stdout.flush()  # a closed pipe shows here and not when the interpreter ends
        return code
    except KeyboardInterrupt:
        print(f"stopped: {interrupted}", file=sys.stderr, flush=True)
        return 130
    except (UsageError, BrokenPipeError, *expected) as error:
        if isinstance(error, BrokenPipeError):
            if _is_reader_gone():
                return 0
            if not isinstance(error, expected):
                raise
        if os.environ.get("LAM3C_DEBUG", "") not in ("", "0"):
            traceback.print_exc()
        print(f"{getattr(error, 'label', name)}: {_line(error, out)}", file=sys.stderr, flush=True)
        return getattr(error, "exit_code", 1)


def _line(error: BaseException, out: Path | None) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        return " ".join(str(error).split())
    place = error.filename if error.filename is not None else out
    cure = "" if isinstance(error, NOT_THERE) else "; check space and rights, then start it again"
    return f"{'' if place is None else f'{place}: '}{error.strerror}{cure}"


def _is_reader_gone() -> bool:
    """Whether stdout or stderr is a pipe that nobody reads (``| head``); what is left for it goes nowhere."""
    gone = [stream.fileno() for stream in (sys.stdout, sys.stderr) if _is_closed(stream.fileno())]
    for number in gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return bool(gone)


def _is_closed(number: int) -> bool:
    if not hasattr(select, "poll"):
        return True  # Windows: it cannot be asked, and its broken pipes are nearly always these
    poll = select.poll()
    poll.register(number, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
