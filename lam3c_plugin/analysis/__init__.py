"""What one does with features: PCA, similarity, heads, probes. Arrays in, arrays out."""
