"""Settings of the segment stage."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from data_tools.packaging.clouds import fingerprint
from data_tools.stages.scene_folder import settings_hash

VERSION = 3  # part of the settings hash: raise it when the same video gives other scenes
DEFAULT_ROOMS = (
    "living room",
    "bedroom",
    "bathroom",
    "kitchen",
    "dining room",
    "hallway",
    "home office",
    "laundry room",
    "walk-in closet",
    "staircase",
    "basement",
    "garage",
)
RULES = ("shots", "joined")
NO_ROOM = ("outdoor", "other")  # every other label is a room
UNTOUCHED = ("device", "batch", "copies")  # settings that do not touch the result
LOOKS = "looks.npy"  # (scenes, LOOKS_A_SCENE, E) half precision: embeddings of frames spread over each scene
LOOKS_A_SCENE = 16


@dataclass(frozen=True)
class SegmentSettings:
    """What decides a video's scenes, with the video. Times in seconds.

    Attributes:
        labels: "clip" (zero-shot), "none" (shot cuts only), or the path of a CSV with rows ``time,label``, or of a
            folder with ``<video_id>.csv``.
        rule: with labels, "shots" (a hidden Markov model in every shot; short ones of a room are joined), or "joined"
            (as the release: every frame is labelled, and all indoor frames are joined before rooms are told apart).
        rooms: room types to tell apart; the paper's are living room, bedroom, bathroom.
        rate: frames a second that are labelled (by "joined": that rooms are told apart in).
        smoothing: temporal smoothing of the labels' probabilities.
        min_indoor: indoor runs shorter than this are dropped.
        min_room: rooms shorter than this join a neighbour of the same shot.
        max_length: longer scenes are split evenly; 0 for no limit.
        margin: kept away from frames that show no room.
        cut_margin: kept away from shot cuts and fades.
        cut_threshold: least difference of the pictures around a cut, 0..1.
        clip_model: open_clip's name of the model.
        clip_weights: local file of its weights; empty for OpenAI's from the hub.
        temperature: divides CLIP's logits; above 1 softens the probabilities.
        prior_outdoor: share of room-tour frames expected to show outdoors.
        prior_other: share expected to show no place at all.
        precision: "auto" (half on a GPU, else single), "fp16", "fp32".
        device: "auto", "cpu", "cuda", "cuda:1" …
        batch: frames through CLIP at a time.
        copies: with CLIP, the chain makes no scene whose frames are as alike as this (cosine of the embeddings, 0..1)
            to those of one that it has (`data_tools.chain.copies`); 0 makes all.
    """

    labels: str = "clip"
    rule: str = "shots"
    rooms: tuple[str, ...] = DEFAULT_ROOMS
    rate: float = 3.0
    smoothing: float = 0.5
    min_indoor: float = 10.0
    min_room: float = 10.0
    max_length: float = 120.0
    margin: float = 1.0
    cut_margin: float = 0.1
    cut_threshold: float = 0.25
    clip_model: str = "ViT-B-32-quickgelu"
    clip_weights: str = ""
    temperature: float = 1.0
    prior_outdoor: float = 0.15
    prior_other: float = 0.05
    precision: str = "auto"
    device: str = "auto"
    batch: int = 64
    copies: float = 0.92

    def __post_init__(self) -> None:
        """Refuse what would fail later.

        Raises:
            ValueError: a number out of range, an unknown name; one line.
        """
        object.__setattr__(self, "rooms", tuple(self.rooms))
        if self.labels not in ("clip", "none") and not Path(self.labels).exists():
            raise ValueError(f"labels {self.labels!r}: give clip, none, or a CSV file or folder that is there")
        if self.rule not in RULES:
            raise ValueError(f"rule {self.rule!r}: choose from {', '.join(RULES)}")
        if not 0.1 <= self.rate <= 60:
            raise ValueError(f"rate {self.rate}: give 0.1 to 60 frames a second (2 to 5 are usual)")
        for name in ("smoothing", "min_indoor", "min_room", "max_length", "margin", "cut_margin"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} {getattr(self, name)}: give seconds, 0 or more")
        if 0 < self.max_length < 2 * max(self.min_room, self.min_indoor):
            raise ValueError(f"max_length {self.max_length}: give twice the shortest scene or more, or 0 for no limit")
        if not 0 < self.cut_threshold < 1:
            raise ValueError(f"cut_threshold {self.cut_threshold}: give a number between 0 and 1")
        if not self.temperature > 0 or self.batch < 1:
            raise ValueError(f"temperature {self.temperature}, batch {self.batch}: both must be above 0")
        if not 0 <= self.copies <= 1:
            raise ValueError(f"copies {self.copies}: give a cosine between 0 and 1, or 0 to make all scenes")
        priors = (self.prior_outdoor, self.prior_other)
        if min(priors) < 0 or sum(priors) >= 1:
            raise ValueError(f"priors {priors}: give shares, 0 or more, that leave some to rooms")
        if not self.rooms or len(set(self.rooms)) < len(self.rooms) or set(self.rooms) & set(NO_ROOM):
            raise ValueError(f"rooms {self.rooms}: give different names, none of {', '.join(NO_ROOM)}")
        if self.precision not in ("auto", "fp16", "fp32"):
            raise ValueError(f"precision {self.precision!r}: choose from auto, fp16, fp32")
        if self.clip_weights and not Path(self.clip_weights).is_file():
            raise ValueError(f"clip weights {self.clip_weights}: no such file")

    @property
    def kind(self) -> str:
        """Where labels come from: "clip", "none", "file"."""
        return self.labels if self.labels in ("clip", "none") else "file"

    @property
    def is_joined(self) -> bool:
        """Whether all indoor frames of a video are joined; without labels there is nothing to join by."""
        return self.rule == "joined" and self.kind != "none"

    def digest(self) -> str:
        """Hash of all that touches the scenes; files by their content, not by their path."""
        values = {name: value for name, value in asdict(self).items() if name not in UNTOUCHED}
        values["labels"] = self.kind  # a label file counts as input of its video
        if self.kind != "clip":
            touched_by_clip = ("clip_model", "clip_weights", "temperature", "prior_outdoor", "prior_other", "precision")
            values = {name: value for name, value in values.items() if name not in touched_by_clip}
        elif self.clip_weights:
            values["clip_weights"] = fingerprint(Path(self.clip_weights))
        return settings_hash({"version": VERSION, **values})
