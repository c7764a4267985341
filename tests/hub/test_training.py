"""train.py --push_to_hub as a user runs it."""

import json
import math
import shlex
from pathlib import Path

import pytest
from PIL import Image


TRAIN = Path(__file__).resolve().parents[2] / "scripts" / "train.py"
TOWER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TWEETS = [{"text": "so Jordan again"}, {"text": "Paris , so"}]
LOAD = """
import json, sys
from transformers import pipeline

tweets, *names = json.loads(sys.argv[1])
entities = [pipeline(model=name, trust_remote_code=True)(tweets) for name in names]
assert not {"modeling_ifaformer", "processing", "hub_card"} & set(sys.modules)
print(json.dumps(entities))
"""


@pytest.fixture
def command(tmp_path):
    """Arguments of a run of four steps with a checkpoint at every second."""
    folder = tmp_path / "tweets"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        rows = []
        for index, name in enumerate(["Jordan", "Paris"] * 4):
            Image.new("RGB", (8, 8), (9 * index, 0, 0)).save(folder / f"{index}.png")
            tags = ["O", "B-PER" if name == "Jordan" else "B-LOC", "O"]
            rows.append({"tokens": ["so", name, "again"], "ner_tags": tags, "image": f"{index}.png"})
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        f"text_config: {json.dumps(TOWER)}\n"
        f"vision_config: {json.dumps({**TOWER, 'image_size': 8, 'patch_size': 8})}\n"
        f"dataset: {folder}\ncache_dir: {tmp_path / 'cache'}\noutput_dir: {tmp_path / 'out'}\n"
        "aux_crop_size: 8\nrcnn_crop_size: 8\nmax_steps: 4\nsave_strategy: steps\nsave_steps: 2\n"
        "eval_strategy: steps\neval_steps: 2\nlearning_rate: 1e-2\nper_device_train_batch_size: 4\n"
        "use_cpu: true\npush_to_hub: true\nreport_to: none\n"
    )
    return [str(recipe)]


def train(run_client, command, *options, **client):
    return run_client(TRAIN, *command, *options, **client)


def test_the_trained_model_and_its_card(hub, run_client, command, tmp_path):
    printed = train(run_client, command, "--hub_private_repo", "true").stdout
    assert f"Pushed: {hub.endpoint}/me/out\n" in printed, "named for the folder, as the Trainer does"
    repository, folder = hub.repo("me/out"), tmp_path / "out"
    assert repository.private and len(repository.history("main")) == 2, "creation, and all of it in one commit"
    files = hub.files("me/out")
    card = files["README.md"].decode()
    assert 'model="me/out"' in card and "model-index" in card and "training_curve.png" in files
    assert card == (folder / "README.md").read_text()
    assert not [name for name, content in files.items() if str(tmp_path).encode() in content]
    assert files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert not {"results.json", "training_args.bin", "checkpoint-2"} & {name.split("/")[0] for name in files}
    local, pushed = run_client(LOAD, json.dumps([TWEETS, str(folder), "me/out"]), packages=False).answer
    assert pushed == local and any(local)


REFUSED = [
    (None, (), ("no token", "hf auth login")),
    ("hf_stranger", ("--hub_model_id", "me/tagger"), ("403", "Nothing was published")),
    ("hf_write", ("--hub_model_id", "me/bad--name"), ("me/bad--name", "user/name")),
    ("hf_read", ("--hub_model_id", "me/there"), ("403", "Nothing was published")),
    ("hf_write", ("--hub_model_id", "me/there", "--hub_private_repo", "true"), ("me/there is public",)),
    ("hf_write", ("--hub_strategy", "every_save"), ("hub_strategy must be end, got every_save",)),
    ("hf_write", ("--hub_revision", "dev"), ("models are pushed to the main branch",)),
]


def test_what_cannot_be_pushed_is_said_before_training(hub, run_client, command, tmp_path):
    hub.seed("me/there", {"README.md": b"# former"})
    runs = [(token, [*command, *options]) for token, options, _ in REFUSED]
    for (exit_code, text), (*_, says) in zip(run_client.session(TRAIN, runs), REFUSED, strict=True):
        assert exit_code == 1 and all(part in text for part in says) and "Traceback" not in text, text
    assert not (tmp_path / "out").exists() and list(hub.repos) == [("models", "me/there")]
    assert hub.files("me/there") == {"README.md": b"# former"}


def test_the_message_has_the_command_that_pushes_what_is_trained(hub, run_client, command, tmp_path):
    hub.arm("commit", status=503, times=math.inf)
    options = ("--hub_model_id", "me/tagger", "--hub_private_repo", "true")
    result = train(run_client, command, *options, exit_code=1)
    assert f"The model is trained, and saved in {tmp_path / 'out'}." in result.stdout
    assert "It is not known whether this was pushed" in result.stderr and "Traceback" not in result.stderr
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert set(hub.files("me/tagger")) <= {".gitattributes"}
    hub.disarm()
    python, script, *again = shlex.split(result.stderr.strip().splitlines()[-1])
    assert python == "python" and "Pushed: " in run_client(Path(script), *again).stdout
    assert hub.files("me/tagger")["model.safetensors"] == before
    assert hub.files("me/tagger")["README.md"].decode() == (tmp_path / "out" / "README.md").read_text()


def test_the_best_of_several_seeds_is_pushed(hub, run_client, command, tmp_path):
    printed = train(run_client, command, "--seeds", "1", "2", "--hub_model_id", "me/tagger").stdout
    best = json.loads((tmp_path / "out" / "results.json").read_text())["best_seed"]
    assert f"saved in {tmp_path / 'out' / f'seed-{best}'}." in printed
    files = hub.files("me/tagger")
    assert files["model.safetensors"] == (tmp_path / "out" / f"seed-{best}" / "model.safetensors").read_bytes()
    assert "of 2 such runs, with the seeds 1, 2" in files["README.md"].decode()
