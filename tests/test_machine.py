import pytest

from lam3c_plugin import machine
from lam3c_plugin.commands.doctor_checkout import load_config


@pytest.fixture(scope="module")
def base():
    return load_config("pretrain-lam3c-v1m1-0-base")


def test_counts_weights_of_base(base):
    # 108.4 M of the backbone and two heads of 6.6 M
    assert machine.count_weights(base["model"]) == pytest.approx(121.6e6, rel=0.1)


def test_need_grows_with_views_patch_and_width(base):
    flash, plain = machine.estimate_need(base, True), machine.estimate_need(base, False)
    assert plain.scene > 3 * flash.scene
    large = machine.estimate_need(load_config("pretrain-lam3c-v1m1-1-large"), True)
    assert large.scene > flash.scene
    assert large.fixed > flash.fixed
    assert machine.estimate_need(load_config("pretrain-lam3c-v1m1-7-24gb"), True).scene < 0.6 * flash.scene


@pytest.mark.parametrize(
    ("name", "peaks"),
    [
        ("0-base", {2: 11.97, 4: 21.45, 6: 31.07, 8: 40.67, 12: 59.78}),
        ("1-large", {2: 16.67, 4: 28.96, 6: 41.59, 8: 54.05}),
    ],
)
def test_the_estimate_is_what_a_card_needed(name, peaks):
    """benchmarks/gpu_results.md: GiB by scenes of full views, without what CUDA itself takes."""
    need = machine.estimate_need(load_config(f"pretrain-lam3c-v1m1-{name}"), True)
    for scenes, peak in peaks.items():
        assert need.fixed - machine.CONTEXT_GIB + scenes * need.scene == pytest.approx(peak, rel=0.05)


def test_the_recipes_fit_the_cards_they_name(base):
    assert machine.estimate_need(base, True).scenes(80e9 / machine.GIB) >= 12
    small = load_config("pretrain-lam3c-v1m1-7-24gb")
    assert machine.estimate_need(small, True).scenes(24e9 / machine.GIB) >= small["batch_size"]
    assert machine.view_sizes(small) == (32768, 13107)


def test_suggestion_keeps_the_effective_batch():
    need = machine.Need(fixed=4.0, scene=9.0)
    fit = machine.suggest(need, batch=96, gpus=8, gib=80)
    assert fit == machine.Fit(batch_size=48, accumulation=2)
    assert machine.suggest(need, 96, gpus=1, gib=24) == machine.Fit(2, 48)
    assert machine.suggest(need, 96, gpus=8, gib=80, accumulates=False) is None
    assert machine.suggest(need, 96, gpus=5, gib=80) is None
    assert machine.suggest(need, 96, gpus=1, gib=8) is None


def test_effective_batch_counts_accumulation():
    assert machine.effective_batch(dict(batch_size=2, gradient_accumulation_steps=48)) == 96
    assert machine.effective_batch(dict(batch_size=96)) == 96
