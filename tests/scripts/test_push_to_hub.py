"""The command's options, what it prints, and how its errors end it."""

import json
import re

import pytest
import yaml

from hub_card.sharing import upload
from ifaformer_commands.push_to_hub import main


@pytest.fixture
def push(monkeypatch, tmp_path, capsys):
    """`push(option, ...)` runs the command in an empty folder, with the Hub out of reach; what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*options):
        monkeypatch.setattr("sys.argv", ["push_to_hub.py", *map(str, options)])
        main()
        return capsys.readouterr().out

    return run


@pytest.fixture
def tweets(tmp_path):
    row = {"text": "#Lakers now", "spans": [{"start": 1, "end": 7, "label": "ORG"}]}
    path = tmp_path / "tweets.jsonl"
    path.write_text("\n".join([json.dumps(row)] * 25), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Name what to share: --model FOLDER or --dataset NAME, one of them."),
        (["--dataset", "d", "--model", "m"], "Name what to share: --model FOLDER or --dataset NAME, one of them."),
        (["--dataset", "d"], "Name where to: --repo_id user/name, or for a data set or a Space --output_dir FOLDER."),
        (["--dataset", "d", "--output_dir", "out", "--private", "true"], "--private works only with --repo_id"),
        (["--model", "m", "--output_dir", "out"], "--output_dir cannot be used when a model is shared."),
        (
            ["--model", "m", "--strict", "true", "--data_dir", "d"],
            "--data_dir, --strict cannot be used when a model is shared.",
        ),
        (["--dataset", "d", "--dataset_id", "me/x"], "--dataset_id cannot be used when a data set is shared."),
        (["--space", "--model", "m", "--language", "en"], "--language cannot be used when a Space is shared."),
        (
            ["--dataset", "d", "--repo_id", "me/x"],
            "HF_HUB_OFFLINE is set\nNothing was published. Unset it, then push again. The command is:\n"
            "python push_to_hub.py --dataset d --repo_id me/x",
        ),
        (
            ["--dataset", "d", "--output_dir", "out", "--description", "gone.md"],
            "--description gone.md: expected a Markdown file",
        ),
    ],
)
def test_what_is_refused_before_anything_is_read(push, tmp_path, options, message):
    with pytest.raises(SystemExit, match=f"{re.escape(message)}"):
        push(*options)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_model(push, monkeypatch):
    monkeypatch.setattr(upload, "is_offline_mode", lambda: False)
    monkeypatch.setattr(upload, "get_token", lambda: "hf_token")
    with pytest.raises(SystemExit, match=r"^gone: expected the folder of a trained model, but there is no such"):
        push("--model", "gone", "--repo_id", "me/x")


def test_a_data_set_in_a_folder(push, tweets, tmp_path):
    (tmp_path / "about.md").write_text("Found in our **attic**.", encoding="utf-8")
    options = ("--dataset", tweets, "--output_dir", "shared", "--cache_dir", tmp_path / "cache")
    printed = push(*options, "--description", "about.md", "--license", "mit", "--language", "en", "de")
    assert printed.endswith("Written: shared\n") and "and 5 more" in printed
    card = (tmp_path / "shared" / "README.md").read_text(encoding="utf-8")
    assert "# tweets\n\nFound in our **attic**." in card and "license: mit" in card and "- en\n- de" in card
    assert "and 5 more\n" in card and str(tmp_path) not in card, "the card names no folder of this machine"
    with pytest.raises(SystemExit, match="shared was made from other data or with other settings"):
        push(*options, "--rows_per_shard", "7")


def test_a_space_for_this_machine(push, tmp_path):
    """Nothing is asked of the Hub. The folders of the models are in the command that starts it, and in no file."""
    for name in ("my model", "relations"):
        (tmp_path / name).mkdir()
    printed = push("--space", "--model", "my model", "--relation_model", "relations", "--output_dir", "my space")
    start = "python 'my space/app.py' --model 'my model' --relation_model relations"
    assert printed == f"Written: my space. Start it with: {start}\n"
    card = yaml.safe_load((tmp_path / "my space" / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert card["title"] == "my model demo"
    assert not {"models", "relation_model"} & card.keys() and "relation-extraction" in card["tags"]
    assert not [path for path in (tmp_path / "my space").rglob("*.*") if str(tmp_path).encode() in path.read_bytes()]
    examples = json.loads((tmp_path / "my space" / "examples" / "examples.json").read_text(encoding="utf-8"))
    of_pairs = ["5.png", "6.png", "7.png", "8.png"]
    assert [example["image"] for example in examples] == ["0.png", "1.png", "2.png", "3.png", None, *of_pairs]
    for example in examples[5:]:
        assert all(example["text"].count(example[name]) == 1 for name in ("head", "tail")), "the page can find them"
    pictures = {f"examples/{example['image']}" for example in examples if example["image"]}
    written = {path.relative_to(tmp_path / "my space").as_posix() for path in (tmp_path / "my space").rglob("*.*")}
    assert written == {
        "README.md",
        "app.py",
        "limits.py",
        "visitors.py",
        "requirements.txt",
        "examples/examples.json",
        *pictures,
    }
