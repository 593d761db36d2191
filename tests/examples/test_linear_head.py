import sys

from examples import linear_head


def test_it_trains_and_scores_a_room(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["linear_head.py", "--rooms", "1", "--points", "1500", "--steps", "20"])
    linear_head.main()
    assert "mIoU/mAcc/allAcc 0." in capsys.readouterr().out
