"""A made-up folder that looks like a Pointcept checkout from outside; nothing in it runs."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "pointcept/__init__.py": "",
    "pointcept/engines/__init__.py": "",
    "pointcept/engines/hooks/misc.py": "weights_only = False",
    "pointcept/engines/train.py": "import torch\nimport nowhere_to_be_found\nfrom pointcept.models import build\n"
    "steps = 'gradient_accumulation_steps'\n",
    "pointcept/models/__init__.py": "from .modules import *\nfrom .builder import build\n",
    "pointcept/models/builder.py": "try:\n    import only_if_you_like\nexcept ImportError:\n    pass\nbuild = None\n",
    "pointcept/models/modules.py": "from ..other import deep\nif ocnn is not None:\n    pass\n",
    "pointcept/models/point_group/v1m2.py": "'PG-v1m2'",
    "pointcept/models/litept/__init__.py": "",
    "pointcept/models/point_transformer_v3/point_transformer_v3m2_sonata.py": "'PT-v3m2'",
    "pointcept/other/__init__.py": "",
    "pointcept/other/deep.py": "def later():\n    import not_at_module_level\nfrom spiral.arm import x\n",
    "scripts/train.sh": "",
    "configs/_base_/default_runtime.py": "",
    "configs/scannet/semseg.py": "mine = 1\n",
}


def make_checkout(root: Path, changed: dict[str, str | None] | None = None) -> Path:
    """Write the checkout; ``changed`` maps a file to other text, or to ``None`` to leave it out."""
    for name, text in {**FILES, **(changed or {})}.items():
        if text is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return root
