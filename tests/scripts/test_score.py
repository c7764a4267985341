import pytest

from ifaformer_commands import score
from processing.scoring.entity_metrics import PROTOCOLS


def test_the_protocols_are_those_of_the_room():
    assert tuple(PROTOCOLS) == score.PROTOCOLS


def test_checkpoints_must_be_named(monkeypatch):
    monkeypatch.setattr("sys.argv", ["score.py"])
    with pytest.raises(SystemExit, match="--checkpoints runs/demo"):
        score.main()
