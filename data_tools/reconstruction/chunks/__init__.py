"""Tours longer than a backend takes: chunks with overlap, joined, closed in loops, fused to one prediction."""
