"""Videos: probe, decode, choose frames."""
