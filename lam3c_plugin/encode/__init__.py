"""Features of point clouds: :func:`load` a checkpoint, :meth:`Encoder.encode` a cloud of any size."""

from .api import Encoded, Encoder, EncoderInfo, load
from .backbone import LAM3CBackbone

__all__ = ["Encoded", "Encoder", "EncoderInfo", "LAM3CBackbone", "load"]
