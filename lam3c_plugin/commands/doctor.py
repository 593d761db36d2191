"""``lam3c doctor``: which engine is in use and why, versions, the machine, and what is missing for what."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any

from lam3c_plugin import __version__
from lam3c_plugin.commands import doctor_checkout, environment

TORCH_AT_LEAST = (2, 5)
SHARED_AT_LEAST = 2.0  # GB


@dataclass(frozen=True)
class Task:
    """Something people want to do, and what it takes."""

    title: str
    needs: tuple[str, ...]
    cure: str
    core: bool = False


TASKS = (
    Task(
        "pre-train and use LAM3C on the embedded engine",
        ("torch", "numpy", "scipy", "addict", "tensorboard", "tqdm"),
        "pip install -e .",
        core=True,
    ),
    Task("draw curves and the quick start's picture", ("matplotlib",), "pip install matplotlib"),
    Task(
        "run inside Pointcept (CUDA)",
        ("pointcept", "spconv", "torch_scatter", "timm", "tensorboardX", "yapf", "h5py"),
        'pip install -e ".[pointcept]"',
    ),
    Task("Pointcept with flash attention", ("flash_attn",), "pip install flash-attn --no-build-isolation"),
    Task("Pointcept's neighbour search on the GPU", ("pointops",), "pip install ./libs/pointops (Pointcept's folder)"),
    Task("package .las and .laz clouds", ("laspy",), 'pip install "laspy[lazrs]"'),
    Task("meshes (.obj .stl .glb .off) as clouds", ("open3d",), 'pip install -e ".[open3d]"'),
    Task("download videos", ("yt_dlp",), 'pip install "yt-dlp[default]"'),
    Task("videos into rooms on a CPU (sfm)", ("av", "cv2", "scenedetect", "pycolmap"), 'pip install -e ".[video]"'),
    Task("label the rooms of videos", ("av", "open_clip"), 'pip install -e ".[data]"'),
    Task("videos into rooms on a Ray cluster", ("ray",), 'pip install -e ".[ray]"'),
    Task("checkpoints by name, safetensors", ("safetensors", "huggingface_hub"), "pip install -e ."),
    Task("develop: tests and lint", ("pytest", "ruff"), 'pip install -e ".[dev]"'),
)


def add_parser(subparsers: Any) -> None:
    """Add ``lam3c doctor``."""
    parser = subparsers.add_parser(
        "doctor",
        help="which engine is in use and why, versions, and what is missing for what",
        description="Says which engine is in use and why, the versions, and what is missing for what. "
        "Exit code 0 unless the core cannot run.",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    doctor_checkout.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the report; 1 if the core cannot run, else 0."""
    if args.pointcept:
        return doctor_checkout.run(args)
    report = examine()
    print(json.dumps(report, indent=2) if args.json else describe(report))
    return 0 if report["ok"] else 1


def examine() -> dict[str, Any]:
    """Everything ``lam3c doctor`` knows, as plain data; ``ok`` says whether the core can run."""
    libraries = environment.libraries()
    engine = environment.engine()
    tasks = [_examine_task(task, libraries, engine) for task in TASKS]
    core = all(item["status"] == "ok" for item in tasks if item["core"])
    return {
        "version": __version__,
        "ok": core and engine["used"] is not None,
        "engine": engine,
        "machine": environment.machine(),
        "libraries": libraries,
        "tasks": tasks,
    }


def _examine_task(task: Task, libraries: dict[str, dict[str, Any]], engine: dict[str, Any]) -> dict[str, Any]:
    missing, problems, cure = [], [], task.cure
    for module in task.needs:
        if module == "pointcept":
            if engine["pointcept"]["path"] is None:
                missing.append(module)
                cure = f"a Pointcept checkout on PYTHONPATH; {cure}"
            else:
                problems += _pointcept_problems(engine)
        elif not libraries[module]["found"]:
            missing.append(module)
        elif libraries[module]["problem"]:
            problems.append(f"{module} does not import ({libraries[module]['problem']})")
        elif module == "torch" and environment.release(libraries[module]["version"]) < TORCH_AT_LEAST:
            problems.append(f"torch {libraries[module]['version']} is older than 2.5")
            cure = 'pip install "torch>=2.5"'
    if missing:
        problems.insert(0, f"missing {', '.join(missing)}")
    status = "ok" if not problems else "missing"
    return {"task": task.title, "core": task.core, "status": status, "problems": problems, "cure": cure}


def _pointcept_problems(engine: dict[str, Any]) -> list[str]:
    facts = engine["pointcept"]
    problems = [facts["problem"]] if facts["problem"] else []
    if facts.get("missing"):
        problems.append(f"it imports at start what is missing: {', '.join(facts['missing'])}")
    if engine["problem"] and engine["asked"] != "embedded":
        problems.append("it does not import, see above")
    return problems


# ---- words ---------------------------------------------------------------------------------------------------------


def describe(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"lam3c {report['version']}", "", *_describe_engine(report["engine"]), ""]
    lines += [*_describe_machine(report["machine"]), "", "libraries"]
    for module, facts in report["libraries"].items():
        if facts["found"]:
            note = f"  does not import: {facts['problem']}" if facts["problem"] else ""
            lines.append(f"  {module:<15}{facts['version'] or 'version unknown'}{note}")
    absent = [module for module, facts in report["libraries"].items() if not facts["found"]]
    if absent:
        lines.append(f"  not installed: {', '.join(absent)}")
    width = max(len(item["task"]) for item in report["tasks"]) + 2
    lines += ["", "what works"]
    for item in report["tasks"]:
        lines.append(
            f"  {item['task']:<{width}}{'ok' if item['status'] == 'ok' else 'no: ' + '; '.join(item['problems'])}"
        )
        if item["status"] != "ok":
            lines.append(f"  {'':<{width}}    {item['cure']}")
    lines += ["", "LAM3C can run here." if report["ok"] else "LAM3C cannot run here: see above."]
    if report["ok"]:
        lines.append("next: `lam3c pca CLOUD --view` shows features; sh scripts/quickstart.sh pre-trains a small model")
    return "\n".join(lines)


def _describe_engine(engine: dict[str, Any]) -> list[str]:
    if engine["used"] is None:
        lines = [f"engine: none (LAM3C_ENGINE={engine['asked']}): {engine['problem']}"]
    else:
        lines = [f"engine: {engine['used']} ({engine['why']})"]
    facts = engine["pointcept"]
    if facts["path"] is not None:
        has = ", ".join(f"{name}: {'yes' if there else 'no'}" for name, there in facts.get("has", {}).items())
        lines.append(f"  Pointcept {facts.get('version', 'of no known version')} at {facts['path']}")
        lines += [f"  {has}"] if has else []
    return lines


def _describe_machine(machine: dict[str, Any]) -> list[str]:
    memory = f"{machine['memory_gb']} GB" if machine["memory_gb"] else "unknown"
    if machine["memory_limit_gb"]:
        memory += f" (this container: {machine['memory_limit_gb']} GB)"
    lines = [
        f"machine: {machine['system']}",
        f"  Python {machine['python']} at {machine['executable']}",
        f"  {machine['cpu_threads']} CPU threads, memory {memory}",
    ]
    if machine["shared_gb"] is not None and machine["shared_gb"] < SHARED_AT_LEAST:
        lines.append(
            f"  {machine['shared_gb']} GB free in /dev/shm: little for a loader's workers (some 0.35 GB each); "
            "give a container --shm-size=20g"
        )
    for number, gpu in enumerate(machine["gpus"]):
        lines.append(
            f"  GPU {number}: {gpu['name']}, {gpu['memory_gb']} GB ({gpu['free_gb']} GB free), "
            f"compute capability {gpu['capability']}"
        )
    if not machine["gpus"]:
        build = f"torch is built for CUDA {machine['cuda']}" if machine["cuda"] else "torch is built without CUDA"
        lines.append(f"  no GPU in use; {machine.get('gpu_problem') or build}")
    return lines
