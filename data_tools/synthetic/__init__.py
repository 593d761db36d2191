"""Furnished rooms, their noisy scans and their labels, made from a seed."""
