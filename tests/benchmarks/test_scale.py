"""The simulation runs on the chain as it is."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_small_simulation_finds_all_scenes(tmp_path):
    command = [
        sys.executable,
        "benchmarks/scale.py",
        "--scenes",
        "20",
        "--per-video",
        "2",
        "--into",
        str(tmp_path / "s"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert "summary, MB" in done.stdout, done.stderr  # it stops before where not all scenes are made
