"""scripts/push_to_hub.py --space as a user runs it, and what the Space then does without the project."""

import shlex
from pathlib import Path

import pytest
import yaml


SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "push_to_hub.py"
PICTURES = {f"examples/{number}.png" for number in range(4)}
PUBLISHED = {
    "README.md",
    "app.py",
    "limits.py",
    "visitors.py",
    "requirements.txt",
    "examples/examples.json",
    *PICTURES,
}

# What the Hub starts, up to the server: the page's own function on the first and the last example.
RUN = """
import json, shutil, sys
from pathlib import Path
from huggingface_hub import snapshot_download

folder = snapshot_download("me/demo", repo_type="space")
sys.path.insert(0, folder)
import app
from gradio.data_classes import ImageData
from gradio.utils import get_upload_folder

Path(get_upload_folder()).mkdir(parents=True, exist_ok=True)
taggers = app.Taggers({})
(name,) = app.checkpoint_names()
examples = app.read_examples()
results = []
for of in (examples[0], examples[-1]):
    picture = of["image"] and ImageData(path=shutil.copy(of["image"], get_upload_folder()))
    results.append(taggers.tag(of["text"], picture, of["boxes"], name, "attention"))
assert app.build([name], examples, taggers).config["title"]
assert not {"modeling_ifaformer", "processing", "hub_card"} & set(sys.modules)
print(json.dumps([name, len(examples), *results]))
"""


@pytest.fixture(scope="module")
def model_files(checkpoint):
    """By path, the files of a tiny model."""
    return {path.name: path.read_bytes() for path in Path(checkpoint).iterdir()}


def test_a_pushed_space_runs_without_the_project(hub, run_client, model_files):
    hub.seed("me/tagger", model_files)
    options = ["--space", "--model", "me/tagger", "--repo_id", "me/demo"]
    described = [*options, "--license", "mit", "--title", "Try it", "--private", "true"]
    hub.seed("me/own", {"examples/9.png": b"former", "own.py": b"theirs"}, "space")
    own = [*options[:-1], "me/own"]
    (first, second) = run_client.session(SCRIPT, [("hf_write", described), ("hf_write", own)])
    assert first == [0, f"Pushed: {hub.endpoint}/spaces/me/demo\n"] and second[0] == 0, second

    space = hub.repos["spaces", "me/demo"]
    files = space.at("main").files
    assert space.private and set(files) - {".gitattributes"} == PUBLISHED
    assert [commit.title for commit in space.history("main")][:-1] == ["Upload Try it"], "one commit, after creation"
    head, body = files["README.md"].data.decode().split("---\n")[1:]
    card = yaml.safe_load(head)
    assert card["models"] == ["me/tagger"] and (card["sdk"], card["app_file"]) == ("gradio", "app.py")
    assert (card["title"], card["license"]) == ("Try it", "mit") and body.startswith("\n# Try it\n")
    others = set(hub.repos["spaces", "me/own"].at("main").files)
    assert "own.py" in others and "examples/9.png" not in others, "old examples go, nothing else"

    name, examples, with_picture, without = run_client(RUN, packages=False).answer
    assert (name, examples) == ("me/tagger", 5)
    html, report = with_picture
    assert '<article class="tweet">' in html and len(report["crops"]["aux_crops"]) == 2
    assert "problems" not in report
    sources = {share["source"] for entity in report["entities"] for share in entity["shares"]}
    assert {"text", "image", "aux_crops 0", "rcnn_crops 0"} <= sources, "the boxes of the example were cut"
    assert "crops" not in without[1] and "<svg" not in without[0]


FAILURES = {  # name of the case: what is asked for, fault, what is said
    "absent": ({"model": "me/absent"}, None, ("has none of the name me/absent", "Push the model first")),
    "folder": ({"model": "runs/demo"}, None, ("has none of the name runs/demo", "Push the model first")),
    "bad-name": ({"model": "a/b/c"}, None, ("has none of the name a/b/c",)),
    "busy-model": ({}, {"route": "info", "contains": "me/tagger"}, ("503",)),
    "absent-relations": ({"relation_model": "me/none"}, None, ("has none of the name me/none",)),
    "bad-license": ({"license": "all-mine"}, None, ("license",)),
    "busy-space": ({}, {"route": "preupload", "contains": "me/busy-space", "times": 9}, ("503",)),
    "busy-commit": ({}, {"route": "commit", "contains": "me/busy-commit"}, ("not known", "503")),
}


def test_faults_are_told_as_those_of_models(hub, run_client):
    hub.seed("me/tagger", {"config.json": b"{}"})
    commands = []
    for name, (options, fault, _) in FAILURES.items():
        if fault:
            hub.arm(status=503, **fault)
        options = {"model": "me/tagger", "repo_id": f"me/{name}", **options}
        commands.append(["--space", *(part for option in options.items() for part in ("--" + option[0], option[1]))])
    again = commands[-1]
    *outcomes, last = run_client.session(SCRIPT, [("hf_write", command) for command in [*commands, again]])
    hub.disarm()
    for (name, (_, _, says)), (exit_code, text), command in zip(FAILURES.items(), outcomes, commands, strict=True):
        assert exit_code == 1 and "Traceback" not in text, f"{name}: {text}"
        assert all(part in text for part in says) and ("Nothing was published" in text) is ("not known" not in text)
        assert shlex.split(text.splitlines()[-1])[2:] == command
        space = hub.repos.get(("spaces", f"me/{name}"))
        published = [] if space is None else [commit for commit in space.history("main") if commit.added]
        assert len(published) == (name == "busy-commit"), "once, by the same command again"
    assert last[0] == 0 and set(hub.repos["spaces", "me/busy-commit"].at("main").files) >= PUBLISHED
