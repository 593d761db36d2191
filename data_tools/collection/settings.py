"""Settings of a download, and the yt-dlp options they become."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from data_tools.stages.scene_folder import settings_hash

VERSION = 1
JS_RUNTIMES = ("deno", "node", "bun", "quickjs")
RETRY_WAIT_MAX = 60.0


@dataclass(frozen=True)
class CollectSettings:
    """How videos are downloaded.

    Attributes:
        max_height: best video stream of at most so many lines; a video of unknown height is taken.
        min_height: a video that has fewer lines at best is rejected; 0 takes all.
        max_duration: seconds; longer videos are rejected; 0 takes all.
        sort: yt-dlp's order among what is left: H.264 first, for AV1 is not decoded everywhere.
        proxy: address that all requests go through, as yt-dlp takes it; empty for the environment's.
        extractor_args: yt-dlp's ``KEY:ARG=VALUE[,VALUE][;ARG=...]``, each for an extractor.
        cookies: Netscape cookie file; never taken from a browser. yt-dlp writes renewed cookies back to it.
        sleep_interval: seconds (least, most) between downloads.
        sleep_requests: seconds between the requests of one video.
        retries: of a request, and of a fragment (yt-dlp's Python API has 0, its command line 10).
        timeout: seconds of a silent connection.
        bytes_per_second: limit of the rate; 0 for none.
        pause: seconds of the first wait after a rate limit or bot check; each further one doubles it.
        pause_max: seconds of the longest wait.
        pauses: waits without a video in between before the run ends; all that is left then waits for the next run.
        network_pause: seconds of the first wait for a dead network.
        network_failures: so many failures of the network in a row, or so many refusals (403, empty files), begin a
            wait.
        alike: so many equal answers in a row, of whatever kind, stop the run, and none of them counts; 0 for never.
        rounds: times the queue is gone through, for passing failures.
    """

    UNRECORDED: ClassVar[tuple[str, ...]] = ("proxy", "cookies")  # of one machine or person, not of the data set

    max_height: int = 720
    min_height: int = 480
    max_duration: float = 0.0
    sort: tuple[str, ...] = ("vcodec:h264", "res", "fps")
    proxy: str = ""
    extractor_args: tuple[str, ...] = ()
    cookies: Path | None = None
    sleep_interval: tuple[float, float] = (5.0, 10.0)
    sleep_requests: float = 0.75
    retries: int = 10
    timeout: float = 30.0
    bytes_per_second: float = 0.0
    pause: float = 900.0
    pause_max: float = 4 * 3600.0
    pauses: int = 8
    network_pause: float = 60.0
    network_failures: int = 3
    alike: int = 20
    rounds: int = 2

    def __post_init__(self) -> None:
        if self.max_height < 1 or not 0 <= self.min_height <= self.max_height:
            raise ValueError(f"heights {self.min_height} to {self.max_height}: give 0 <= min <= max, max at least 1")
        parse_extractor_args(self.extractor_args)
        if not 0 <= self.sleep_interval[0] <= self.sleep_interval[1]:
            raise ValueError(f"sleep interval {self.sleep_interval}: give 0 <= least <= most, in seconds")
        limits = ("max_duration", "sleep_requests", "retries", "bytes_per_second", "pause", "pauses", "network_pause")
        for name in (*limits, "alike"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} is negative")
        if min(self.rounds, self.network_failures) < 1 or self.timeout <= 0 or self.pause_max < self.pause:
            raise ValueError("rounds and network_failures start at 1, timeout above 0, pause_max at pause")
        if self.cookies is not None and not Path(self.cookies).is_file():
            raise ValueError(f"{self.cookies}: no such cookie file; export one in Netscape form, or leave it out")

    def digest(self) -> str:
        """Hash of the settings that choose what is downloaded; manners and cookies do not."""
        names = ("max_height", "min_height", "max_duration", "sort")
        return settings_hash({"version": VERSION, **{k: v for k, v in asdict(self).items() if k in names}})

    def format(self) -> str:
        """yt-dlp's format choice: video only, else a file with sound."""
        return f"bv*[height<=?{self.max_height}]/b[height<=?{self.max_height}]"


def parse_extractor_args(texts: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Extractor arguments as yt-dlp's Python API takes them: extractor -> argument -> values.

    Raises:
        ValueError: not ``KEY:ARG=VALUE[,VALUE][;ARG=...]``; one line.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for text in texts:
        key, _, rest = text.partition(":")
        for part in rest.split(";"):
            name, sign, values = part.partition("=")
            if not (key.strip() and name.strip() and sign):
                raise ValueError(f"extractor_args {text!r}: give KEY:ARG=VALUE[,VALUE], as youtube:player_client=web")
            names = found.setdefault(key.strip().lower(), {})
            names[name.strip().lower().replace("-", "_")] = [value.strip() for value in values.split(",")]
    return found


def retry_wait(n: int) -> float:
    """Seconds to wait after ``n`` + 1 failures of a request: 1, 2, 4 ... 60, and up to a quarter more.

    The argument's name is yt-dlp's, which passes it by name.
    """
    return min(2.0 ** min(n, 16), RETRY_WAIT_MAX) * random.uniform(1.0, 1.25)


def common_options(settings: CollectSettings, logger: Any) -> dict[str, Any]:
    """yt-dlp options that listing and downloading share. The Python API's defaults are not the command line's."""
    waits: dict[str, Callable[[int], float]] = dict.fromkeys(
        ("http", "fragment", "extractor", "file_access"), retry_wait
    )
    options: dict[str, Any] = {
        "quiet": True,
        "noprogress": True,
        "no_color": True,
        "logger": logger,
        "ignoreerrors": False,
        "socket_timeout": settings.timeout,
        "retries": settings.retries,
        "fragment_retries": settings.retries,
        "extractor_retries": min(settings.retries, 3),
        "file_access_retries": 3,
        "retry_sleep_functions": waits,
        "sleep_interval_requests": settings.sleep_requests,
        "js_runtimes": {name: {} for name in JS_RUNTIMES},
    }
    if settings.proxy:
        options["proxy"] = settings.proxy
    if settings.extractor_args:
        options["extractor_args"] = parse_extractor_args(settings.extractor_args)
    if settings.cookies is not None:
        options["cookiefile"] = str(settings.cookies)
    return options


def download_options(
    settings: CollectSettings, folder: Path, logger: Any, hook: Callable[[dict[str, Any]], None] | None
) -> dict[str, Any]:
    """yt-dlp options of one download into ``folder``.

    The file's name holds the format's id: a ``.part`` of another format is never continued with this one's bytes.
    """
    options = common_options(settings, logger)
    options |= {
        "format": settings.format(),
        "format_sort": list(settings.sort),
        "paths": {"home": str(folder)},
        "outtmpl": {"default": "video.%(format_id)s.%(ext)s"},
        "restrictfilenames": True,
        "trim_file_name": 100,
        "continuedl": True,
        "nopart": False,
        "updatetime": False,
        "noplaylist": True,
        "playlistend": 2,
        "skip_unavailable_fragments": False,
        "sleep_interval": settings.sleep_interval[0],
        "max_sleep_interval": settings.sleep_interval[1],
        "progress_hooks": [hook] if hook is not None else [],
    }
    if settings.bytes_per_second:
        options["ratelimit"] = settings.bytes_per_second
    return options
