import pytest

from ifaformer_commands import score


def test_checkpoints_must_be_named(monkeypatch):
    monkeypatch.setattr("sys.argv", ["score.py"])
    with pytest.raises(SystemExit, match="--checkpoints runs/demo"):
        score.main()
