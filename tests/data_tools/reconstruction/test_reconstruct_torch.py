"""What the adapters of networks share: weights, device, precision, repeatable runs."""

import numpy as np
import pytest
import torch

from data_tools.reconstruction import ReconstructSettings
from data_tools.reconstruction.torch_tools import (
    autocast,
    image_batch,
    import_package,
    load_model,
    pick_device,
    pick_dtype,
    repeatable,
    to_numpy,
)
from data_tools.stages.record import StageError

CPU = torch.device("cpu")


class Tiny(torch.nn.Linear):
    """A network with the hub mixin's way of loading."""

    asked: str = ""

    def __init__(self):
        super().__init__(2, 3)

    @classmethod
    def from_pretrained(cls, name):
        cls.asked = name
        if name == "nobody/nothing":
            raise ConnectionError("could not resolve huggingface.co\nmore lines")
        return cls()


@pytest.mark.parametrize("wrap", [None, "state_dict", "model"])
def test_weights_from_a_file(wrap, tmp_path):
    state = Tiny().state_dict()
    torch.save({wrap: state} if wrap else state, tmp_path / "w.pt")
    model = load_model(Tiny, str(tmp_path / "w.pt"), "", CPU)
    torch.testing.assert_close(model.weight, state["weight"])
    assert not model.training


def test_weights_as_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    state = {name: value.contiguous() for name, value in Tiny().state_dict().items()}
    safetensors.save_file(state, str(tmp_path / "model.safetensors"))
    model = load_model(Tiny, str(tmp_path / "model.safetensors"), "", CPU)
    torch.testing.assert_close(model.bias, state["bias"])


def test_weights_from_hub_and_folder(tmp_path):
    load_model(Tiny, "", "somebody/tiny", CPU)
    assert Tiny.asked == "somebody/tiny"
    load_model(Tiny, str(tmp_path), "somebody/tiny", CPU)
    assert Tiny.asked == str(tmp_path)


def test_bad_weights_are_one_line_each(tmp_path):
    with pytest.raises(StageError, match=r"no such file; check --weights"):
        load_model(Tiny, str(tmp_path / "no.safetensors"), "", CPU)
    with pytest.raises(
        StageError, match=r"^weights nobody/nothing could not be had \(ConnectionError: could not"
    ) as one:
        load_model(Tiny, "nobody/nothing", "", CPU)
    assert "\n" not in str(one.value)
    torch.save({"weight": torch.zeros(3, 2)}, tmp_path / "half.pt")
    with pytest.raises(StageError, match=r"not the weights of Tiny \(1 of its tensors are missing, first bias\)"):
        load_model(Tiny, str(tmp_path / "half.pt"), "", CPU)
    torch.save({"weight": torch.zeros(4, 4), "bias": torch.zeros(3)}, tmp_path / "large.pt")
    with pytest.raises(StageError, match="do not fit Tiny"):
        load_model(Tiny, str(tmp_path / "large.pt"), "", CPU)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(StageError, match="cannot be read as weights"):
        load_model(Tiny, str(tmp_path / "list.pt"), "", CPU)
    (tmp_path / "text.pt").write_text("no weights", encoding="utf-8")
    with pytest.raises(StageError, match="cannot be read as weights") as caught:
        load_model(Tiny, str(tmp_path / "text.pt"), "", CPU)
    assert not caught.value.permanent


def test_a_package_without_one_it_needs_names_that(tmp_path, monkeypatch):
    (tmp_path / "needy_package").mkdir()
    (tmp_path / "needy_package" / "__init__.py").write_text("import not_there_at_all\n", encoding="utf-8")
    monkeypatch.setenv("NEEDY_ROOT", str(tmp_path))
    with pytest.raises(StageError, match=r"needy_package cannot be imported .*: pip install not_there_at_all"):
        import_package("needy_package", "NEEDY_ROOT", "how")


def test_device_and_precision():
    if not torch.cuda.is_available():
        with pytest.raises(StageError, match="PyTorch sees no GPU"):
            pick_device(ReconstructSettings(device="cuda"))
    assert pick_device(ReconstructSettings(device="cpu")).type == "cpu"
    assert pick_dtype(ReconstructSettings(), CPU) == torch.float32
    assert pick_dtype(ReconstructSettings(dtype="bf16"), CPU) == torch.bfloat16
    layer = torch.nn.Linear(2, 2)
    with autocast(CPU, torch.bfloat16):
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
    with autocast(CPU, torch.float32):
        assert layer(torch.ones(1, 2)).dtype == torch.float32


def test_repeatable_runs_leave_no_trace():
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    draws = []
    for deterministic in (True, False):
        with repeatable(3, deterministic):
            draws.append(torch.rand(4))
            assert not torch.is_grad_enabled()
    torch.testing.assert_close(*draws)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_images_to_tensor_and_back():
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3)).astype(np.uint8)
    batch = image_batch(images, CPU)
    assert batch.shape == (2, 3, 4, 6)
    np.testing.assert_allclose(batch[1, 2].numpy() * 255, images[1, :, :, 2], atol=1e-4)
    assert to_numpy(torch.ones(2, dtype=torch.bfloat16)).dtype == np.float32
    assert to_numpy(np.ones(2, np.float16), np.float64).dtype == np.float64
