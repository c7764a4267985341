"""What of a model's folder is pushed, and its card."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from hub_card.model_card import save_model_card
from hub_card.model_facts import ModelFacts
from hub_card.sharing import NotPushed, model_files, push_model
from hub_card.sharing.model_folder import STALE_MODEL_FILES
from modeling_ifaformer import IFAformerConfig, IFAformerForTokenClassification


def test_what_a_user_of_the_model_needs(model):
    whole = {path.name: path for path in model.iterdir()}
    (model / "checkpoint-9").mkdir()
    for name in ("training_args.bin", "optimizer.pt", "results.json", "own.py", "own.png", "model.bin"):
        (model / name).write_bytes(b"")
    assert model_files(model) == whole
    for name in ("README.md", "vocab.txt", "pictures/a.png", "b.svg"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("", encoding="utf-8")
        whole[name] = model / name
    shown = '![](own.png)\n![a](pictures/a.png "A") <img width="9" src="b.svg"> ![c](https://c.png) [own](own.py)'
    (model / "README.md").write_text(shown, encoding="utf-8")
    assert model_files(model) == whole | {"own.png": model / "own.png"}


@pytest.mark.parametrize("name", ["config.json", "own.png", "modeling_ifaformer.py"])
def test_a_link_out_of_the_folder_is_not_shared(hub, model, tmp_path, name):
    (model / "README.md").write_text("![](own.png)")
    (model / "own.png").write_bytes(b"PNG")
    (model / name).rename(tmp_path / "elsewhere")
    (model / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotPushed, match=rf"{name} is a link that leads out of .*\nNothing was published"):
        push_model(model, "me/tagger")
    assert not hub.created
    (tmp_path / "elsewhere").rename(model / "inside")
    (model / name).unlink()
    (model / name).symlink_to("inside")
    push_model(model, "me/tagger")
    assert hub.added[name] == (model / "inside").read_bytes()


def test_shards(model, make_config):
    (model / "model.safetensors").unlink()
    IFAformerForTokenClassification(make_config(num_labels=9)).save_pretrained(model, max_shard_size="60KB")
    (model / "model-00001-of-00009.safetensors").write_bytes(b"of an earlier save")
    weights = [name for name in model_files(model) if name.startswith("model") and not name.endswith(".py")]
    shards = len(weights) - 1
    assert weights == [
        *(f"model-{number + 1:05}-of-{shards:05}.safetensors" for number in range(shards)),
        "model.safetensors.index.json",
    ]
    assert shards > 1
    (model / weights[1]).unlink()
    with pytest.raises(ValueError, match=re.escape(f"it lacks {weights[1]}.")):
        model_files(model)


def test_a_folder_that_lacks_something(model):
    """Each file that a save writes is asked for, the code that only other code imports among them."""
    for path in sorted(model.iterdir()):
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(ValueError, match=rf"mine is no complete model: it lacks [^:]*{re.escape(path.name)}"):
            model_files(model)
        path.write_bytes(content)


def test_the_code_of_a_pipeline_of_ones_own(model):
    config = json.loads((model / "config.json").read_bytes())
    config["custom_pipelines"] = {"tagging": {"impl": "tagging.Tagger"}, "theirs": {"impl": "you/x--theirs.Tagger"}}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match=r"it lacks tagging\.py\."):
        model_files(model)


def test_what_is_no_folder_of_a_model(model):
    with pytest.raises(
        ValueError, match=r"gone: expected the folder of a trained model, but there is no such folder\."
    ):
        model_files(model / "gone")
    config = json.loads((model / "config.json").read_bytes())
    for content, message in (
        ("{", "expected JSON"),
        ("[]", "expected a mapping, got list"),
        (json.dumps({**config, "auto_map": {}, "custom_pipelines": {}}), None),
    ):
        (model / "config.json").write_text(content, encoding="utf-8")
        if message is not None:
            with pytest.raises(ValueError, match=rf"config\.json: {message}"):
                model_files(model)
    processor = json.loads((model / "processor_config.json").read_bytes())
    (model / "processor_config.json").write_text(json.dumps({**processor, "auto_map": {}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"names no code \(auto_map\)"):
        model_files(model)


@pytest.mark.parametrize("link", ["gone.png", "../secret.png"])
def test_pictures_of_the_card_are_in_the_folder(model, link):
    (model.parent / "secret.png").write_bytes(b"")
    (model / "README.md").write_text(f"![]({link})", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"it lacks {re.escape(link)}\."):
        model_files(model)


def test_all_that_is_uploaded_and_ours_can_become_stale(model):
    code = {path.name for path in model.glob("*.py")}
    kept = {"README.md", "config.json", "processor_config.json", "tokenizer_config.json"}  # every push has these
    assert set(model_files(model)) - code - kept <= set(STALE_MODEL_FILES)
    assert not code & set(STALE_MODEL_FILES)
    for results in (".eval_results/named-entity-recognition.yaml", ".eval_results/relation-extraction.yaml"):
        assert results in STALE_MODEL_FILES


RESULTS = {
    "test": {"precision": 0.51, "recall": 0.52, "f1": 0.53, "support": 7},
    "best_checkpoint": "/home/secret/checkpoint-3",
    "arguments": {"data": {"dataset": "demo"}, "training": {"output_dir": "/home/secret"}},
    "log_history": [{"step": 3, "epoch": 1.0, "loss": 2.5}, {"step": 3, "epoch": 1.0, "eval_f1": 0.5}],
}


def trained(folder):
    """The same folder as train.py leaves it."""
    (folder / "results.json").write_text(json.dumps(RESULTS), encoding="utf-8")
    config = IFAformerConfig.from_pretrained(folder).to_dict()
    return save_model_card(ModelFacts(RESULTS, config), folder)


@pytest.fixture
def push(hub, model):
    """`push(**options)` -> what was pushed; the files are those of `hub.added`."""
    return lambda **options: push_model(model, "me/tagger", **options)


def test_the_card_of_a_trained_model(push, hub, model):
    readme = trained(model)
    before = {path: path.read_bytes() for path in model.iterdir()}
    given = {"license": "mit", "dataset_id": "me/tweets", "title": "Our tagger", "language": ["en", "de"]}
    pushed = push(**given, description="Found in our attic.")
    assert (pushed.url, pushed.has_own_card) == ("https://huggingface.co/me/tagger", False)
    card = hub.added["README.md"].decode()
    for part in ("# Our tagger\n\nFound in our attic.", "license: mit", "- me/tweets", "- en\n- de", "value: 0.53"):
        assert part in card
    assert 'model="me/tagger"' in card and "secret" not in card
    result = yaml.safe_load(hub.added[".eval_results/named-entity-recognition.yaml"])
    assert [(of["dataset"]["id"], of["value"]) for of in result] == [("me/tweets", 0.53)]
    assert hub.added["training_curve.png"] == (model / "training_curve.png").read_bytes()
    assert "results.json" not in hub.added and readme.read_bytes() != hub.added["README.md"]
    assert {path: path.read_bytes() for path in model.iterdir()} == before


def test_a_card_that_was_edited_is_pushed_as_it_is(push, hub, model):
    readme = trained(model)
    edited = readme.read_text(encoding="utf-8").replace("## Limits", "My own words.\n\n## Limits")
    readme.write_text(edited, encoding="utf-8")
    assert push().has_own_card and hub.added["README.md"].decode() == edited
    with pytest.raises(ValueError, match=r"pushed as it is, so that title, license would have no effect\. Write that"):
        push(license="mit", title="Mine")
    readme.unlink()
    assert not push(license="mit").has_own_card and b"license: mit" in hub.added["README.md"]


def test_the_card_of_a_model_without_a_record(push, hub, model):
    push(license="mit", num_parameters=1234)
    card = hub.added["README.md"].decode()
    assert "# tagger" in card and "license: mit" in card and "model-index" not in card
    assert "- parameters: 1,234" in card and "entity types: LOC, MISC, ORG, PER" in card
    (model / "README.md").write_text("# Mine", encoding="utf-8")
    assert push().has_own_card and hub.added["README.md"] == b"# Mine"


def test_the_space_of_a_model_is_linked(push, hub, model):
    push(space_id="me/tagger-demo")
    link = "Try it in the browser: [me/tagger-demo](https://huggingface.co/spaces/me/tagger-demo)."
    assert f"## Use\n\n{link}\n\n```python\n" in hub.added["README.md"].decode()
    with pytest.raises(ValueError, match=r"The Space is named as on the Hub, user/name, got 'https://a/b c'\."):
        push(space_id="https://a/b c")
    (model / "README.md").write_text("# Mine", encoding="utf-8")
    with pytest.raises(ValueError, match=r"so that space_id would have no effect\."):
        push(space_id="me/tagger-demo")


def test_what_an_endpoint_needs_lies_beside_the_model(push, hub, model, repository):
    serving = repository / "hub_card" / "serving"
    (model / "requirements.txt").write_text("of something else")
    push()
    ours = {"handler.py": "handler.py", "requirements.txt": "handler_requirements.txt"}
    assert {name: hub.added[name] for name in ours} == {name: (serving / of).read_bytes() for name, of in ours.items()}
    (model / "handler.py").write_bytes(b"theirs")
    push()
    assert (hub.added["handler.py"], hub.added["requirements.txt"]) == (b"theirs", b"of something else")
    (model / "requirements.txt").unlink()
    push()
    assert hub.added["handler.py"] == b"theirs" and "requirements.txt" not in hub.added


@pytest.mark.parametrize("content", ["{", '{"test": {"f1": 1}}', "[]"])
def test_a_record_that_is_none(push, model, content):
    (model / "results.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"results\.json: expected what train\.py records: .* Remove it"):
        push()


def test_a_card_of_relations_and_none_of_a_bare_model(hub, relation_checkpoint, tmp_path):
    folder = Path(shutil.copytree(relation_checkpoint, tmp_path / "model"))
    push_model(folder, "me/relations")
    assert b"does multimodal relation extraction" in hub.added["README.md"]
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["IFAformerModel"]}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"holds a bare model, which has no task .* Write .*README\.md"):
        push_model(folder, "me/relations")
    (folder / "README.md").write_text("# Relations", encoding="utf-8")
    assert push_model(folder, "me/relations").has_own_card and hub.added["README.md"] == b"# Relations"
