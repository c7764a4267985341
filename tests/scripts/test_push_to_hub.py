import json
import re
from importlib import import_module
from unittest.mock import Mock

import pytest
import torch
from datasets import load_dataset
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, RepoUrl
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from PIL import Image
from safetensors.torch import load_file, save_file

from hub_card.model_card import save_model_card
from hub_card.model_facts import ModelFacts
from modeling_ifaformer import IFAformerConfig, IFAformerForRelationExtraction, IFAformerForTokenClassification
from processing.data.loading import load_data
from processing.labels import label_maps


@pytest.fixture
def own_data(tmp_path):
    folder = tmp_path / "tweets"
    (folder / "photos").mkdir(parents=True)
    for name, colour in (("1.png", "red"), ("2.png", "green")):
        Image.new("RGB", (6, 4), colour).save(folder / "photos" / name)
    rows = [
        {"id": f"t{i}", "text": "Jordan met Paris", "spans": [{"start": 0, "end": 6, "label": "PER"}]}
        for i in range(5)
    ]
    rows[0] |= {"image": "photos/1.png", "aux_crops": ["photos/2.png", "photos/1.png"]}
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "test.jsonl").write_text(json.dumps(rows[1]), encoding="utf-8")
    return folder


def test_a_folder_that_loads_as_the_same_rows(run_script, own_data, tmp_path):
    shared = tmp_path / "shared"
    description = tmp_path / "about.md"
    description.write_text("Five tweets of our own.", encoding="utf-8")
    printed = run_script(
        "push_to_hub.py",
        *("--dataset", own_data, "--cache_dir", tmp_path / "cache", "--output_dir", shared, "--rows_per_shard", "2"),
        *("--license", "mit", "--language", "en", "--title", "Our tweets", "--description", description),
    ).stdout
    assert f"Written: {shared}" in printed
    assert sorted(path.name for path in (shared / "data").iterdir()) == [
        "test-00000-of-00001.parquet",
        *(f"train-0000{index}-of-00003.parquet" for index in range(3)),
    ]
    card = (shared / "README.md").read_text(encoding="utf-8")
    assert "# Our tweets\n\nFive tweets of our own." in card and "license: mit" in card and "| PER | 5 | 1 |" in card

    expected, _ = load_data(str(own_data), cache_dir=str(tmp_path / "cache"))
    for path in (own_data / "photos").iterdir():
        path.unlink()  # the pictures are inside
    loaded = load_dataset(str(shared), cache_dir=str(tmp_path / "cache2"))
    streamed = load_dataset(str(shared), streaming=True)
    for split, rows in loaded.items():
        assert rows.features["ner_tags"] == expected[split].features["ner_tags"]
        for row, other, wanted in zip(rows, streamed[split], expected[split], strict=True):
            assert row["tokens"] == other["tokens"] == wanted["tokens"]
            assert row["ner_tags"] == other["ner_tags"] == wanted["ner_tags"]
            assert len(row["aux_crops"]) == len(wanted["aux_crops"])
            assert (row["image"] is None) == (other["image"] is None) == (wanted["image"] is None)
    assert loaded["train"][0]["image"].getpixel((0, 0)) == (255, 0, 0)
    # and it trains: the same rows by the same command-line name
    again, _ = load_data(str(shared), cache_dir=str(tmp_path / "cache"))
    assert again["train"]["tokens"] == expected["train"]["tokens"]
    assert again["train"]["ner_tags"] == expected["train"]["ner_tags"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Name where to: --repo_id user/name, --output_dir FOLDER, or both."),
        (["--repo_id", "a/b/c"], "Not pushed: expected the name of a repository, user/name, got 'a/b/c': "),
        (
            ["--output_dir", "out", "--model", "m"],
            "Name what to share: --model FOLDER or --dataset NAME, one of them.",
        ),
        (
            ["--output_dir", "out", "--dataset_id", "me/x"],
            "--dataset_id: of a model, and what is shared is --dataset.",
        ),
        (["--repo_id", "me/tweets"], "HF_HUB_OFFLINE is set\nNothing was published. Unset it, then run it again:\n"),
        (["--output_dir", "out", "--rows_per_shard", "0"], "--rows_per_shard must be at least 1, got 0."),
        (["--output_dir", "out", "--description", "gone.md"], "--description gone.md: expected a Markdown file"),
    ],
)
def test_what_is_refused_before_anything_is_read(monkeypatch, own_data, tmp_path, options, message):
    script = import_module("ifaformer_commands.push_to_hub")
    monkeypatch.setattr(script.SharingArguments, "load", None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["push_to_hub.py", "--dataset", str(own_data), *options])
    with pytest.raises(SystemExit, match=re.escape(message)):
        script.main()
    assert not (tmp_path / "out").exists()


def test_an_earlier_folder_is_not_mixed_with_a_later_one(monkeypatch, own_data, tmp_path):
    (tmp_path / "shared" / "data").mkdir(parents=True)
    (tmp_path / "shared" / "data" / "train-00000-of-00009.parquet").write_bytes(b"")
    arguments = ["--dataset", str(own_data), "--output_dir", str(tmp_path / "shared")]
    monkeypatch.setattr("sys.argv", ["push_to_hub.py", *arguments])
    with pytest.raises(SystemExit, match="holds Parquet files already"):
        import_module("ifaformer_commands.push_to_hub").main()


FORMER = ["README.md", "LICENSE", "data/test-00000-of-00001.parquet", "data/train-00000-of-00009.parquet"]


@pytest.fixture
def push(monkeypatch, own_data, tmp_path):
    """Run the command in this process against a Hub that only notes what it is asked."""
    script, upload = import_module("ifaformer_commands.push_to_hub"), import_module("hub_card.sharing.upload")
    requests = {}

    def create_repo(self, repo_id, **kwargs):
        requests["create"] = {"repo_id": repo_id, **kwargs}
        return RepoUrl(f"https://huggingface.co/datasets/{repo_id}")

    def auth_check(self, repo_id, **kwargs):
        assert kwargs["write"]

    def create_commit(self, *, operations, **kwargs):
        requests["commit"] = {"operations": operations, **kwargs}

    monkeypatch.setattr(upload, "is_offline_mode", lambda: False)
    monkeypatch.setattr(upload, "get_token", lambda: "hf_token")
    monkeypatch.setattr(upload.HfApi, "auth_check", auth_check)
    monkeypatch.setattr(upload.DatasetCard, "validate", lambda self: None)
    monkeypatch.setattr(upload.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(upload.HfApi, "repo_info", lambda *args, **kwargs: Mock(private=True))
    monkeypatch.setattr(upload.HfApi, "list_repo_files", lambda *args, **kwargs: FORMER)
    monkeypatch.setattr(upload.HfApi, "preupload_lfs_files", lambda *args, **kwargs: None)
    monkeypatch.setattr(upload.HfApi, "create_commit", create_commit)
    arguments = ["--dataset", str(own_data), "--cache_dir", str(tmp_path / "cache"), "--repo_id", "me/tweets"]

    def run(*options):
        monkeypatch.setattr("sys.argv", ["push_to_hub.py", *arguments, *options])
        script.main()
        return requests

    run.script, run.upload = script, upload
    return run


def test_one_commit_holds_all_and_replaces_an_earlier_version(push, capsys):
    requests = push("--private", "true")
    assert requests["create"] == {
        "repo_id": "me/tweets",
        "repo_type": "dataset",
        "private": True,
        "exist_ok": True,
    }
    commit = requests["commit"]
    assert commit["repo_id"] == "me/tweets" and commit["repo_type"] == "dataset"
    added, deleted = (
        {operation.path_in_repo for operation in commit["operations"] if isinstance(operation, kind)}
        for kind in (CommitOperationAdd, CommitOperationDelete)
    )
    assert added == {"README.md", *(f"data/{split}-00000-of-00001.parquet" for split in ("train", "test"))}
    assert deleted == {"data/train-00000-of-00009.parquet"}
    assert "Pushed: https://huggingface.co/datasets/me/tweets" in capsys.readouterr().out


AGAIN = r"python push_to_hub\.py --dataset \S+/tweets --cache_dir \S+ --repo_id me/tweets"


def server_error(status):
    return HfHubHTTPError(f"{status} from the Hub", response=Mock(headers={}, status_code=status))


@pytest.mark.parametrize("step", ["create_repo", "create_commit"])
def test_a_refused_push_says_what_to_do(push, monkeypatch, step):
    def refuse(*args, **kwargs):
        raise server_error(403)

    monkeypatch.setattr(push.upload.HfApi, step, refuse)
    message = rf"(?s)Not pushed: 403 .*Nothing was published\. .*hf auth login.*may write to me/tweets.*:\n{AGAIN}$"
    with pytest.raises(SystemExit, match=message):
        push()


def test_no_token(push, monkeypatch):
    monkeypatch.setattr(push.upload, "get_token", lambda: None)
    monkeypatch.setattr(push.script.SharingArguments, "load", None)
    message = rf"(?s)Not pushed: there is no token, .*401.*\nNothing was published\. .*hf auth login.*:\n{AGAIN}$"
    with pytest.raises(SystemExit, match=message):
        push()


@pytest.mark.parametrize(
    "error",
    [
        OfflineModeIsEnabled("no network"),
        TimeoutError("no network"),
        HfHubHTTPError.__bases__[0]("no network"),
        RuntimeError("no network"),  # as the client has it of an upload
    ],
)
def test_a_network_that_fails(push, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(push.upload.HfApi, "create_repo", fail)
        with pytest.raises(SystemExit, match=rf"(?s)Not pushed: no network\nNothing was published\. .*:\n{AGAIN}$"):
            push()
    monkeypatch.setattr(push.upload.HfApi, "create_commit", fail)
    with pytest.raises(SystemExit, match=rf"(?s)Not pushed, .*no network\n.*me/tweets has all of it or .*:\n{AGAIN}$"):
        push()


def test_an_error_of_the_hub_while_it_commits(push, monkeypatch):
    def fail(*args, **kwargs):
        raise server_error(504)

    monkeypatch.setattr(push.upload.HfApi, "create_commit", fail)
    with pytest.raises(SystemExit, match=rf"(?s)Not pushed, or not known to be: 504 .*:\n{AGAIN}$"):
        push()


@pytest.mark.parametrize("stage", ["write_shard", "push_folder"])
def test_a_failed_run_can_be_repeated(push, monkeypatch, tmp_path, stage):
    folder = tmp_path / "my shared"
    options = ("--output_dir", str(folder), "--rows_per_shard", "2")
    original = getattr(push.script, stage)
    calls = []

    def fail(*args):
        calls.append(args)
        if stage == "push_folder" or len(calls) == 3:
            raise SystemExit("no network") if stage == "push_folder" else OSError("No space left")
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(push.script, stage, fail)
        with pytest.raises(SystemExit) as error:
            push(*options)
    if stage == "write_shard":
        assert f"Not written to {folder}: No space left" in str(error.value)
        assert str(error.value).endswith(f" --repo_id me/tweets --output_dir '{folder}' --rows_per_shard 2")
    assert list(folder.glob("data/*.parquet"))
    with pytest.raises(SystemExit, match="holds Parquet files already"):
        push(*options, "--dataset", "demo")
    push(*options, "--rows_per_shard", "5")
    assert sorted(path.name for path in folder.glob("data/*")) == [
        "test-00000-of-00001.parquet",
        "train-00000-of-00001.parquet",
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "data"]
    with pytest.raises(SystemExit, match="holds Parquet files already"):
        push(*options)


def test_the_card_names_no_folder_of_this_machine(push, own_data, tmp_path):
    row = {"text": "#GoLakers now", "spans": [{"start": 3, "end": 9, "label": "ORG"}]}
    (own_data / "train.jsonl").write_text("\n".join([json.dumps(row)] * 25), encoding="utf-8")
    push("--output_dir", str(tmp_path / "shared"))
    card = (tmp_path / "shared" / "README.md").read_text(encoding="utf-8")
    assert "and 5 more\n" in card and str(tmp_path) not in card


RESULTS = {
    "test": {"precision": 0.51, "recall": 0.52, "f1": 0.53, "support": 7},
    "best_checkpoint": "/home/secret/checkpoint-3",
    "arguments": {"data": {"dataset": "demo"}, "training": {"output_dir": "/home/secret"}},
    "log_history": [{"step": 3, "epoch": 1.0, "loss": 2.5}, {"step": 3, "epoch": 1.0, "eval_f1": 0.5}],
}


@pytest.fixture
def model(make_config, make_processor, tmp_path):
    """A folder of a model as save_pretrained leaves it."""
    folder = tmp_path / "runs" / "mine"
    processor = make_processor()
    IFAformerForTokenClassification(make_config(**label_maps(processor.labels))).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def push_model(push, monkeypatch, model):
    """Run the command on that folder; what is published, by path."""
    published = {}

    def upload(files, repo_id, repo_type, **kwargs):
        published.update({name: path.read_bytes() for name, path in files.items()})
        return "there"

    monkeypatch.setattr(push.script, "upload", upload)

    def run(*options):
        monkeypatch.setattr("sys.argv", ["push_to_hub.py", "--model", str(model), "--repo_id", "me/tagger", *options])
        published.clear()
        push.script.main()
        return published

    return run


def trained(folder):
    """The same folder as train.py leaves it."""
    (folder / "results.json").write_text(json.dumps(RESULTS), encoding="utf-8")
    config = IFAformerConfig.from_pretrained(folder).to_dict()
    return save_model_card(ModelFacts.from_run(RESULTS, config), folder)


def test_the_card_of_a_trained_model(push_model, model, tmp_path, capsys):
    readme = trained(model)
    before = {path: path.read_bytes() for path in model.iterdir()}
    (tmp_path / "about.md").write_text("Found in our attic.", encoding="utf-8")
    given = ("--license", "mit", "--dataset_id", "me/tweets", "--title", "Our tagger", "--language", "en", "de")
    published = push_model(*given, "--description", str(tmp_path / "about.md"))
    card = published["README.md"].decode()
    for part in ("# Our tagger\n\nFound in our attic.", "license: mit", "- me/tweets", "- en\n- de", "value: 0.53"):
        assert part in card
    assert 'model="me/tagger"' in card and "secret" not in card
    assert published["training_curve.png"] == (model / "training_curve.png").read_bytes()
    assert "results.json" not in published and readme.read_bytes() != published["README.md"]
    assert {path: path.read_bytes() for path in model.iterdir()} == before
    assert capsys.readouterr().out == "Pushed: there\n"


def test_a_card_that_was_edited_is_pushed_as_it_is(push_model, model, capsys):
    readme = trained(model)
    edited = readme.read_text(encoding="utf-8").replace("## Limits", "My own words.\n\n## Limits")
    readme.write_text(edited, encoding="utf-8")
    assert push_model()["README.md"].decode() == edited
    assert f"{readme} is its author's own: pushed as it is.\nPushed: " in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"pushed as it is, without --title, --license: write that into it"):
        push_model("--license", "mit", "--title", "Mine")
    readme.unlink()
    assert "license: mit" in push_model("--license", "mit")["README.md"].decode()


def test_the_card_of_a_model_without_a_record(push_model, model):
    card = push_model("--license", "mit")["README.md"].decode()
    assert "# tagger" in card and "license: mit" in card and "model-index" not in card
    assert "- parameters: " in card and "entity types: LOC, MISC, ORG, PER" in card
    (model / "README.md").write_text("# Mine", encoding="utf-8")
    assert push_model()["README.md"] == b"# Mine"


def test_a_record_that_is_none(push_model, model):
    for content in ("{", '{"test": {"f1": 1}}', "[]"):
        (model / "results.json").write_text(content, encoding="utf-8")
        with pytest.raises(SystemExit, match=r"results\.json: expected what train\.py records: .* Remove it"):
            push_model()


def test_what_does_not_load_is_not_published(push_model, model):
    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    tensors = load_file(weights)
    for change, message in (
        (lambda: weights.write_bytes(whole[:-9]), "the model does not load: "),
        (lambda: save_file({**tensors, "extra": torch.ones(1)}, weights, {"format": "pt"}), "'unexpected_keys': "),
        (lambda: tensors.pop("crf.transitions") is None or save_file(tensors, weights, {"format": "pt"}), "missing"),
    ):
        change()
        with pytest.raises(SystemExit, match=message):
            push_model()
    weights.write_bytes(whole)
    assert push_model()["model.safetensors"] == whole
    processor = json.loads((model / "processor_config.json").read_bytes())
    (model / "processor_config.json").write_text(json.dumps({**processor, "num_aux_crops": 1}), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"does not load: Processor and model configuration differ: num_aux_crops"):
        push_model()


def test_a_tokenizer_that_is_too_large(push_model, model, make_processor):
    processor = make_processor()
    processor.tokenizer.add_tokens([f"new{number}" for number in range(50)])
    processor.tokenizer.save_pretrained(model)
    with pytest.raises(SystemExit, match=r"the tokenizer has \d+ entries, the model embeds 99"):
        push_model()


def test_a_card_of_relations_and_none_of_a_bare_model(push_model, model, make_config, make_processor):
    processor = make_processor(relations=["None", "peer"])
    head, _, tail, _ = processor.add_entity_markers()
    markers = {"head_marker_token_id": head, "tail_marker_token_id": tail}
    config = make_config(**markers, vocab_size=len(processor.tokenizer), **label_maps(processor.labels))
    relations = IFAformerForRelationExtraction(config)
    relations.save_pretrained(model)
    processor.save_pretrained(model)
    assert b"Multimodal relation extraction" in push_model()["README.md"]
    relations.ifaformer.save_pretrained(model)
    with pytest.raises(SystemExit, match=r"a bare model has no task that a card could tell of: write .*README\.md"):
        push_model()
    (model / "README.md").write_text("# Relations", encoding="utf-8")
    assert push_model()["README.md"] == b"# Relations"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output_dir", "out"], "--output_dir: of a data set, and what is shared is --model."),
        (["--strict", "true", "--data_dir", "d"], "--data_dir, --strict: of a data set"),
        (["--dataset", "demo"], "Name what to share: --model FOLDER or --dataset NAME, one of them."),
        (["--model", "gone"], "gone: expected the folder of a trained model"),
        (["--description", "gone.md"], "--description gone.md: expected a Markdown file"),
    ],
)
def test_what_is_refused_of_a_model(push_model, options, message):
    with pytest.raises(SystemExit, match=re.escape(message)):
        push_model(*options)
