import pytest

from lam3c_plugin.host_checkout import (
    CheckoutError,
    how_to_install,
    inspect_checkout,
    missing_imports,
    third_party_imports,
)
from tests.commands.fake_checkout import make_checkout


def test_recognises_what_a_version_has(tmp_path):
    checkout = inspect_checkout(make_checkout(tmp_path))
    assert checkout.version == "1.7.0 or newer"
    assert checkout.accumulates
    assert checkout.segments_instances
    assert not checkout.needs_ocnn


def test_old_versions(tmp_path):
    changed = {
        "pointcept/models/litept/__init__.py": None,
        "pointcept/models/point_group/v1m2.py": None,
        "pointcept/models/modules.py": "",
        "pointcept/engines/train.py": "",
    }
    checkout = inspect_checkout(make_checkout(tmp_path, changed))
    assert checkout.version == "1.6.0"
    assert checkout.needs_ocnn
    assert not checkout.accumulates
    assert not checkout.segments_instances
    assert "ocnn" in third_party_imports(checkout)


def test_follows_imports_and_leaves_guarded_ones(tmp_path):
    checkout = inspect_checkout(make_checkout(tmp_path))
    found = third_party_imports(checkout)
    assert found == {
        "torch": "pointcept/engines/train.py",
        "nowhere_to_be_found": "pointcept/engines/train.py",
        "spiral": "pointcept/other/deep.py",
    }
    assert set(missing_imports(checkout)) == {"nowhere_to_be_found", "spiral"}


def test_refuses_other_folders(tmp_path):
    with pytest.raises(CheckoutError, match="no such folder"):
        inspect_checkout(tmp_path / "nowhere")
    with pytest.raises(CheckoutError, match=r"no Pointcept checkout: it has no pointcept/engines/train\.py"):
        inspect_checkout(tmp_path)
    root = make_checkout(tmp_path / "Pointcept")
    with pytest.raises(CheckoutError, match=r"did you mean .*Pointcept"):
        inspect_checkout(root / "pointcept")
    with pytest.raises(CheckoutError, match=r"did you mean .*Pointcept"):
        inspect_checkout(tmp_path)
    (root / "pointcept/models/point_transformer_v3/point_transformer_v3m2_sonata.py").unlink()
    with pytest.raises(CheckoutError, match=r"older than v1\.6\.0"):
        inspect_checkout(root)


def test_install_hints():
    assert "no-build-isolation" in how_to_install("flash_attn")
    assert how_to_install("timm") == "pip install timm"
