import json
import re
import shutil
from importlib import import_module

import pytest

from modeling_ifaformer import IFAformerForRelationExtraction, IFAformerForTokenClassification
from processing.labels import label_maps


@pytest.fixture
def upload():
    return import_module("hub_card.sharing.upload")


@pytest.fixture(scope="module")
def saved(make_config, make_processor, tmp_path_factory):
    """A whole model, to be copied."""
    folder = tmp_path_factory.mktemp("saved")
    processor = make_processor()
    IFAformerForTokenClassification(make_config(**label_maps(processor.labels))).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def test_what_a_user_of_the_model_needs(upload, folder):
    whole = {path.name: path for path in folder.iterdir()}
    (folder / "checkpoint-9").mkdir()
    for name in ("training_args.bin", "optimizer.pt", "results.json", "own.py", "own.png", "model.bin"):
        (folder / name).write_bytes(b"")
    assert upload.model_files(folder) == whole
    for name in ("README.md", "vocab.txt", "pictures/a.png", "b.svg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("", encoding="utf-8")
        whole[name] = folder / name
    shown = '![](own.png)\n![a](pictures/a.png "A") <img width="9" src="b.svg"> ![c](https://c.png) [own](own.py)'
    (folder / "README.md").write_text(shown, encoding="utf-8")
    assert upload.model_files(folder) == whole | {"own.png": folder / "own.png"}


def test_shards(upload, folder, make_config):
    (folder / "model.safetensors").unlink()
    IFAformerForTokenClassification(make_config(num_labels=9)).save_pretrained(folder, max_shard_size="60KB")
    (folder / "model-00001-of-00009.safetensors").write_bytes(b"of an earlier save")
    weights = [name for name in upload.model_files(folder) if name.startswith("model")]
    shards = len(weights) - 2
    assert weights == [
        *(f"model-{number + 1:05}-of-{shards:05}.safetensors" for number in range(shards)),
        "model.safetensors.index.json",
        "modeling_ifaformer.py",
    ]
    assert shards > 1
    (folder / weights[1]).unlink()
    with pytest.raises(ValueError, match=re.escape(f"it lacks {weights[1]}.")):
        upload.model_files(folder)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer_config.json",
        "tokenizer.json",
        "modeling_ifaformer.py",
        "crf.py",  # which the model imports
        "pipeline_ifaformer.py",
        "words.py",  # which the pipeline imports
        "collator.py",
    ],
)
def test_a_folder_that_lacks_something(upload, folder, name):
    (folder / name).unlink()
    with pytest.raises(
        ValueError, match=rf"model is no complete model: it lacks [^:]*{re.escape(name)}.* save_pretrained"
    ):
        upload.model_files(folder)


def test_the_code_of_a_pipeline_of_ones_own(upload, folder):
    config = json.loads((folder / "config.json").read_bytes())
    config["custom_pipelines"] = {"tagging": {"impl": "tagging.Tagger"}, "theirs": {"impl": "you/x--theirs.Tagger"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match=r"it lacks tagging\.py\."):
        upload.model_files(folder)


def test_what_is_no_folder_of_a_model(upload, folder):
    with pytest.raises(ValueError, match=r"gone: expected the folder of a trained model, there is no such folder\."):
        upload.model_files(folder / "gone")
    config = json.loads((folder / "config.json").read_bytes())
    for content, message in (
        ("{", "expected JSON"),
        ("[]", "expected a mapping, got list"),
        (json.dumps({**config, "auto_map": {}, "custom_pipelines": {}}), None),
    ):
        (folder / "config.json").write_text(content, encoding="utf-8")
        if message is not None:
            with pytest.raises(ValueError, match=rf"config\.json: {message}"):
                upload.model_files(folder)
    processor = json.loads((folder / "processor_config.json").read_bytes())
    (folder / "processor_config.json").write_text(json.dumps({**processor, "auto_map": {}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"names no code \(auto_map\)"):
        upload.model_files(folder)


@pytest.mark.parametrize("link", ["gone.png", "../secret.png"])
def test_pictures_of_the_card_are_in_the_folder(upload, folder, link):
    (folder.parent / "secret.png").write_bytes(b"")
    (folder / "README.md").write_text(f"![]({link})", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"it lacks {re.escape(link)}\."):
        upload.model_files(folder)


def test_all_that_is_uploaded_and_ours_can_become_stale(upload, folder):
    code = {path.name for path in folder.glob("*.py")}
    kept = {"README.md", "config.json", "processor_config.json", "tokenizer_config.json"}  # every push has these
    assert set(upload.model_files(folder)) - code - kept <= set(upload.STALE_MODEL_FILES)
    assert not code & set(upload.STALE_MODEL_FILES)


def test_a_destination_is_checked_before_the_work(upload, monkeypatch):
    def check(repo_id="me/x"):
        upload.check_destination(repo_id, "python again.py")

    with pytest.raises(ValueError, match=r"(?s)Not pushed: HF_HUB_OFFLINE is set\n.*:\npython again\.py$"):
        check()
    monkeypatch.setattr(upload, "is_offline_mode", lambda: False)
    monkeypatch.setattr(upload, "get_token", lambda: None)
    with pytest.raises(ValueError, match=r"(?s)no token.*Nothing was published.*hf auth login.*:\npython again\.py$"):
        check()
    monkeypatch.setattr(upload, "get_token", lambda: "hf_x")
    check()
    for name in ("a/b/c", "me/bad--name", "", "me/x.git"):
        with pytest.raises(ValueError, match=rf"got '{re.escape(name)}': .*\nNothing was published"):
            check(name)


def test_relation_extraction_is_whole_too(upload, make_config, make_processor, tmp_path):
    processor = make_processor(relations=["None", "a", "b", "c"])
    head, _, tail, _ = processor.add_entity_markers()
    config = make_config(head_marker_token_id=head, tail_marker_token_id=tail, **label_maps(processor.labels))
    IFAformerForRelationExtraction(config).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert "modeling_ifaformer.py" in upload.model_files(tmp_path)
    model = import_module("modeling_ifaformer.checkpoints.trained").load_whole_model(tmp_path)
    assert type(model) is IFAformerForRelationExtraction
