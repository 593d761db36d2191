"""What a download's message means: gone for good, worth another try, or stop and wait."""

from __future__ import annotations

import re
from dataclasses import dataclass

from data_tools.stages.record import DISK

PERMANENT = "permanent"
PASSING = "passing"
RATE_LIMITED = "rate_limited"
LOGIN = "login"
KINDS = (PERMANENT, PASSING, RATE_LIMITED, LOGIN, DISK)
REASON_LENGTH = 300
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

# The first pattern that is found decides, so what stops the queue stands before what looks like a dead video:
# YouTube's rate limit reads "Video unavailable. This content isn't available, try again later."
TABLE: tuple[tuple[str, str, str], ...] = (
    (RATE_LIMITED, "rate limit", r"rate.?limit|too many requests|http error 429"),
    (RATE_LIMITED, "rate limit", r"this content isn.t available,? try again"),
    (RATE_LIMITED, "bot check", r"not a (?:ro)?bot|captcha|unusual traffic|automated (?:queries|requests)"),
    (DISK, "disk full", r"no space left|errno 28|disk quota exceeded|errno 122"),
    (LOGIN, "age limit", r"confirm your age|age.?restricted|inappropriate for some users"),
    (LOGIN, "members only", r"members?.only|join this channel|available to this channel.s members"),
    (PERMANENT, "private", r"private video|video is private"),
    (PERMANENT, "geo-blocked", r"(?:not|isn.t|unavailable).{0,40}(?:in|from) your (?:country|location|region)"),
    (PERMANENT, "geo-blocked", r"geo.?restrict"),
    (PERMANENT, "paid", r"requires? payment|purchase|rental|pay to watch|premium members"),
    (PERMANENT, "drm", r"\bdrm\b"),
    (PERMANENT, "account closed", r"account.{0,60}(?:terminated|closed|suspended)"),
    (PERMANENT, "account closed", r"channel (?:was|has been) (?:removed|deleted)"),
    (PERMANENT, "copyright", r"copyright|trademark|counterfeit"),
    (PERMANENT, "removed", r"removed by|(?:has been|was) (?:removed|deleted)|violat|no longer available|taken down"),
    (PASSING, "not yet live", r"premieres? in|will begin in|live event will|is upcoming|offline\. come back|live now"),
    (PASSING, "temporary", r"currently unavailable|temporarily|please try again|try again later|being processed"),
    (PASSING, "temporary", r"processing this video"),
    # of one video, or of every video when yt-dlp is old or the session is suspected: the queue counts them
    (PASSING, "not available", r"(?:video|content) (?:is ?n.t|is not|not) available(?! any ?more)"),
    (PERMANENT, "unavailable", r"recording is not available|video (?:is )?unavailable|video does ?n.t exist"),
    (PERMANENT, "unavailable", r"video is(?:n.t| not) available|video does not exist|http error (?:404|410)"),
    (PERMANENT, "bad address", r"unsupported url|incomplete youtube id|looks truncated|not a valid url|invalid url"),
    (PASSING, "format", r"requested format is not available|only images are available|no video formats"),
    (PASSING, "refused", r"http error 40[13]\b|downloaded file is empty|did not get any data"),
    (PASSING, "server", r"http error 5\d\d|internal server error|bad gateway|service unavailable"),
    (PASSING, "network", r"timed? ?out|connection|name resolution|getaddrinfo|network is unreachable|no route to host"),
    (PASSING, "network", r"ssl|certificate|incomplete ?read|more expected|content too short|reset by peer"),
    (PASSING, "extractor", r"unable to extract|please report this issue|nsig|signature|player|update yt-dlp"),
    (PASSING, "extractor", r"failed to parse"),
)
COMPILED = tuple((kind, category, re.compile(pattern, re.IGNORECASE)) for kind, category, pattern in TABLE)


@dataclass(frozen=True)
class Failure:
    """What a message means.

    Attributes:
        kind: permanent (never asked again), passing (another try), rate_limited (stop the queue, wait, resume), login
            (asked again once the user names a cookie file), disk (stop the run).
        category: a few words to count by.
        reason: the message as one line.
    """

    kind: str
    category: str
    reason: str


def one_line(message: str) -> str:
    """A message without colours, line breaks and yt-dlp's "ERROR:"."""
    text = " ".join(ANSI.sub("", message).split())
    text = text.removeprefix("ERROR:").strip()
    return text[:REASON_LENGTH] or "no message"


def classify(message: str) -> Failure:
    """What an error message of yt-dlp or of a server means; what no rule knows is worth another try."""
    reason = one_line(message)
    searched = re.sub(r"https?://\S+", "", reason)  # an address may hold any word
    searched = re.sub(r"^\[[^\]]+\] \S+: ", "", searched)  # and so may "[youtube] <id>: "
    for kind, category, pattern in COMPILED:
        if pattern.search(searched):
            return Failure(kind, category, reason)
    return Failure(PASSING, "unknown", reason)
