"""A plugin of pytest for `gpu.py`: what failed is written at once, not at the end that a kill may prevent."""

from __future__ import annotations

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """The last lines of a failure's text."""
    if report.failed:
        print("\n" + "\n".join(report.longreprtext.splitlines()[-40:]), flush=True)
