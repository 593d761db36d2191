"""Features of point clouds: `load` a checkpoint, `Encoder.encode` a cloud of any size."""

from lam3c_plugin.encode.api import Encoded, Encoder, EncoderInfo, load
from lam3c_plugin.encode.backbone import LAM3CBackbone
