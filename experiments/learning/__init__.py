"""The learning proof of `experiments/learning/run.py`: what is run, how, and what is made of the numbers."""
