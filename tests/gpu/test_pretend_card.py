"""The whole step on a card that is not there: no tensor of the host meets one of the card, numbers are the CPU's."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks.ptv3_forward import room_cloud
from lam3c_plugin.hooks.collapse_monitor.diagnostics import gather_sums, local_sums
from lam3c_plugin.hooks.frozen_features import frozen_features
from lam3c_plugin.ops.device import remember
from tests.models.conftest import make_batch, make_model
from tests.pretend_card import DEVICE, pretend_card, put


def test_the_pretended_card_is_as_strict_as_a_real_one():
    with pretend_card():
        made, sent = torch.arange(4, device="cuda"), torch.arange(4).to("cuda")
        assert made.device == sent.device == (made + sent).device == DEVICE
        assert made.is_cuda
        assert (made + sent).tolist() == [0, 2, 4, 6]
        assert (made * 2).cpu().device.type == "cpu"
        assert int(made.sum()) == 6
        assert made[torch.tensor([3, 1])].tolist() == [3, 1]  # the one mixture that a card takes
        for mixed in (lambda: made + torch.arange(4), lambda: made.index_select(0, torch.arange(2))):
            with pytest.raises(RuntimeError, match="meet tensors of the card"):
                mixed()
        with pytest.raises(TypeError, match="numpy"):
            made.numpy()


def step(model, batch):
    """Losses, gradients and diagnostics of a step without random depth."""
    for module in model.modules():
        if type(module).__name__ == "DropPath":
            module.rate = 0.0
    for name in ("global_offset", "local_offset"):
        remember(batch[name], batch[name].tolist())
    model.collect_diagnostics = True
    torch.manual_seed(0)
    losses = model(batch)
    losses["loss"].backward()
    model.update_teacher()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    where = losses["loss"].device
    return (
        {name: value.item() for name, value in losses.items()},
        grads,
        gather_sums(local_sums(model.diagnostics), where),
    )


def test_a_step_with_its_backward():
    wanted_losses, wanted_grads, wanted_sums = step(make_model(), make_batch())
    model = put(make_model())
    with pretend_card():
        losses, grads, sums = step(model, put(make_batch()))
    # the card's search of neighbours takes others among some that are equally near
    assert losses == pytest.approx(wanted_losses, rel=5e-3)
    assert grads.keys() == wanted_grads.keys()
    assert len(grads) > 100
    assert all(grad.device == DEVICE for grad in grads.values())
    found, wanted = (
        torch.cat([grad.flatten() for _, grad in sorted(each.items())])
        for each in ({name: grad.values for name, grad in grads.items()}, wanted_grads)
    )
    assert float((found - wanted).norm() / wanted.norm()) < 0.05
    assert sums.keys() == wanted_sums.keys()
    assert all(value.device.type == "cpu" for value in sums.values())


def test_features_for_hooks():
    cloud = room_cloud(900, "crop")
    scene = {"coord": cloud["coord"].numpy(), "feat": cloud["feat"].numpy(), "grid_size": 0.02}
    wanted = frozen_features(SimpleNamespace(cfg=None, model=make_model()), scene, level=2)
    model = put(make_model())
    with pretend_card():
        found = frozen_features(SimpleNamespace(cfg=None, model=model), scene, level=2)
    torch.testing.assert_close(found.values, wanted, rtol=1e-3, atol=1e-4)
