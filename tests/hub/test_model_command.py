"""scripts/push_to_hub.py --model as a user runs it, and what a user of the model gets without the project."""

import hashlib
import math
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from loopback_hub import LOGIN, Case
from PIL import Image
from transformers.dynamic_module_utils import get_relative_import_files

from modeling_ifaformer import IFAformerForTokenClassification
from processing import IFAformerPipeline, IFAformerProcessor
from processing.features.tokenizer_training import train_wordpiece
from processing.labels import label_maps


SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "push_to_hub.py"
ROOT = SCRIPT.parents[1]
CODE = {
    Path(path).name
    for entry in ("modeling_ifaformer/modeling_ifaformer.py", "processing/processing_ifaformer.py")
    for path in (ROOT / entry, *get_relative_import_files(ROOT / entry))
}
SETTINGS = {"config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"}
PUBLISHED = {"README.md", "model.safetensors", "handler.py", "requirements.txt", *SETTINGS, *CODE}

# The tagger with and without its task, and the parts, each by name and revision.
LOAD = """
import json, sys, torch
from PIL import Image
from transformers import AutoModelForTokenClassification, AutoProcessor, pipeline

folder, *names = sys.argv[1:]
picture = Image.open(folder + "/picture.png")
tweets = [
    {"text": "Jordan met Paris in New York City .", "image": picture, "aux_crops": [picture.crop((2, 2, 20, 20))]},
    {"text": "# RT @ Chelsea unaffable"},
]
results = {}
for name in names:
    load = dict(trust_remote_code=True, revision=name.partition("@")[2] or None)
    name = name.partition("@")[0]
    taggers = [pipeline(model=name, **load), pipeline("multimodal-token-classification", model=name, **load)]
    model = AutoModelForTokenClassification.from_pretrained(name, **load)
    processor = AutoProcessor.from_pretrained(name, **load)
    inputs = processor(text=tweets[0]["text"], images=picture, aux_crops=tweets[0]["aux_crops"], return_tensors="pt")
    with torch.no_grad():
        (parts,) = processor.post_process_entities(model(**inputs).tag_ids, [tweets[0]["text"]])
    results[name + "@" + (load["revision"] or "")] = [*(tagger(tweets, batch_size=2) for tagger in taggers), parts]
assert not {"modeling_ifaformer", "processing", "hub_card"} & set(sys.modules)
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def save_model(make_config, make_processor):
    """`save_model(folder, words, seed)`: a model with its processor; other words, another vocabulary."""

    def save(folder, words="New York", seed=0, **options):
        text = f"Jordan met Paris in {words} . # @ ! the team of RT Chelsea unaffable playing"
        processor = make_processor(train_wordpiece(text.split(), vocab_size=90))
        torch.manual_seed(seed)
        model = IFAformerForTokenClassification(make_config(**label_maps(processor.labels)))
        with torch.no_grad():
            model.classifier.weight.mul_(40)  # else all scores are nearly the same
        model.save_pretrained(folder, **options)
        processor.save_pretrained(folder)

    return save


def litter(folder):
    """What a run leaves in its folder besides."""
    (folder / "checkpoint-9").mkdir()
    for name in ("checkpoint-9/model.safetensors", "optimizer.pt", "training_args.bin", "events.log", "own.py"):
        (folder / name).write_bytes(b"nobody's business")
    (folder / "scores.json").write_text("{}", encoding="utf-8")


def content(folder):
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def tag(folder, picture):
    """What the program above must give for that folder."""
    model, processor = (of.from_pretrained(folder) for of in (IFAformerForTokenClassification, IFAformerProcessor))
    tweets = [
        {
            "text": "Jordan met Paris in New York City .",
            "image": picture,
            "aux_crops": [picture.crop((2, 2, 20, 20))],
        },
        {"text": "# RT @ Chelsea unaffable"},
    ]
    entities = IFAformerPipeline(model, processor=processor, device="cpu")(tweets, batch_size=2)
    parts = [{**entity, "score": None} for entity in entities[0]]  # which the parts do not give
    return [entities, entities, parts]


def alike(value, other):
    """The same but for the last digits of scores, which differ with the place of weights in memory."""
    if isinstance(value, float) and isinstance(other, float):
        return value == pytest.approx(other, abs=1e-5)
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(alike(value[key], other[key]) for key in value)
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        return len(value) == len(other) and all(map(alike, value, other))
    return value == other


def test_the_same_entities_without_our_packages(hub, run_client, save_model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    picture = Image.open(tmp_path / "picture.png")
    folders = [tmp_path / "runs" / "first", tmp_path / "runs" / "second"]
    save_model(folders[0], max_shard_size="60KB")
    save_model(folders[1], "New York City", seed=1)
    expected = [tag(folder, picture) for folder in folders]
    assert expected[0] != expected[1] and all(parts for *_, parts in expected)
    litter(folders[0])
    shards = {path.name for path in folders[0].glob("model[.-]*")}
    assert len(shards) > 3
    before = content(tmp_path / "runs")

    # A token as `hf auth login` keeps it, not HF_TOKEN.
    home = tmp_path / "home"
    home.mkdir()
    (home / "token").write_text("hf_write", encoding="utf-8")
    arguments = ["--repo_id", "me/tagger", "--license", "mit", "--private", "true", "--language", "en"]
    commands = [["--model", str(folders[0]), *arguments], ["--model", str(folders[1]), *arguments[:4]]]
    (exit_code, text), (second_code, second_text) = run_client.session(
        SCRIPT, [[None, command] for command in commands], home=home
    )
    assert (exit_code, text) == (0, f"Pushed: {hub.endpoint}/me/tagger\n") and hub.repo("me/tagger").private
    assert (second_code, second_text) == (exit_code, text)
    assert content(tmp_path / "runs") == before and len(hub.commits) == 3, "creation, then one each"
    _, first, second = hub.repo("me/tagger").history("main")[::-1]
    assert set(first.files) - {".gitattributes"} == PUBLISHED - {"model.safetensors"} | shards
    assert set(second.files) - {".gitattributes"} == PUBLISHED and set(second.deleted) == shards
    card = first.files["README.md"].data.decode()
    assert "license: mit" in card and "language:\n- en" in card and 'model="me/tagger"' in card
    assert not [path for path, blob in second.files.items() if str(tmp_path).encode() in blob.data]

    names = ("me/tagger@", f"me/tagger@{first.oid}")
    loaded = run_client(LOAD, tmp_path, *names, packages=False).answer
    assert alike(loaded, {names[0]: expected[1], names[1]: expected[0]})
    assert not alike(loaded, {names[0]: expected[0], names[1]: expected[1]})


def test_xet(hub, run_client, save_model, tmp_path):
    """What users have by default: the large files by the real Xet client, into a folder and out of it."""
    pytest.importorskip("hf_xet", reason="hf_xet is not installed")
    hub.xet = tmp_path / "xet"
    save_model(tmp_path / "model")
    speaking = {"HF_HUB_DISABLE_XET": "0"}
    run_client(SCRIPT, "--model", tmp_path / "model", "--repo_id", "me/tagger", env=speaking)
    program = (
        "import sys, huggingface_hub as h; from pathlib import Path; folder = Path(h.snapshot_download('me/tagger'));"
        "print((folder / 'model.safetensors').read_bytes() == Path(sys.argv[1]).read_bytes())"
    )
    weights = tmp_path / "model" / "model.safetensors"
    assert run_client(program, weights, token=None, env=speaking).stdout == "True\n"
    assert hub.asked("xet_token", "xet-write") and hub.asked("xet_token", "xet-read")
    assert not hub.asked("upload") and not hub.asked("download") and not hub.storage
    assert hub.repo("me/tagger").at("main").files["model.safetensors"].size == weights.stat().st_size


NOTHING = "Nothing was published"
CASES = [
    # First, since these requests do not tell in their URL whose repository it is.
    Case("busy-card", fault={"route": "validate_yaml", "status": 503}, there=False, says=(NOTHING, "503")),
    Case("creation-cut", fault={"route": "create", "cut": "request"}, there=False, says=(NOTHING,)),
    Case("no-token", token=None, says=(NOTHING, "401", LOGIN)),
    Case("wrong-token", token="hf_wrong", says=(NOTHING, "401", LOGIN)),
    Case("read-only", token="hf_read", says=(NOTHING, "403", LOGIN)),
    Case("foreign", token="hf_stranger", there=False, says=(NOTHING, "403", LOGIN)),
    Case("bad--name", there=False, says=("me/bad--name", "user/name"), for_good=True),
    Case("bad-card", there=False, says=(NOTHING, "license"), options=("--license", "all-mine"), for_good=True),
    Case("open", says=(NOTHING, "is public"), options=("--private", "true"), for_good=True),
    Case("busy", fault={"route": "preupload", "status": 503}, fails=False),
    Case("busy-storage", fault={"route": "upload", "status": 503}, fails=False),
    Case("busy-commit", fault={"route": "commit", "status": 503}, says=("not known", "503")),
    Case("cut-once", fault={"route": "upload", "cut": "request"}, fails=False),
    Case("cut-for-good", fault={"route": "upload", "cut": "request", "times": math.inf}, says=(NOTHING,)),
    Case("commit-cut", fault={"route": "commit", "cut": "request"}, says=("not known",)),
    Case("answer-lost", fault={"route": "commit", "cut": "answer"}, says=("not known", "me/answer-lost")),
]
FORMER = {"README.md": b"# former", "model-00001-of-00007.safetensors": b"former", "own.safetensors": b"theirs"}


def cases(only=lambda case: True):
    """For `parametrize`."""
    return [pytest.param(case, id=case.name) for case in CASES if only(case)]


@pytest.fixture(scope="module")
def outcomes(shared_hub, run_shared_client, save_model, tmp_path_factory):
    """By name of the case: (exit code, what the user reads, files after it), then those of the command in it."""
    hub, folder = shared_hub, tmp_path_factory.mktemp("models") / "my model"
    save_model(folder)
    litter(folder)
    before = content(folder)
    commands = []
    for case in CASES:
        if case.there:
            hub.seed(case.repo_id, FORMER)
        if case.fault:
            unnamed = case.fault["route"] in ("create", "validate_yaml")
            hub.arm(**case.fault, contains="" if unnamed else f"{case.repo_id}/")
        commands.append(["--model", str(folder), "--repo_id", case.repo_id, *case.options])

    def run(runs):
        return [
            (exit_code, text, hub.files(case.repo_id))
            for case, (exit_code, text) in zip(CASES, run_shared_client.session(SCRIPT, runs), strict=True)
        ]

    first = run(list(zip([case.token for case in CASES], commands, strict=True)))
    hub.check()
    hub.disarm()
    for number, (case, (_, text, _)) in enumerate(zip(CASES, first, strict=True)):
        if case.fails:
            python, script, *commands[number] = shlex.split(text.splitlines()[-1])
            assert (python, script) == ("python", str(SCRIPT))
    second = run([("hf_write", command) for command in commands])
    assert content(folder) == before, "the folder is as it was"
    return {case.name: pair for case, *pair in zip(CASES, first, second, strict=True)}


@pytest.mark.parametrize("case", cases())
def test_what_the_user_reads(outcomes, case):
    exit_code, text, _ = outcomes[case.name][0]
    assert exit_code == (1 if case.fails else 0)
    assert "Traceback" not in text and all(part in text for part in case.says), text
    assert ("Pushed: " in text) is not case.fails


@pytest.mark.parametrize("case", cases(only=lambda case: case.fails and case.name != "answer-lost"))
def test_nothing_is_half_published(outcomes, shared_hub, case):
    assert outcomes[case.name][0][2] == (FORMER if case.there else {})


def test_a_lost_answer_is_not_called_a_failure_to_publish(outcomes):
    _, text, files = outcomes["answer-lost"][0]
    assert set(files) == PUBLISHED | {"own.safetensors"} and NOTHING not in text


@pytest.mark.parametrize("case", cases(only=lambda case: not case.for_good))
def test_the_command_in_the_message_publishes_when_the_fault_has_passed(outcomes, shared_hub, case):
    exit_code, text, files = outcomes[case.name][1]
    own = {"own.safetensors"} if case.there else set()
    assert exit_code == 0 and "Pushed: " in text
    assert set(files) == PUBLISHED | own, "a shard of the former push went, what was not ours stays"
    commits = [commit.title for commit in shared_hub.repo(case.repo_id).history("main")]
    assert commits.count(f"Upload {case.name}") == 1, "once, even where the first try had come through"


@pytest.mark.parametrize("case", cases(only=lambda case: case.for_good))
def test_what_is_wrong_for_good_stays_so(outcomes, shared_hub, case):
    exit_code, _, files = outcomes[case.name][1]
    assert exit_code == 1 and files == (FORMER if case.there else {})
    assert case.there or ("models", case.repo_id) not in shared_hub.repos, "not even an empty repository"


def test_a_bad_name_is_not_asked_about(outcomes, shared_hub):
    assert not [request for request in shared_hub.requests if "bad--name" in request.path]


def test_weights_in_storage_are_not_sent_again(outcomes, shared_hub):
    assert len(shared_hub.asked("upload", "me/busy-commit/")) == 1
    assert [request.status for request in shared_hub.asked("upload", "me/busy-storage/")] == [503, 200]
