"""A linear probe during pre-training."""
