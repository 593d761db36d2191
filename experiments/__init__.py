"""Experiments with a protocol, runs and a page each."""
