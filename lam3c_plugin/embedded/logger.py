"""The engine's logger: messages to stderr on rank 0, and to ``train.log`` of the run."""

from __future__ import annotations

import logging
import os

from lam3c_plugin.embedded import comm

# The package's name, so that logging.getLogger(__name__) of any module of the plugin ends here.
ROOT_NAME = "lam3c_plugin"
_FORMAT = "[%(asctime)s %(levelname)s %(filename)s:%(lineno)d] %(message)s"


class _UnlessRootPrints(logging.Filter):
    """Stay silent where the application has set up logging of its own: records reach it by propagation."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not logging.getLogger().handlers


def get_root_logger(
    log_file: str | os.PathLike[str] | None = None, log_level: int = logging.INFO, file_mode: str = "a"
) -> logging.Logger:
    """The project's logger; the first call sets it up, a call with ``log_file`` sends it to that file as well.

    Rank 0 logs from ``log_level`` up, the other ranks warnings and errors only, with their number in front.
    """
    logger = logging.getLogger(ROOT_NAME)
    rank = comm.get_rank()
    prefix = "" if rank == 0 else f"[rank {rank}] "
    formatter = logging.Formatter(prefix + _FORMAT, datefmt="%Y-%m-%d %H:%M:%S")
    if not any(getattr(handler, "_lam3c", "") == "stream" for handler in logger.handlers):
        handler = logging.StreamHandler()
        handler._lam3c = "stream"  # type: ignore[attr-defined]
        handler.addFilter(_UnlessRootPrints())
        logger.addHandler(handler)
    if log_file is not None and rank == 0:
        _close_file(logger)
        file_handler = logging.FileHandler(log_file, file_mode, encoding="utf-8")
        file_handler._lam3c = "file"  # type: ignore[attr-defined]
        logger.addHandler(file_handler)
    for handler in logger.handlers:
        if hasattr(handler, "_lam3c"):
            handler.setFormatter(formatter)
    logger.setLevel(log_level if rank == 0 else max(log_level, logging.WARNING))
    return logger


def _close_file(logger: logging.Logger) -> None:
    """One run, one log file: the previous run's in this process is closed."""
    for handler in list(logger.handlers):
        if getattr(handler, "_lam3c", "") == "file":
            logger.removeHandler(handler)
            handler.close()
