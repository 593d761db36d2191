"""LAM3C: scalable 3D pre-training from video-generated point clouds (arXiv 2512.23042), as a Pointcept plugin."""

__version__ = "0.1.0"
