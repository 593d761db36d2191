"""What the tests of the real host share: a copy of the checkout, an environment, rooms, and commands in them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tests.rooms import put_rooms

REPOSITORY = Path(__file__).resolve().parents[2]
HARNESS = Path(__file__).resolve().parent / "cpu_host"

#: a PTv3 of a few thousand parameters, whatever the config says
TINY_BACKBONE = (
    "model.backbone.enc_depths=(1,1,1,1,1)",
    "model.backbone.enc_channels=(16,16,32,32,48)",
    "model.backbone.enc_num_head=(1,1,2,2,3)",
    "model.backbone.enc_patch_size=(64,64,64,64,64)",
)
TINY_LAM3C = (
    *TINY_BACKBONE,
    "model.head.in_channels=112",
    "model.head.hidden_channels=32",
    "model.head.embed_channels=16",
    "model.head.num_prototypes=32",
)
#: two steps an epoch, two epochs, over four rooms
TINY_RUN = (
    "batch_size=2",
    "num_worker=2",
    "epoch=2",
    "eval_epoch=2",
    "data.train.transform.2.max_size=300",
)


def missing_requirement() -> str | None:
    """Why the real host cannot run here, or ``None``."""
    root = os.environ.get("POINTCEPT_ROOT", "")
    if not root:
        return "POINTCEPT_ROOT names no Pointcept checkout"
    if not (Path(root) / "pointcept/engines/train.py").is_file():
        return f"POINTCEPT_ROOT={root} is no Pointcept checkout"
    for name in ("spconv", "timm", "addict", "yapf", "tensorboardX", "torchvision", "termcolor", "einops", "scipy"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed (pip install {name}); Pointcept needs it"
    return None


def git(folder: Path, *words: str) -> str:
    """Output of a git command in ``folder``."""
    return subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True).stdout


def copy_checkout(target: Path) -> Path:
    """A fresh clone of POINTCEPT_ROOT's commit, so that the user's checkout stays as it is."""
    root = Path(os.environ["POINTCEPT_ROOT"]).resolve()
    if (root / ".git").exists():
        subprocess.run(["git", "clone", "-q", str(root), str(target)], check=True, capture_output=True)
        git(target, "checkout", "-q", "--detach", git(root, "rev-parse", "HEAD").strip())
    else:
        shutil.copytree(root, target, ignore=shutil.ignore_patterns("exp", "data", "__pycache__"))
        git(target, "init", "-q")
        git(target, "add", "-A")
        git(target, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "as it came")
    return target


def make_environment(target: Path, with_plugin: bool = True) -> Path:
    """An environment over this one that has the harness and, like after `pip install -e`, the plugin.

    Returns its interpreter.
    """
    venv.create(target, with_pip=False, symlinks=True)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    lines = [f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})", str(HARNESS)]
    lines += [str(REPOSITORY)] if with_plugin else []
    lines += ["import lam3c_cpu_host"]
    (target / "lib" / version / "site-packages" / "lam3c_test.pth").write_text("\n".join(lines) + "\n")
    return target / "bin" / "python"


def make_rooms(root: Path, splits: dict[str, int]) -> Path:
    """Scene folders ``root/<split>/room<i>`` with all label files that the host's data sets look for."""
    return put_rooms(root, splits, ("segment", "segment20", "instance"), count=800, size=(1.4, 1.4, 0.9))


def run(command: list, folder: Path, options: tuple = (), timeout: float = 240, ok: bool = True, **variables: str):
    """Run a command in the checkout with the CPU harness; return its output, assert its success or failure."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "LAM3C_ENGINE")}
    environment |= {
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "ignore",
        "LAM3C_CPU_HOST_OPTIONS": " ".join(options),
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",  # v1.6.0 was written before torch 2.6
        **variables,
    }
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    failed = done.returncode != 0
    assert failed != ok, f"{command} ended with {done.returncode}:\n{done.stdout[-6000:]}"
    return done.stdout


def train_losses(text: str) -> list[dict[str, float]]:
    """The losses of every step in a training log, as `InformationWriter` prints them."""
    steps = []
    for line in text.splitlines():
        if "Train: [" in line and "loss:" in line:
            steps.append({name: float(value) for name, value in re.findall(r"(\w*loss): (-?[\d.]+|nan|inf)", line)})
    return steps
