"""CLIP labels: open_clip driven with small random weights from a local file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_tools.segmentation.clip import calibrated_softmax, fit_temperature
from data_tools.segmentation.prompts import INDOOR, OTHER, OUTDOOR, TEMPLATES, expand, room_prompts
from data_tools.segmentation.settings import DEFAULT_ROOMS, NO_ROOM, SegmentSettings
from data_tools.stages.record import StageError

TINY = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "layers": 1, "width": 64, "patch_size": 16, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights of a tiny model that open_clip knows by name."""
    open_clip = pytest.importorskip("open_clip")
    import torch

    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-test.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    path = folder / "weights.pt"
    torch.save(open_clip.create_model("tiny-test", pretrained=None).state_dict(), path)
    return path


def settings(weights, **values):
    return SegmentSettings(clip_model="tiny-test", clip_weights=str(weights), device="cpu", **values)


@pytest.fixture(scope="module")
def classifier(weights):
    from data_tools.segmentation.clip import load_clip

    return load_clip(settings(weights, batch=3))


def images(count, shape=(120, 160, 3)):
    return list(np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8))


def test_weights_load_from_a_file(classifier, weights):
    import torch

    state = torch.load(weights, weights_only=True)
    for name, value in classifier.model.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_probabilities_of_any_shape_and_batch(classifier):
    assert classifier.names == [*NO_ROOM, *DEFAULT_ROOMS]
    rows, embeddings = classifier.classify(images(7))
    assert rows.shape == (7, len(classifier.names))
    assert rows.dtype == np.float32
    assert embeddings.shape == (7, TINY["embed_dim"])
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert np.allclose(rows.sum(1), 1, atol=1e-5)
    assert np.allclose(classifier.classify(images(7)[6:])[0], rows[6:], atol=1e-5)  # batches do not touch each other
    assert classifier.classify([])[0].shape == (0, len(classifier.names))
    assert classifier.classify(images(1, (33, 50, 3)))[0].shape == (1, len(classifier.names))
    assert classifier.logits(images(2)).shape == (2, 3 + len(DEFAULT_ROOMS))


def test_images_are_prepared_as_open_clip_does(classifier, weights):
    from open_clip import image_transform
    from PIL import Image

    image = np.kron(images(1, (12, 16, 3))[0], np.ones((16, 16, 1), np.uint8))
    theirs = image_transform(64, is_train=False, mean=classifier.mean, std=classifier.std)(Image.fromarray(image))
    ours = classifier.prepare([image])[0]
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().mean()) < 0.01  # Pillow rounds to whole grey levels between its two passes
    assert float((ours - theirs).abs().max()) < 0.15


def test_text_embeddings_are_means_of_the_ensemble(classifier):
    import torch
    import torch.nn.functional as F
    from open_clip import get_tokenizer

    with torch.inference_mode():
        texts = expand(room_prompts("kitchen"))
        rows = F.normalize(classifier.model.encode_text(get_tokenizer("tiny-test")(texts)), dim=-1)
        mean = F.normalize(rows.mean(0), dim=0)
    assert torch.allclose(classifier.text[3 + DEFAULT_ROOMS.index("kitchen")], mean, atol=1e-5)


def test_half_precision_gives_nearly_the_same(weights, classifier):
    from data_tools.segmentation.clip import load_clip

    half = load_clip(settings(weights, precision="fp16"))
    assert next(half.model.visual.parameters()).dtype.itemsize == 2
    assert np.allclose(half.classify(images(3))[0], classifier.classify(images(3))[0], atol=0.03)


def test_a_video_goes_through_clip(weights, tmp_path):
    pytest.importorskip("av")
    from data_tools.segment import main
    from tests.data_tools.video import videos

    path = videos.write_tour(tmp_path / "tour.mp4", [(1, 12)])
    arguments = ["--clip-model", "tiny-test", "--clip-weights", str(weights), "--rooms", "kitchen, attic"]
    assert main([str(path), "--work", str(tmp_path), *arguments, "--prior-outdoor", "0.001"]) == 0
    record = json.loads((tmp_path / "segments" / "tour" / "record.json").read_text())
    assert record["result"]["frames_classified"] == 36
    assert record["result"]["labels"] == "clip"


def test_errors_name_the_cure(weights, tmp_path, monkeypatch, capsys):
    import open_clip
    import torch

    from data_tools.segment import main
    from data_tools.segmentation.clip import load_clip

    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"not a checkpoint")
    with pytest.raises(StageError, match=r"bad\.pt: no CLIP checkpoint.*--labels none"):
        load_clip(settings(bad))
    torch.save({"visual.proj": torch.zeros(3)}, bad)
    with pytest.raises(StageError, match=r"bad\.pt: not weights of tiny-test"):
        load_clip(settings(bad, batch=2))
    with pytest.raises(StageError, match="has no model 'nothing'"):
        load_clip(SegmentSettings(clip_model="nothing"))

    def fails(*_, **__):
        raise RuntimeError("no network")

    monkeypatch.setattr(open_clip, "create_model", fails)
    (tmp_path / "x.mp4").write_bytes(b"x")
    assert main([str(tmp_path / "x.mp4"), "--work", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "--clip-weights PATH" in err
    assert "--labels none" in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_the_real_architecture_loads(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    import torch

    from data_tools.segmentation.clip import load_clip

    path = tmp_path / "vit.pt"
    torch.save(open_clip.create_model("ViT-B-32-quickgelu", pretrained=None).state_dict(), path)
    classifier = load_clip(SegmentSettings(clip_weights=str(path), device="cpu"))
    assert classifier.size == 224
    assert [part.shape for part in classifier.classify(images(2, (224, 398, 3)))] == [(2, 14), (2, 512)]


def test_calibrated_softmax_weighs_by_the_prior():
    logits = np.array([[0.0, 0.0], [4.0, 0.0]])
    assert np.allclose(calibrated_softmax(logits, prior=np.array([0.9, 0.1]))[0], [0.9, 0.1])
    assert calibrated_softmax(logits, 1.0)[1, 0] > calibrated_softmax(logits, 4.0)[1, 0] > 0.5


def test_fitted_temperature_makes_probabilities_honest():
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, (4000, 4))
    shares = calibrated_softmax(true)
    labels = np.array([rng.choice(4, p=row) for row in shares])
    assert fit_temperature(3.0 * true, labels) == pytest.approx(3.0, rel=0.08)


def test_prompts_cover_the_default_rooms():
    assert len(expand(INDOOR)) == len(INDOOR) * len(TEMPLATES)
    assert all(len(room_prompts(room)) > 0 for room in DEFAULT_ROOMS)
    assert room_prompts("attic") == ("an attic",)
    assert not set(OUTDOOR) & set(OTHER)
