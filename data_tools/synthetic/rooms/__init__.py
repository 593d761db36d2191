"""Labelled rooms and the noise of their reconstruction, made from a seed."""
