"""Which found videos are no walk-through of a real home: by their length, their words, their channel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

# A blank in a word stands for nothing, blanks or any of - _ . / between; a plural s is allowed.
_WORDS = {
    "computer graphics": """
        cg, cgi, 3d render, 3d rendering, 3d rendered, rendering, renders, render video, v ray, 3d animation,
        animation, animated, 3d model, 3d visualization, 3d visualisation, architectural visualization, architectural
        visualisation, archviz, 3ds max, virtual reality, lumion, enscape, d5 render, twinmotion, unreal engine, ue4,
        ue5, sketch up, blender 3d, revit, autocad, floor plan design, design concept, minecraft, roblox, bloxburg,
        sims 4, the sims, gta 5, gta v, gameplay, speed build, renderizado, animación, rendu 3d,
        CGパース, レンダリング, 渲染, 렌더링""",
    "drone": """
        drone, aerial, fpv, fly through, fly over, fly by, bird eye, bird s eye, quadcopter, dron, drohne, drohnenflug,
        dronevideo, dji mavic, dji mini, ドローン, 空撮, 航拍, 드론""",
    "shorts": "shorts, #short, ytshort, youtube short, tiktok, reels, ショート動画",
    "pictures": "slide show, photo tour, photos only, virtual staging, virtually staged, time lapse",
    "360": "3d tour, 3d rundgang, 360 video, 360 vr, vr 360, 360°, 360 degree, matterport, virtual tour 360, vr tour",
}
WORDS: dict[str, tuple[str, ...]] = {
    reason: tuple(word.strip() for word in text.split(",")) for reason, text in _WORDS.items()
}
LIVE_STATES = ("is_live", "is_upcoming", "was_live", "post_live")
GAP = r"[\W_]*"


def word_pattern(words: Iterable[str]) -> re.Pattern[str]:
    """One pattern of all words, bounded by what is no letter or digit; Chinese, Japanese, Korean ones anywhere."""
    parts = []
    for word in sorted(set(words), key=len, reverse=True):
        pieces = GAP.join(re.escape(piece) for piece in word.split())
        if re.search(r"[a-zA-Z0-9]", word) and not re.search(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]", word):
            parts.append(rf"(?<![^\W_]){pieces}s?(?![^\W_])")
        else:
            parts.append(pieces)
    return re.compile("|".join(parts) or r"(?!)", re.IGNORECASE)


def read_words(path: Path) -> dict[str, tuple[str, ...]]:
    """Words of a text file: ``reason: word, word`` a line; they replace the words of that reason.

    Raises:
        ValueError: a line without a colon; names file and line.
    """
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        reason, colon, words = line.partition(":")
        if not colon:
            raise ValueError(f"{path}:{number}: write `reason: word, word`; no colon in {line.strip()[:40]!r}")
        found[reason.strip()] = tuple(word.strip() for word in words.split(",") if word.strip())
    return found


@dataclass(frozen=True)
class Filter:
    """What is wanted.

    Attributes:
        min_duration: seconds; a video of unknown length passes.
        max_duration: seconds, likewise.
        words: reason -> words of titles; see ``WORDS``.
    """

    min_duration: float = 90.0
    max_duration: float = 3600.0
    words: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: WORDS)

    def __post_init__(self) -> None:
        if not 0 <= self.min_duration < self.max_duration:
            raise ValueError(f"durations {self.min_duration:.0f} to {self.max_duration:.0f} s: give 0 <= min < max")

    @cached_property
    def patterns(self) -> dict[str, re.Pattern[str]]:
        """A pattern a reason."""
        return {reason: word_pattern(words) for reason, words in self.words.items() if words}

    def reason(self, entry: Mapping[str, Any]) -> str:
        """Why a listed video is not wanted, or "".

        Args:
            entry: yt-dlp's: title, duration (s), live_status, url, as far as known.
        """
        if entry.get("live_status") in LIVE_STATES:
            return f"live: {entry['live_status']}"
        if "/shorts/" in str(entry.get("url") or ""):
            return "shorts: address"
        duration = entry.get("duration")
        if duration is not None and not self.min_duration <= float(duration) <= self.max_duration:
            return f"duration: {float(duration):.0f} s"
        for reason, pattern in self.patterns.items():
            if match := pattern.search(str(entry.get("title") or "")):
                return f"{reason}: {match.group().lower()!r}"
        return ""
