"""LAM3C: scalable 3D pre-training from video-generated point clouds (arXiv 2512.23042), as a Pointcept plugin.

Importing this package registers its models, losses, datasets, transforms and hooks with the engine that
`lam3c_plugin.host` picks (``LAM3C_ENGINE=auto|pointcept|embedded``).
"""

import importlib as _importlib
import sys as _sys
import warnings as _warnings

__version__ = "0.1.0"

from lam3c_plugin.errors import Lam3cError

#: why registration failed, for `lam3c doctor`; ``None`` when all is well
import_error: Exception | None = None

_host_is_running = "pointcept" in _sys.modules
try:
    from lam3c_plugin import host
    from lam3c_plugin import losses, models, datasets, hooks  # isort: skip
except (Lam3cError, ImportError) as error:
    # inside Pointcept nothing would be registered and the next error would mislead; alone, `lam3c doctor` must work
    if _host_is_running:
        raise
    import_error = error
    _warnings.warn(f"LAM3C is not registered with any engine: {error}", stacklevel=2)

# what users call; imported at first use, so that `import lam3c_plugin` stays light
_LAZY = {"Encoder": "lam3c_plugin.encode", "LAM3CBackbone": "lam3c_plugin.encode", "load": "lam3c_plugin.encode"}

__all__ = ["Lam3cError", "datasets", "hooks", "host", "import_error", "losses", "models", *_LAZY]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(_importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
