"""Runs an unmodified Pointcept checkout on a machine without CUDA, for the tests only.

`tests/pointcept/hosts.py` puts this folder and the line `import lam3c_cpu_host` into a .pth file of a throw-away
environment, so that it is there in every process of a run: `scripts/train.sh` resets PYTHONPATH and the ranks of a
multi-GPU run are started afresh. Importing it costs nothing: the patches wait until what they patch is imported.

* ``torch``: `.cuda()` returns its argument, `torch.cuda` answers to the checkout's modules as if there were
  ``LAM3C_CPU_HOST_GPUS`` devices, NCCL becomes gloo, `autocast("cuda")` and `GradScaler("cuda")` become the CPU's.
* ``spconv``: its CPU convolution runs on one thread (with more it races), also in eval mode, and gets a backward.
* packages that the checkout imports but a pre-training run never calls are made up when they are absent.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types

#: imported somewhere in `pointcept`, never called by what the tests run
MADE_UP = (
    "SharedArray",
    "clip",
    "cv2",
    "h5py",
    "nuscenes",
    "ocnn",  # v1.6.0 asks `isinstance(x, ocnn.nn.OctreeConv)`
    "open3d",
    "peft",
    "plyfile",
    "pointgroup_ops",
    "torch_cluster",
    "torch_geometric",
    "transformers",
    "wandb",
)


class _MadeUpMeta(type):
    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return made_up_class(f"{cls.__name__}.{name}")


def made_up_class(name: str) -> type:
    """A class that can be imported, subclassed and asked about, but not used."""

    def refuse(self, *args, **kwargs):
        raise RuntimeError(f"{name} is made up by the test harness and cannot be used")

    return _MadeUpMeta(name, (), {"__init__": refuse})


class _MadeUpModule(types.ModuleType):
    __path__: tuple = ()

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return made_up_class(f"{self.__name__}.{name}")


class _MadeUpFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Last in line: answers for the packages of ``MADE_UP`` that no other finder knows."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in MADE_UP:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec):
        return _MadeUpModule(spec.name)

    def exec_module(self, module):
        pass


class _AfterImport(importlib.abc.MetaPathFinder):
    """First in line: runs a patch right after the module it is meant for was imported."""

    def __init__(self, patches):
        self.patches = patches

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in self.patches:
            return None
        patch = self.patches.pop(fullname)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            patch(module)

        spec.loader.exec_module = exec_module
        return spec


def _identity(self, *args, **kwargs):
    return self


def patch_torch(torch) -> None:
    """Make CUDA calls of the checkout land on the CPU."""
    torch.Tensor.cuda = _identity
    torch.nn.Module.cuda = _identity
    torch.UntypedStorage.cuda = _identity
    cuda = torch.cuda
    really_available = cuda.is_available

    def is_available() -> bool:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        return True if caller.startswith("pointcept.") else really_available()

    cuda.is_available = is_available
    cuda.device_count = lambda: int(os.environ.get("LAM3C_CPU_HOST_GPUS", "1"))
    for name in ("set_device", "empty_cache", "synchronize"):
        setattr(cuda, name, lambda *args, **kwargs: None)  # one function each: torch keeps a table of them
    cuda.current_device = lambda: 0
    cuda.max_memory_allocated = lambda *args, **kwargs: 0

    class Autocast(torch.amp.autocast):
        def __init__(self, device_type, *args, **kwargs):
            super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    class GradScaler(torch.amp.GradScaler):
        def __init__(self, device="cuda", *args, **kwargs):
            super().__init__("cpu" if device == "cuda" else device, *args, **kwargs)

    torch.amp.autocast, torch.amp.GradScaler = Autocast, GradScaler

    histc = torch.histc  # the CPU's takes no integers
    torch.histc = lambda values, *args, **kwargs: histc(values.float(), *args, **kwargs)

    start = torch.distributed.init_process_group

    def init_process_group(backend=None, *args, **kwargs):
        return start("gloo" if str(backend).lower() == "nccl" else backend, *args, **kwargs)

    torch.distributed.init_process_group = init_process_group

    parallel = torch.nn.parallel.DistributedDataParallel
    make = parallel.__init__

    def make_on_cpu(self, module, device_ids=None, output_device=None, **kwargs):
        make(self, module, **kwargs)

    parallel.__init__ = make_on_cpu


def patch_spconv(functional) -> None:
    """Give spconv's submanifold convolution one thread, eval mode and a backward (its pairs, torch's products)."""
    import torch
    from spconv.pytorch import ops

    class Convolution(torch.autograd.Function):
        @staticmethod
        def forward(ctx, features, filters, pairs, pair_num, num_out, algo, timer):
            ctx.save_for_backward(features, filters, pairs, pair_num)
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                with torch.autocast("cpu", enabled=False):
                    return ops.indice_conv(
                        features.float(), filters.float(), pairs, pair_num, num_out, False, True, algo=algo, timer=timer
                    )
            finally:
                torch.set_num_threads(threads)

        @staticmethod
        def backward(ctx, grad):
            features, filters, pairs, pair_num = ctx.saved_tensors
            grad, values = grad.float(), features.float()
            taps = filters.float().reshape(filters.shape[0], -1, filters.shape[-1])  # (out, 27, in)
            count, centre = taps.shape[1], taps.shape[1] // 2
            grad_features, grad_taps = grad @ taps[:, centre], torch.zeros_like(taps)
            grad_taps[:, centre] = grad.T @ values
            for tap in range(count):
                # only the first half of the counts is filled; a tap and its mirror have the same pairs
                number = int(pair_num[min(tap, count - 1 - tap)])
                if tap == centre or number == 0:
                    continue
                source, target = pairs[0, tap, :number].long(), pairs[1, tap, :number].long()
                grad_features.index_add_(0, source, grad[target] @ taps[:, tap])
                grad_taps[:, tap] = grad[target].T @ values[source]
            grad_filters = grad_taps.reshape(filters.shape).to(filters.dtype)
            return grad_features.to(features.dtype), grad_filters, None, None, None, None, None

    def indice_subm_conv(features, filters, pairs, pair_num, num_out, algo, timer=None, bias=None, *unused):
        out = Convolution.apply(features, filters, pairs, pair_num, num_out, algo, timer)
        return (out if bias is None else out + bias).to(features.dtype)

    functional.indice_subm_conv = indice_subm_conv


def patch_options(defaults) -> None:
    """Add LAM3C_CPU_HOST_OPTIONS (`key=value` words) to `--options`, which `scripts/train.sh` does not pass on."""
    words = os.environ.get("LAM3C_CPU_HOST_OPTIONS", "").split()
    make_parser = defaults.default_argument_parser

    def default_argument_parser(*args, **kwargs):
        parser = make_parser(*args, **kwargs)
        parse = parser.parse_args

        def parse_args(argv=None):
            argv = list(sys.argv[1:] if argv is None else argv)
            if words:
                argv += words if "--options" in argv else ["--options", *words]
            return parse(argv)

        parser.parse_args = parse_args
        return parser

    if words:
        defaults.default_argument_parser = default_argument_parser


class _Hidden(importlib.abc.MetaPathFinder):
    """Makes the packages named by LAM3C_CPU_HOST_HIDE look as if they were not installed."""

    def __init__(self, names):
        self.names = names
        really_find = importlib.util.find_spec
        # a finder cannot answer "there is none" for those after it; whoever only asks, asks here
        importlib.util.find_spec = lambda name, package=None: None if name in names else really_find(name, package)

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def activate() -> None:
    """Register the finders, once, on import."""
    hidden = os.environ.get("LAM3C_CPU_HOST_HIDE", "").split()
    patches = {
        "torch": patch_torch,
        "spconv.pytorch.functional": patch_spconv,
        "pointcept.engines.defaults": patch_options,
    }
    sys.meta_path[:0] = [_Hidden(hidden), _AfterImport(patches)] if hidden else [_AfterImport(patches)]
    sys.meta_path.append(_MadeUpFinder())


activate()
