import numpy as np
import torch

from lam3c_plugin import labels
from lam3c_plugin.analysis import classes
from lam3c_plugin.analysis.heads import Head, classify


def test_classes_and_probabilities_are_those_of_a_linear_layer():
    rng = np.random.default_rng(1)
    head = Head(rng.normal(size=(5, 8)).astype(np.float32), rng.normal(size=5).astype(np.float32), "")
    feat = rng.normal(size=(70, 8)).astype(np.float32)
    share = torch.softmax(torch.from_numpy(feat @ head.weight.T + head.bias), 1)
    label, found = classify(feat, head)
    assert (label == share.argmax(1).numpy()).all()
    assert np.allclose(found, share.amax(1), atol=1e-6)


def test_palettes():
    assert tuple(classes.palette(labels.SCANNET_20)[0]) == (174, 199, 232)
    for names in (labels.SYNTHETIC_24, labels.S3DIS_13, labels.SCANNETPP_100, labels.SCANNET_200, ["wall", "wall"]):
        assert len(np.unique(classes.palette(names), axis=0)) == len(names)
    # by the name, whatever the list; near colours made a legend of rooms unreadable
    found = dict(zip(labels.SYNTHETIC_24, classes.palette(labels.SYNTHETIC_24).astype(int), strict=True))
    assert tuple(found["fridge"]) == (255, 127, 14)
    distance = [np.linalg.norm(found[a] - found[b]) for a in found for b in found if a < b]
    assert min(distance) > 35
    color = classes.label_colors(np.array([0, -1, 99, 19]), labels.SCANNET_20)
    assert (color[1] == classes.UNLABELLED).all()
    assert (color[2] == classes.UNLABELLED).all()
