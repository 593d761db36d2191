"""The learning proof of `benchmarks/learning.py`: what is run, how, and what is made of the numbers."""
