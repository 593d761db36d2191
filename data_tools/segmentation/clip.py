"""Zero-shot room labels by CLIP (open_clip): first indoor, outdoor or neither, then the type of room.

Every label has an ensemble of prompts (descriptions times templates, Radford et al. 2021, section 3.1.4); a frame's
similarity to a label is that to the normalised mean of the ensemble's embeddings. Probabilities are
``softmax(scale * similarity / temperature + log prior)``, ``scale`` being the one CLIP was trained with. With labelled
frames, ``fit_temperature`` gives the temperature under which the probabilities are as right as often as they claim.
"""

from __future__ import annotations

import pickle
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data_tools.segmentation.prompts import INDOOR, OTHER, OUTDOOR, expand, room_prompts
from data_tools.segmentation.settings import NO_ROOM, SegmentSettings
from data_tools.stages.gpu import use_gpu
from data_tools.stages.record import StageError

if TYPE_CHECKING:
    import torch

CURE = "give --clip-weights PATH (a file of {}), or go on without labels: --labels none"


def calibrated_softmax(logits: NDArray, temperature: float = 1.0, prior: NDArray | None = None) -> NDArray[np.float64]:
    """Rows of ``softmax(logits / temperature + log prior)``.

    Args:
        logits: (N, C).
        temperature: above 1 softens.
        prior: (C,) shares expected of the classes; None for equal ones.
    """
    values = np.asarray(logits, np.float64) / temperature
    if prior is not None:
        with np.errstate(divide="ignore"):  # a share of 0: never that class
            values = values + np.log(np.asarray(prior, np.float64))
    values = np.exp(values - values.max(1, keepdims=True))
    return values / values.sum(1, keepdims=True)


def fit_temperature(logits: NDArray, labels: NDArray, prior: NDArray | None = None) -> float:
    """The temperature of the least negative log-likelihood (Guo et al. 2017, "temperature scaling").

    Args:
        logits: (N, C) of frames.
        labels: (N,) right classes.
        prior: as in ``calibrated_softmax``.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        shares = calibrated_softmax(logits, float(np.exp(log_temperature)), prior)
        return -float(np.log(np.maximum(shares[rows, labels], 1e-12)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3.0, 5.0), method="bounded").x))


class ClipClassifier:
    """Frames to probabilities of "outdoor", "other" and the room types.

    Args:
        model: an open_clip model in eval mode.
        tokenize: texts to tokens.
        settings: rooms, temperature, priors, precision, device, batch.

    Attributes:
        names: ["outdoor", "other", *rooms].
    """

    def __init__(self, model: Any, tokenize: Any, settings: SegmentSettings) -> None:
        import torch

        self.settings = settings
        has_gpu = use_gpu(settings.device)
        self.device = torch.device(settings.device if settings.device != "auto" else "cuda" if has_gpu else "cpu")
        is_half = settings.precision == "fp16" or (settings.precision == "auto" and self.device.type == "cuda")
        self.dtype = torch.float16 if is_half else torch.float32
        self.model = model.to(self.device).eval()
        self.names = [*NO_ROOM, *settings.rooms]
        visual = model.visual
        size = getattr(visual, "image_size", 224)
        self.size = size if isinstance(size, int) else size[0]
        self.mean = getattr(visual, "image_mean", None) or (0.48145466, 0.4578275, 0.40821073)
        self.std = getattr(visual, "image_std", None) or (0.26862954, 0.26130258, 0.27577711)
        texts = [INDOOR, OUTDOOR, OTHER, *(room_prompts(room) for room in settings.rooms)]
        with torch.inference_mode():
            self.text = torch.stack([self._embed(tokenize(expand(text))) for text in texts])
            scale = getattr(model, "logit_scale", None)
            self.scale = float(scale.exp()) if scale is not None else 100.0
        model.visual.to(self.dtype)  # after the texts, which single precision costs nothing

    def _embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """The normalised mean (E,) of the texts' normalised embeddings."""
        import torch.nn.functional as F

        embeddings = F.normalize(self.model.encode_text(tokens.to(self.device)).float(), dim=-1)
        return F.normalize(embeddings.mean(0), dim=0)

    def prepare(self, images: list[NDArray[np.uint8]]) -> torch.Tensor:
        """(n, 3, size, size): shorter side scaled to the model's size, middle cut out, CLIP's normalisation."""
        import torch
        import torch.nn.functional as F

        rows = []
        for image in images:
            pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1)[None].float()
            height, width = pixels.shape[-2:]
            scale = self.size / min(height, width)
            shape = max(self.size, round(height * scale)), max(self.size, round(width * scale))
            if shape != (height, width):
                pixels = F.interpolate(pixels, shape, mode="bicubic", antialias=True).clamp(0, 255)
            top, left = (shape[0] - self.size) // 2, (shape[1] - self.size) // 2
            rows.append(pixels[..., top : top + self.size, left : left + self.size] / 255)
        mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return ((torch.cat(rows) - mean) / std).to(self.dtype)

    def logits(self, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(n, 3 + rooms) scaled similarities: indoor, outdoor, other, then the rooms; images are (H, W, 3) RGB."""
        return self._similarities(self.embed(images))

    def _similarities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.scale * embeddings @ self.text.cpu().numpy().T

    def embed(self, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(n, E) embeddings of length 1 of n RGB images (H, W, 3)."""
        import torch
        import torch.nn.functional as F

        rows = []
        with torch.inference_mode():
            for begin in range(0, len(images), self.settings.batch):
                pixels = self.prepare(images[begin : begin + self.settings.batch])
                rows.append(F.normalize(self.model.encode_image(pixels).float(), dim=-1).cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, self.text.shape[1]), np.float32)

    def classify(self, images: list[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(n, names) probabilities, the rooms sharing what indoor has, and (n, E) embeddings of n RGB images."""
        embeddings = self.embed(images)
        return self.probabilities(self._similarities(embeddings)), embeddings

    def probabilities(self, logits: NDArray) -> NDArray[np.float32]:
        """(n, names) from the rows of ``logits``."""
        chosen = self.settings
        prior = (1 - chosen.prior_outdoor - chosen.prior_other, chosen.prior_outdoor, chosen.prior_other)
        place = calibrated_softmax(logits[:, :3], chosen.temperature, np.array(prior))
        room = calibrated_softmax(logits[:, 3:], chosen.temperature)
        return np.concatenate([place[:, 1:], place[:, :1] * room], axis=1).astype(np.float32)


@lru_cache(maxsize=1)
def load_clip(settings: SegmentSettings) -> ClipClassifier:
    """CLIP with weights from a local file, or OpenAI's from the hub.

    Raises:
        StageError: open_clip is missing, no weights can be had, or the file does not fit; one line with the cure.
    """
    try:
        import open_clip
    except ImportError as error:
        cure = "pip install open-clip-torch, or go on without labels: --labels none"
        raise StageError(f"room labels need open_clip ({error}): {cure}", permanent=False) from error
    name = settings.clip_model
    if name not in open_clip.list_models():
        raise StageError(f"open_clip has no model {name!r}; ViT-B-32-quickgelu is the usual one", permanent=False)
    try:
        pretrained = None if settings.clip_weights else "openai"
        model = open_clip.create_model(name, pretrained=pretrained, precision="fp32", device="cpu")
        tokenize = open_clip.get_tokenizer(name)
    except (RuntimeError, OSError, ValueError) as error:
        text = f"no CLIP weights: {name} with OpenAI's cannot be fetched here; {CURE.format(name)}"
        raise StageError(text, permanent=False) from error
    if settings.clip_weights:
        _load_weights(model, Path(settings.clip_weights), name)
    return ClipClassifier(model, tokenize, settings)


def _load_weights(model: torch.nn.Module, path: Path, name: str) -> None:
    """A checkpoint of open_clip (.bin .pt .safetensors) or OpenAI's own archive (.pt)."""
    import torch
    from open_clip.factory import load_state_dict

    try:
        try:
            state = load_state_dict(str(path), weights_only=True)
        except RuntimeError:
            state = torch.jit.load(str(path), map_location="cpu").state_dict()
    except (RuntimeError, OSError, ValueError, EOFError, StopIteration, pickle.UnpicklingError) as error:
        raise StageError(f"{path}: no CLIP checkpoint; {CURE.format(name)}", permanent=False) from error
    skipped = {"input_resolution", "context_length", "vocab_size", "attn_mask"}
    state = {key: value for key, value in state.items() if key not in skipped}
    own = model.state_dict()
    wrong = [key for key in own if key not in skipped and (key not in state or state[key].shape != own[key].shape)]
    if wrong or set(state) - set(own):
        odd = (wrong or sorted(set(state) - set(own)))[0]
        raise StageError(f"{path}: not weights of {name} (first at {odd}); {CURE.format(name)}", permanent=False)
    model.load_state_dict(state, strict=False)
