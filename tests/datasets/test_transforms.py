"""LAM3CTransforms: the plugin's transforms by config, in either engine."""

import numpy as np
import pytest

from lam3c_plugin import host
from lam3c_plugin.embedded import transforms as T
from lam3c_plugin.embedded.transforms import compose
from lam3c_plugin.errors import RegistryError


def test_it_runs_the_plugins_transforms():
    build = dict(type="LAM3CTransforms", transforms=[dict(type="GridSample", grid_size=0.5), dict(type="ToTensor")])
    pipeline = host.TRANSFORMS.build(build)
    assert [type(transform) for transform in pipeline.transforms] == [T.GridSample, T.ToTensor]
    sample = host.Compose([build])({"coord": np.random.default_rng(0).random((50, 3)).astype(np.float32)})
    assert len(sample["coord"]) == 8


def test_names_the_plugin_lacks_come_from_the_host(monkeypatch):
    class Registry(dict):
        def build(self, cfg):
            return f"built {cfg['type']}"

    monkeypatch.setattr(compose, "FALLBACK_REGISTRIES", [Registry(OnlyInTheHost=1)])
    assert compose.build_transform(dict(type="OnlyInTheHost")) == "built OnlyInTheHost"
    assert isinstance(compose.build_transform(dict(type="ToTensor")), T.ToTensor)
    with pytest.raises(RegistryError, match="Nowhere"):
        compose.build_transform(dict(type="Nowhere"))


def test_drops_are_registered_with_the_hosts_arguments():
    for name in ("RandomDropColor", "RandomDropNormal"):
        drop = host.TRANSFORMS.build(dict(type=name, drop_ratio=1.0, drop_application_ratio=1.0))
        scene = {"color": np.ones((3, 3), np.float32), "normal": np.ones((3, 3), np.float32)}
        assert sum(value.any() for value in drop(scene).values()) == 1
