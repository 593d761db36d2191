"""A card that is not there: tensors that say they lie on ``cuda:0`` and are computed on the CPU, values and all.

Code takes its GPU paths on them, and where a tensor of the host meets one of the card the operator fails, as it would
there. What only a real card knows (its kernels, their types and limits, autocast) stays untested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

DEVICE = torch.device("cuda", 0)
# operators that take tensors of both places: copies, and an index of the host into a tensor of the card
MIXING = {"_to_copy", "copy_", "lift_fresh", "index", "index_put", "index_put_", "_index_put_impl_"}


class OnCard(Tensor):
    """A tensor of the card; ``values`` are its numbers on the CPU."""

    device = property(lambda self: DEVICE)
    is_cuda = True
    values: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: Tensor) -> OnCard:
        with no_dispatch():  # autograd's engine takes tensors of the meta device without asking for a driver
            shape = torch.empty_strided(values.size(), values.stride(), dtype=values.dtype, device="meta")
        tensor = Tensor._make_subclass(cls, shape, False)
        tensor.values = values
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The operator on the values; its result is on the card where it would be there."""
    name, (flat, spec) = func.overloadpacket.__name__, tree_flatten((args, kwargs))
    on_card = any(isinstance(item, OnCard) for item in flat)
    host = [tuple(x.shape) for x in flat if isinstance(x, Tensor) and not isinstance(x, OnCard) and x.dim() > 0]
    if on_card and host and name not in MIXING:
        raise RuntimeError(f"{func}: tensors of the CPU {host} meet tensors of the card")
    plain = [x.values if isinstance(x, OnCard) else torch.device("cpu") if _is_device(x) else x for x in flat]
    new_args, new_kwargs = tree_unflatten(plain, spec)
    new_kwargs.pop("pin_memory", None)
    result = func(*new_args, **new_kwargs)
    returns = func._schema.returns
    if returns and returns[0].alias_info is not None and returns[0].alias_info.is_write:
        return kwargs["out"] if "out" in kwargs else args[0]
    if kwargs.get("device") is not None:
        on_card = torch.device(kwargs["device"]).type != "cpu"
    return tree_map(lambda x: OnCard(x) if isinstance(x, Tensor) and on_card else x, result)


def _is_device(item: Any) -> bool:
    return isinstance(item, torch.device)


class _Operators(TorchDispatchMode):
    """Also tensors that are made on the card from nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE  # so that PyTorch does not look for a driver

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        return _compute(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """What no operator shows."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.tolist and isinstance(args[0], OnCard):
            return args[0].values.tolist()
        if func is Tensor.numpy and isinstance(args[0], OnCard):
            raise TypeError("can't convert a tensor of the card to numpy")
        if func is Tensor.pin_memory:
            return args[0]
        if func in (torch.tensor, torch.as_tensor) and (kwargs or {}).get("device") is not None:
            kwargs = dict(kwargs)
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        return func(*args, **(kwargs or {}))


@contextmanager
def pretend_card() -> Iterator[None]:
    """Inside the block there is a card."""
    torch._C._ensureCUDADeviceGuardSet()  # as fake tensors do it: "cuda" without a number asks nobody for the number
    with _Functions(), _Operators():
        yield


def put(item: Any) -> Any:
    """A tensor, the tensors of a dictionary, or a module's parameters (in place) on the card."""
    if isinstance(item, nn.Module):
        for module in item.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    card = OnCard(parameter.detach())
                    module._parameters[name] = nn.Parameter(card, requires_grad=parameter.requires_grad)
        return item
    if isinstance(item, dict):
        return {key: put(value) for key, value in item.items()}
    return OnCard(item) if isinstance(item, Tensor) else item
