"""Parts of the segment stage: the decoding pass, shot cuts, room labels, scenes, the timeline picture."""
