"""Points to a picture, once for all: NumPy and Pillow only."""
