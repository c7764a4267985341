"""scripts/push_to_hub.py as a user runs it, and what a reader without the project gets."""

import hashlib
import json
import math
import shutil
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback_hub import LOGIN, Case
from PIL import Image


SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "push_to_hub.py"

# Rows as `load_dataset` gives them, once and streaming: tags by name, pictures by the hash of their bytes.
LOAD = """
import hashlib, json, sys
from datasets import Image, List, load_dataset

def digest(picture):
    return picture and hashlib.sha256(picture["bytes"]).hexdigest()

def rows(data):
    for column, feature in (("image", Image(decode=False)), ("aux_crops", List(Image(decode=False)))):
        data = data.cast_column(column, feature)
    names = data.features["ner_tags"].feature.names
    for row in data:
        tags = [names[tag] for tag in row["ner_tags"]]
        yield [row["id"], row["tokens"], tags, digest(row["image"]), [digest(crop) for crop in row["aux_crops"]]]

results = []
for name, options in json.loads(sys.argv[1]):
    read = {split: list(rows(data)) for split, data in load_dataset(name, **options).items()}
    streamed = {split: list(rows(data)) for split, data in load_dataset(name, streaming=True, **options).items()}
    picture = load_dataset(name, split="train", **options)[0]["image"]
    results.append([read, streamed, [picture.mode, picture.size]])
print(json.dumps(results))
"""


def make_tweets(folder, number):
    """A folder of one's own: `number` rows for training and one for test; what a reader must see of it."""
    (folder / "photos").mkdir(parents=True)
    digests = []
    for index in range(number):
        path = folder / "photos" / f"{index}.png"
        Image.new("RGB", (6 + index, 4), (40 * index, 0, 200)).save(path)
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    lines, rows = [], []
    for index in range(number):
        tweet = {"id": f"t{index}", "text": f"Jordan met Paris {index}"}
        tweet["spans"] = [{"start": 0, "end": 6, "label": "PER"}, {"start": 11, "end": 16, "label": "LOC"}]
        crops = [] if index == 1 else [index, 0]
        if index != 1:
            tweet |= {"image": f"photos/{index}.png", "aux_crops": [f"photos/{crop}.png" for crop in crops]}
        lines.append(json.dumps(tweet))
        tags = ["B-PER", "O", "B-LOC", "O"]
        picture = None if index == 1 else digests[index]
        rows.append([f"t{index}", tweet["text"].split(), tags, picture, [digests[crop] for crop in crops]])
    (folder / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "test.jsonl").write_text(lines[1], encoding="utf-8")
    return {"train": rows, "test": rows[1:2]}


def test_the_same_rows_without_our_packages(hub, run_client, tmp_path):
    """Pushed, pushed again with other texts, and read by --dataset: each of the three is a run of the command."""
    former, now = tmp_path / "former" / "tweets", tmp_path / "now" / "tweets"
    rows = make_tweets(former, 5)
    shutil.copytree(former, now)
    lines = (former / "train.jsonl").read_text(encoding="utf-8")
    (now / "train.jsonl").write_text(lines.replace(" met ", " saw "), encoding="utf-8")
    changed = [[row[0], [word.replace("met", "saw") for word in row[1]], *row[2:]] for row in rows["train"]]
    options = ["--repo_id", "me/tweets", "--license", "mit", "--language", "en"]
    commands = [
        ["--dataset", str(former), *options, "--rows_per_shard", "2"],
        ["--dataset", str(now), *options],
        ["--dataset", "me/tweets", "--repo_id", "me/copy"],
    ]
    outcomes = run_client.session(SCRIPT, [("hf_write", command) for command in commands])
    for (exit_code, text), name in zip(outcomes, ("tweets", "tweets", "copy"), strict=True):
        assert exit_code == 0 and text.endswith(f"Pushed: {hub.endpoint}/datasets/me/{name}\n"), text

    second, first, _ = hub.repo("me/tweets", "dataset").history("main")  # and one that created it
    shards = [f"data/train-0000{shard}-of-00003.parquet" for shard in range(3)]
    files = hub.files("me/tweets", "dataset", revision=first.oid)
    assert list(files) == ["README.md", "data/test-00000-of-00001.parquet", *shards]
    assert "license: mit" in files["README.md"].decode()
    files = hub.files("me/tweets", "dataset")
    split_files = [f"data/{split}-00000-of-00001.parquet" for split in ("test", "train")]
    assert list(files) == ["README.md", *split_files] and second.deleted == tuple(shards)
    assert len(hub.asked("upload", "me/tweets/")) == 5, "the test split is the same, and not sent again"

    # One bit of the last picture of the training split: it loads, and the comparison finds it.
    table, damaged = pq.read_table(BytesIO(files[split_files[1]])), BytesIO()
    stored = table.to_pylist()
    picture = stored[4]["image"]["bytes"]
    stored[4]["image"]["bytes"] = picture[:50] + bytes([picture[50] ^ 1]) + picture[51:]
    pq.write_table(pa.Table.from_pylist(stored, table.schema), damaged)
    hub.seed("me/damaged", {**files, split_files[1]: damaged.getvalue()}, "dataset")
    asked = [["me/tweets", {}], ["me/tweets", {"revision": first.oid}], ["me/copy", {}], ["me/damaged", {}]]
    loaded = run_client(LOAD, json.dumps(asked), packages=False, token=None).answer
    for (read, streamed, picture), train in zip(loaded, (changed, rows["train"], changed, None), strict=True):
        assert read == streamed and read["test"] == rows["test"] and picture == ["RGB", [6, 4]]
        assert train is None or read["train"] == train
    of_damaged = loaded[-1][0]["train"]
    assert of_damaged[:4] == changed[:4] and of_damaged[4][:3] == changed[4][:3] and of_damaged[4] != changed[4]


def test_one_commit_however_many_files(hub, run_client, tmp_path):
    """With hf_xet, which users have by default; no file is large, so no Xet is spoken."""
    pytest.importorskip("hf_xet")
    hub.large = ()
    make_tweets(tmp_path / "tweets", 3)
    tweet = '{{"id": "{}", "tokens": ["Paris"], "ner_tags": ["B-LOC"]}}\n'
    (tmp_path / "tweets" / "train.jsonl").write_text("".join(map(tweet.format, range(255))), encoding="utf-8")
    arguments = ("--dataset", tmp_path / "tweets", "--repo_id", "me/tweets", "--rows_per_shard", "1")
    run_client(SCRIPT, *arguments, env={"HF_HUB_DISABLE_XET": "0"})
    assert len(hub.files("me/tweets", "dataset")) == 257
    assert [len(commit.added) for commit in hub.repo("me/tweets", "dataset").history("main")] == [257, 0]


CASES = [
    # First, since the request that creates does not tell in its URL whose it is.
    Case("creation-cut", fault={"route": "create", "cut": "request"}, there=False, says=("Not pushed",)),
    Case("no-token", token=None, says=("Not pushed", "401", LOGIN)),
    Case("no-token-and-new", token=None, there=False, says=("Not pushed", "401", LOGIN)),
    Case("wrong-token", token="hf_wrong", says=("Not pushed", "401", LOGIN)),
    Case("read-only", token="hf_read", says=("Not pushed", "403", LOGIN)),
    Case("foreign", token="hf_stranger", says=("Not pushed", "403", LOGIN)),
    Case("bad--name", there=False, says=("Not pushed", "me/bad--name"), for_good=True),
    Case("bad-card", there=False, says=("Not pushed", "license"), options=("--license", "all-mine"), for_good=True),
    Case("busy", fault={"route": "preupload", "status": 503}, fails=False),
    Case("cut-once", fault={"route": "upload", "cut": "request"}, fails=False),
    Case("busy-commit", fault={"route": "commit", "status": 503}, says=("not known", "503")),
    Case("busy-commit-and-new", fault={"route": "commit", "status": 503}, there=False, says=("not known", "503")),
    Case(
        "cut-for-good",
        fault={"route": "upload", "cut": "request", "times": math.inf},
        says=("Not pushed", "Nothing was published"),
    ),
    Case("commit-cut", fault={"route": "commit", "cut": "request"}, says=("not known",)),
    Case("answer-lost", fault={"route": "commit", "cut": "answer"}, says=("me/answer-lost",)),
    Case("hidden", there=False, fails=False, options=("--private", "true")),
]
FORMER = {"README.md": b"# former", "data/train-00000-of-00007.parquet": b"PAR1 former"}
PUBLISHED = ["README.md", "data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"]


def cases(only=lambda case: True):
    """For `parametrize`."""
    return [pytest.param(case, id=case.name) for case in CASES if only(case)]


@pytest.fixture(scope="module")
def outcomes(shared_hub, run_shared_client, tmp_path_factory):
    """By name of the case: (exit code, what the user reads, files after it), then those of the same command again."""
    hub, folder = shared_hub, tmp_path_factory.mktemp("data")
    make_tweets(folder / "tweets", 3)
    arguments = {}
    for case in CASES:
        if case.there:
            hub.seed(case.repo_id, FORMER, "dataset")
        if case.fault:
            hub.arm(**case.fault, contains="" if case.fault["route"] == "create" else f"{case.repo_id}/")
        arguments[case.name] = [*("--dataset", str(folder / "tweets")), "--repo_id", case.repo_id, *case.options]

    def run(tokens):
        finished = run_shared_client.session(SCRIPT, list(zip(tokens, arguments.values(), strict=True)))
        return [
            (exit_code, text, hub.files(case.repo_id, "dataset"))
            for case, (exit_code, text) in zip(CASES, finished, strict=True)
        ]

    first = run([case.token for case in CASES])
    hub.check()
    hub.disarm()
    second = run(["hf_write"] * len(CASES))
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
    assert list(files) == PUBLISHED and "Nothing was published" not in text


@pytest.mark.parametrize("case", cases(only=lambda case: case.fails))
def test_the_message_has_the_command_to_push_again(outcomes, case):
    text = outcomes[case.name][0][1]
    assert "push_to_hub.py --dataset " in text and f"--repo_id {case.repo_id}" in text


@pytest.mark.parametrize("case", cases(only=lambda case: not case.for_good))
def test_the_same_command_publishes_when_the_fault_has_passed(outcomes, shared_hub, case):
    exit_code, text, files = outcomes[case.name][1]
    assert exit_code == 0 and "Pushed: " in text and list(files) == PUBLISHED
    commits = [commit.title for commit in shared_hub.repo(case.repo_id, "dataset").history("main")]
    assert commits.count("Upload tweets") == 1, "once, even where the first try had come through"


@pytest.mark.parametrize("case", cases(only=lambda case: case.for_good))
def test_what_is_wrong_for_good_stays_so(outcomes, shared_hub, case):
    assert outcomes[case.name][1][0] == 1 and ("datasets", case.repo_id) not in shared_hub.repos


def test_a_bad_name_is_not_asked_about(shared_hub, outcomes):
    assert not [request for request in shared_hub.requests if "bad--name" in request.path]


def test_large_files_in_storage_are_not_sent_again(outcomes, shared_hub):
    assert len(shared_hub.asked("upload", "me/busy-commit/")) == 2  # one file a split


def test_private_is_private(outcomes, shared_hub):
    assert shared_hub.repo("me/hidden", "dataset").private
