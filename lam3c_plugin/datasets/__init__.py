"""RoomTours scenes and the transforms that both engines need from the plugin."""

from lam3c_plugin.datasets.roomtours import RoomToursDataset
from lam3c_plugin.datasets.scene import read_scene
from lam3c_plugin.datasets.transforms import LAM3CTransforms
