import os

import pytest
import torch

from modeling_ifaformer import IFAformerForTokenClassification
from modeling_ifaformer.checkpoints.deepke import (
    convert_deepke_checkpoint,
    load_deepke_weights,
    read_deepke_checkpoint,
    rename_deepke_keys,
)


STATE = {
    "model.encoder.text_layer.0.attention.self.query.weight": torch.ones(2, 2),
    "model.vision_embeddings.class_embedding": torch.ones(2),
    "model.text_embeddings.position_ids": torch.arange(4)[None],
    "fc.bias": torch.ones(3),
}


class Malicious:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_names():
    assert set(rename_deepke_keys(STATE)) == {
        "ifaformer.text_model.encoder.layer.0.attention.self.query.weight",
        "ifaformer.vision_model.embeddings.class_embedding",
        "classifier.bias",
    }


def test_unknown_keys_and_odd_buffers_are_refused():
    with pytest.raises(ValueError, match=r"no published IFA model has: bert\.pooler, x"):
        rename_deepke_keys({**STATE, "x": torch.ones(1), "bert.pooler": torch.ones(1)})
    with pytest.raises(ValueError, match="position_ids must count 0, 1, 2"):
        rename_deepke_keys({**STATE, "model.text_embeddings.position_ids": torch.tensor([[1, 2]])})


def test_every_key_is_accounted_for(make_config):
    model = IFAformerForTokenClassification(make_config(num_labels=3))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    load_deepke_weights(model, state)
    del state["crf.transitions"]
    state["classifier.bias"] = torch.ones(5)
    state["extra"] = torch.ones(1)
    with pytest.raises(ValueError) as error:
        load_deepke_weights(model, state)
    for part in (
        'Missing key(s) in state_dict: "crf.transitions"',
        'Unexpected key(s) in state_dict: "extra"',
        "size mismatch for classifier.bias",
        "Check that the task, the text model and the vision model are those",
    ):
        assert part in str(error.value)


def test_a_file_that_holds_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": Malicious()}, tmp_path / "best_model.pth")
    with pytest.raises(ValueError, match="was not loaded, because loading it would run code"):
        read_deepke_checkpoint(tmp_path / "best_model.pth")
    assert not (tmp_path / "executed").exists()


def test_a_tensor_that_is_larger_than_the_file(tmp_path):
    path = tmp_path / "best_model.pth"
    torch.save({"model.text_embeddings.position_ids": torch.zeros(1, dtype=torch.long).expand(10**10)}, path)
    with pytest.raises(ValueError, match="position_ids' claims to have 10000000000 numbers"):
        read_deepke_checkpoint(path)


def test_a_file_that_holds_no_state_dict(tmp_path):
    torch.save([torch.ones(1)], tmp_path / "best_model.pth")
    with pytest.raises(ValueError, match="must hold a dict from parameter names to tensors, got list"):
        read_deepke_checkpoint(tmp_path / "best_model.pth")
    torch.save({"fc.bias": [1.0]}, tmp_path / "best_model.pth")
    with pytest.raises(ValueError, match="to tensors, got str to list"):
        read_deepke_checkpoint(tmp_path / "best_model.pth")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"a text file", None])
def test_a_damaged_file(tmp_path, content):
    path = tmp_path / "best_model.pth"
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(ValueError, match=r"best_model.pth was not loaded, because it is .*; expected the state"):
        read_deepke_checkpoint(path)


def test_a_checkpoint_that_does_not_fit_is_told(checkpoint, tmp_path):
    torch.save({"fc.bias": torch.ones(3)}, tmp_path / "best_model.pth")
    models = {"text_model": checkpoint, "vision_model": checkpoint}
    with pytest.raises(ValueError, match="has no word embeddings"):
        convert_deepke_checkpoint(tmp_path / "best_model.pth", tmp_path / "out", **models)
    with pytest.raises(ValueError, match="needs the names of its relations"):
        convert_deepke_checkpoint(tmp_path / "best_model.pth", tmp_path / "out", "re", **models)
    assert not (tmp_path / "out").exists()
