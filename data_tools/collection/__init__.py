"""The collect stage: manifests of videos, search, and polite downloads that survive anything.

``manifest`` reads lists of videos, ``search`` makes them, ``fetch`` and ``queue`` download them through yt-dlp.
Nothing of this package needs yt-dlp until a video is searched or downloaded.
"""
