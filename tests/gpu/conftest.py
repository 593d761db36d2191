"""Every test here runs on the CPU, and with `pytest -m gpu` on a CUDA device: the same lines, the same bars."""

import pytest
import torch


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return request.param


def on(device, values):
    """The tensors of a mapping (or list) on a device; what is no tensor stays."""
    if isinstance(values, dict):
        return {key: value.to(device) if torch.is_tensor(value) else value for key, value in values.items()}
    return [value.to(device) if torch.is_tensor(value) else value for value in values]


def relative_error(found, wanted):
    """|found - wanted| / |wanted|, both float64 on the CPU; NaN where either is not finite."""
    found, wanted = found.detach().double().cpu(), wanted.detach().double().cpu()
    return float((found - wanted).norm() / wanted.norm())
