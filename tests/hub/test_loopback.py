"""The loopback Hub behaves as the real client expects, and the client meets each fault as it is known to."""

import json
import math
import re

import numpy as np
import pytest


PUSH_BERT = """
import json, torch
from transformers import BertConfig, BertModel, BertTokenizer

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "jordan", "met", "paris", "##ian"]
tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
torch.manual_seed(0)
tower = dict(hidden_size=24, num_attention_heads=3, num_hidden_layers=2, intermediate_size=37)
model = BertModel(BertConfig(**tower, vocab_size=len(words))).eval()
model.push_to_hub("me/bert")
tokenizer.push_to_hub("me/bert")
inputs = tokenizer("Jordan met Parisian", return_tensors="pt")
with torch.no_grad():
    outputs = model(**inputs)
print(json.dumps([inputs["input_ids"].tolist(), outputs.last_hidden_state.tolist(), outputs.pooler_output.tolist()]))
"""

LOAD_BERT = """
import json, sys, torch
from transformers import AutoModel, AutoTokenizer

results = {}
for name in sys.argv[1:]:
    try:
        inputs = AutoTokenizer.from_pretrained(name)("Jordan met Parisian", return_tensors="pt")
        with torch.no_grad():
            outputs = AutoModel.from_pretrained(name)(**inputs)
        results[name] = [inputs["input_ids"].tolist(), *(value.tolist() for value in outputs.values())]
    except Exception as error:
        results[name] = type(error).__name__
print(json.dumps(results))
"""

STEPS = """
import json, os, sys
from pathlib import Path
from huggingface_hub import HfApi, ModelCard, snapshot_download

api = HfApi()
FILES = {"README.md": b"---\\nlicense: mit\\n---\\n# x", "a.txt": b"a", "data/x.bin": bytes(range(256)) * 40}

def push(repo_id="me/x", files=FILES, **options):
    folder = Path("folder")
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return api.upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=list(files), **options).oid

def read(path, repo_id="me/x", **options):
    return Path(api.hf_hub_download(repo_id, path, **options)).read_bytes().hex()

def run(step):
    try:
        return {"value": eval(step)}
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        return {"error": [kind.__name__ for kind in type(error).__mro__], "status": status, "message": str(error)}

print(json.dumps([run(step) for step in sys.argv[1:]], default=str))
"""

LARGE = bytes(range(256)) * 40
FILES = {"README.md": b"---\nlicense: mit\n---\n# x", "a.txt": b"a", "data/x.bin": LARGE}


@pytest.fixture
def attempt(run_client):
    """Expressions -> what became of each: a value, or the classes of an error, its status and message."""

    def attempt(*steps, **options):
        finished = run_client(STEPS, *steps, **options)
        attempt.waits = list(finished.waits)
        return finished.answer

    return attempt


def test_a_model_and_its_tokenizer_in_a_fresh_process(hub, run_client):
    def alike(values, others):
        return np.array(values) == pytest.approx(np.array(others), abs=1e-5)

    pushed = run_client(PUSH_BERT).answer
    files = hub.files("me/bert")
    assert len(set(pushed[0][0])) == 6, "the words are known"
    # What a loader must not take for the same: one bit of the weights, half of them, another or no vocabulary.
    weights, tokenizer = files["model.safetensors"], files["tokenizer.json"]
    other = json.loads(tokenizer)
    vocabulary = other["model"]["vocab"]
    vocabulary["met"], vocabulary["paris"] = vocabulary["paris"], vocabulary["met"]
    damaged = {
        "me/flipped": {**files, "model.safetensors": weights[:-1] + bytes([weights[-1] ^ 64])},
        "me/truncated": {**files, "model.safetensors": weights[: len(weights) // 2]},
        "me/swapped": {**files, "tokenizer.json": json.dumps(other).encode()},
        "me/without": {path: data for path, data in files.items() if path != "tokenizer.json"},
    }
    for name, content in damaged.items():
        hub.seed(name, content)
    loaded = run_client(LOAD_BERT, "me/bert", *damaged, token=None, packages=False).answer
    assert all(map(alike, loaded["me/bert"], pushed))
    ids, states, pooled = map(alike, loaded["me/flipped"], pushed)
    assert ids and states and not pooled, "the pooler comes last"
    assert loaded["me/swapped"][0] != pushed[0]
    assert isinstance(loaded["me/truncated"], str)
    assert loaded["me/without"][0] != pushed[0], "loads all the same, with a vocabulary of special tokens"


def test_upload_folder(hub, attempt):
    hub.page_size = 2  # of a tree, so that it comes in pages
    create, first, again, fewer, listed = attempt(
        "api.create_repo('me/x')",
        "push()",
        "push()",
        "push(files={'b.txt': b'b'}, delete_patterns=['data/*', 'a.*'])",
        "api.list_repo_files('me/x')",
    )
    assert create["value"] == f"{hub.endpoint}/me/x"
    assert again["value"] == first["value"], "nothing has changed: no commit"
    assert [commit.added for commit in hub.repo("me/x").history("main")] == [("b.txt",), tuple(FILES), ()]
    assert hub.files("me/x") == {"README.md": FILES["README.md"], "b.txt": b"b"}
    assert hub.files("me/x", revision=first["value"]) == FILES
    assert hub.commits[-1].deleted == ("a.txt", "data/x.bin") and hub.commits[-1].oid == fewer["value"]
    assert listed["value"] == [".gitattributes", "README.md", "b.txt"]
    assert len(hub.asked("upload")) == 1


def test_large_files_in_parts(hub, attempt):
    hub.seed("me/x")
    hub.part_size = 4000
    hub.arm("upload", cut="request", contains="/2")
    push, data = attempt("push()", "read('data/x.bin')")
    assert "value" in push and bytes.fromhex(data["value"]) == LARGE
    assert [request.path[-2:] for request in hub.asked("upload")] == ["/1", "/2", "/2", "/3"]


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_branches_tags_and_pinned_revisions(hub, attempt, kind):
    old = hub.seed("me/x", {"a.txt": b"old", "x.bin": b"old"}, kind).branches["main"]
    typed = f"repo_type='{kind}'"
    steps = {
        "tag": f"api.create_tag('me/x', tag='v1', {typed})",
        "tagged twice": f"api.create_tag('me/x', tag='v1', {typed})",
        "branch": f"api.create_branch('me/x', branch='feature/one', {typed})",
        "push": f"push(files={{'a.txt': b'new', 'x.bin': b'new'}}, {typed})",
        "side": f"push(files={{'a.txt': b'side'}}, revision='feature/one', {typed})",
        "main": f"[read('a.txt', {typed}), read('x.bin', {typed})]",
        "pinned": f"[read('a.txt', revision='{old}', {typed}), read('x.bin', revision='{old}', {typed})]",
        "v1": f"read('x.bin', revision='v1', {typed})",
        "feature": f"read('a.txt', revision='feature/one', {typed})",
        "refs": f"[[ref.name for ref in api.list_repo_refs('me/x', {typed}).branches]]",
        "commits": f"[commit.title for commit in api.list_repo_commits('me/x', {typed})]",
        "info": f"api.repo_info('me/x', revision='v1', files_metadata=True, {typed}).sha",
        "paths": f"[file.size for file in api.get_paths_info('me/x', ['a.txt', 'none'], {typed})]",
        "no file": f"read('none', {typed})",
        "no revision": f"read('a.txt', revision='none', {typed})",
        "stale": f"push(files={{'a.txt': b'late'}}, parent_commit='{old}', {typed})",
        "file": f"api.delete_file('a.txt', 'me/x', {typed})",
        "folder": f"[push(files={{'data/y.bin': b'y'}}, {typed}), api.delete_folder('data/', 'me/x', {typed})][0]",
        "once more": f"api.delete_folder('data/', 'me/x', {typed})",
        "untag": f"api.delete_tag('me/x', tag='v1', {typed})",
        "unbranch": f"api.delete_branch('me/x', branch='feature/one', {typed})",
    }
    outcomes = dict(zip(steps, attempt(*steps.values()), strict=True))
    values = {name: outcome["value"] for name, outcome in outcomes.items() if "value" in outcome}
    new_text, old_text, side = b"new".hex(), b"old".hex(), b"side".hex()
    assert values["main"] == [new_text, new_text] and values["pinned"] == [old_text, old_text]
    assert values["v1"] == old_text and values["feature"] == side
    assert values["refs"] == [["main", "feature/one"]] and values["commits"][1:] == ["seed", "initial commit"]
    assert values["info"] == old and values["paths"] == [3]
    assert outcomes["tagged twice"]["status"] == 409 and outcomes["stale"]["status"] == 412
    assert "value" in outcomes["folder"]
    for name in ("no file", "once more"):
        assert outcomes[name]["error"][0] == "RemoteEntryNotFoundError"
    assert outcomes["no revision"]["error"][0] == "RevisionNotFoundError"
    assert hub.files("me/x", kind) == {"x.bin": b"new"}
    repo = hub.repo("me/x", kind)
    assert list(repo.branches) == ["main"] and not repo.tags


def test_private_repositories(hub, attempt):
    hub.seed("me/secret", {"x.bin": b"x"}, private=True)
    hub.seed("me/open", {"x.bin": b"x"})
    read = "read('x.bin', repo_id='me/{0}', token={1!r}, cache_dir='{1}')"
    outcomes = attempt(
        *(read.format("secret", token) for token in ("hf_write", "hf_read", "hf_stranger", False)),
        read.format("missing", False),
        read.format("open", False),
        "api.update_repo_settings('me/open', private=True)",
        read.format("open", False),
    )
    for outcome in outcomes[2:5]:
        assert outcome["error"][0] == "RepositoryNotFoundError"
    assert outcomes[0]["value"] == outcomes[1]["value"] == outcomes[5]["value"] == b"x".hex()
    # Kept from before: the client asks, is refused, and falls back on its cache.
    assert outcomes[7]["value"] == b"x".hex() and hub.requests[-1].status == 401


def test_deleted_repositories(hub, attempt):
    hub.seed("me/x", {"x.bin": b"x"})
    deleted, gone, again = attempt("api.delete_repo('me/x')", "read('x.bin')", "api.delete_repo('me/x')")
    assert "value" in deleted and not hub.repos and hub.files("me/x") == {}
    assert gone["error"][0] == again["error"][0] == "RepositoryNotFoundError"


@pytest.mark.parametrize(
    ("token", "step", "error", "status"),
    [
        (None, "api.whoami()", "LocalTokenNotFoundError", None),
        (None, "api.create_repo('me/new', exist_ok=True)", "HfHubHTTPError", 401),
        (None, "push()", "HfHubHTTPError", 401),
        ("hf_wrong", "api.whoami()", "HfHubHTTPError", 401),
        ("hf_wrong", "push()", "HfHubHTTPError", 401),
        ("hf_read", "api.create_repo('me/new', exist_ok=True)", "HfHubHTTPError", 403),
        ("hf_read", "[api.create_repo('me/x', exist_ok=True), push()]", "HfHubHTTPError", 403),
        ("hf_stranger", "api.create_repo('me/new', exist_ok=True)", "HfHubHTTPError", 403),
        ("hf_stranger", "push()", "HfHubHTTPError", 403),
        ("hf_write", "push(repo_id='me/missing')", "RepositoryNotFoundError", 404),
        ("hf_write", "ModelCard('---\\nlicense: [\\n---').push_to_hub('me/x')", "YAMLError", None),
        ("hf_write", "push(files={'README.md': b'---\\n- a\\n---\\n'})", "ValueError", None),
    ],
)
def test_what_is_refused(hub, attempt, token, step, error, status):
    hub.seed("me/x", {"a.txt": b"before"})
    (outcome,) = attempt(step, token=token)
    assert error in outcome["error"] and outcome["status"] == status, outcome
    assert not hub.asked("upload") and hub.files("me/x") == {"a.txt": b"before"}
    assert list(hub.repos) == [("models", "me/x")]


RESULT = (
    "model-index: [{{name: x, results: [{{task: {{type: {}}}, dataset: {{name: x, type: x}}, "
    "metrics: [{{type: f1, value: {}}}]}}]}}]"
)
BROKEN_CARDS = {
    "license: 7": "license",
    "license: mine": "license",
    "tags: [a, 7]": "tags",
    "language: english": "language",
    "base_model: a/b/c": "base_model",
    "pipeline_tag: naming": "pipeline_tag",
    "model-index: [{name: x, results: [{dataset: {name: x}}]}]": "model.index",
    RESULT.format("naming", 1): "model-index.* unknown task: naming",
    RESULT.format("token-classification", "high"): "model-index.* f1 that is no number",
}


def test_fields_of_a_card(hub, attempt):
    """One is right; of the others, each is refused by the field that is wrong, before anything is sent."""
    hub.seed("me/x", {"a.txt": b"before"})
    step = "push(files={{'README.md': {!r}, 'x.bin': b'x'}})"
    right, *outcomes = attempt(
        *(step.format(f"---\n{fields}\n---\n".encode()) for fields in ("license: mit", *BROKEN_CARDS))
    )
    assert "value" in right and len(hub.asked("upload")) == 1 and len(hub.asked("commit")) == 1
    for outcome, field in zip(outcomes, BROKEN_CARDS.values(), strict=True):
        assert "ValueError" in outcome["error"] and re.search(field, outcome["message"]), outcome


def test_invalid_names_are_not_asked_about(hub, attempt):
    names = ["a/b/c", "me/a--b", "me/a b", ".a", "me/" + "a" * 97, "me/a.git", "me/\u00e4", ""]
    outcomes = attempt(*(f"api.create_repo({name!r})" for name in names), *(f"push({name!r})" for name in names))
    assert {outcome["error"][0] for outcome in outcomes} == {"HFValidationError"}
    assert not [request for request in hub.requests if request.route not in ("harmless", "validate_yaml")]


GIVES_UP = [1, 2, 4, 8, 8]  # the client's waits between six tries


@pytest.mark.parametrize("route", ["preupload", "batch", "upload", "verify"])
def test_refused_for_a_moment_and_retried(hub, attempt, route):
    hub.seed("me/x")
    hub.arm(route, status=503)
    assert "value" in attempt("push()")[0]
    assert attempt.waits == [1] and [request.status for request in hub.asked(route)] == [503, 200]
    assert hub.files("me/x") == FILES


def test_told_when_to_come_again(hub, attempt):
    hub.seed("me/x")
    hub.arm("preupload", status=429, headers={"Retry-After": "1"})
    hub.arm("create", status=429, headers={"Retry-After": "1"})
    push, create = attempt("push()", "api.create_repo('me/y')")
    assert "value" in push and attempt.waits == [2]
    assert create["error"][0] == "HfHubHTTPError" and create["status"] == 429


@pytest.mark.parametrize(
    ("route", "step"),
    [
        ("whoami", "api.whoami()['name']"),
        ("create", "api.create_repo('me/y', exist_ok=True)"),
        ("info", "api.repo_info('me/x').sha"),
        ("validate_yaml", "push()"),
        ("commit", "push()"),
        ("resolve", "read('kept.txt')"),
        ("download", "read('kept.bin')"),
    ],
)
def test_refused_for_a_moment_and_not_retried(hub, attempt, route, step):
    before = {"kept.bin": b"kept", "kept.txt": b"kept"}
    hub.seed("me/x", before)
    hub.arm(route, status=503, method="GET" if route == "resolve" else None)
    failed, again = attempt(step, step)
    assert failed["error"][0] == "HfHubHTTPError" and failed["status"] == 503 and not attempt.waits
    assert "value" in again
    statuses = [request.status for request in hub.asked(route, method="GET" if route == "resolve" else None)]
    assert statuses[0] == 503 and statuses[-1] == 200, "nothing was done the first time"
    if step == "push()":
        assert hub.files("me/x") == {**before, **FILES}
        assert len(hub.asked("upload")) == 1, "what is in storage is not sent again"


@pytest.mark.parametrize("fault", [{"status": 503}, {"cut": "request"}])
def test_an_upload_that_never_gets_through(hub, attempt, fault):
    hub.seed("me/x", {"a.txt": b"before"})
    hub.arm("upload", times=math.inf, **fault)
    (outcome,) = attempt("push()")
    assert outcome["error"][0] == "RuntimeError"
    assert outcome["message"] == "Error while uploading 'data/x.bin' to the Hub."
    assert attempt.waits == GIVES_UP and hub.files("me/x") == {"a.txt": b"before"} and not hub.storage


def test_an_upload_cut_once(hub, attempt):
    hub.seed("me/x")
    hub.arm("upload", cut="request")
    assert "value" in attempt("push()")[0]
    assert attempt.waits == [1] and [request.status for request in hub.asked("upload")] == [None, 200]
    assert hub.files("me/x") == FILES


@pytest.mark.parametrize(("cut", "published"), [("request", False), ("answer", True)])
def test_a_commit_cut(hub, attempt, cut, published):
    hub.seed("me/x")
    hub.arm("commit", cut=cut)
    (outcome,) = attempt("push()")
    assert "TransportError" in outcome["error"] and not {"HfHubHTTPError", "OSError"} & set(outcome["error"])
    assert not attempt.waits and hub.files("me/x") == (FILES if published else {})


def test_created_and_the_answer_lost(hub, attempt):
    hub.arm("create", cut="answer")
    lost, again, at_ease = attempt(
        "api.create_repo('me/x')", "api.create_repo('me/x')", "api.create_repo('me/x', exist_ok=True)"
    )
    assert lost["error"][0] == "RemoteProtocolError" and again["status"] == 409
    assert at_ease["value"] == f"{hub.endpoint}/me/x"


def test_a_download_cut_half_way(hub, attempt):
    hub.seed("me/x", {"once.bin": LARGE, "ever.bin": LARGE[::-1]})
    ever = hub.repo("me/x").at("main").files["ever.bin"].oid
    hub.arm("download", cut="body", times=math.inf, contains=ever)
    hub.arm("download", cut="body")
    broken, once = attempt("read('ever.bin')", "read('once.bin')")
    assert broken["error"][0] == "RemoteProtocolError" and bytes.fromhex(once["value"]) == LARGE
    assert len(hub.asked("download", ever)) == 6
    assert attempt.waits == [1] * 6  # five, and one for the file that came in the end


def test_a_question_for_a_file_cut(hub, attempt):
    hub.seed("me/x", {"a.txt": b"a"})
    hub.arm("resolve", method="HEAD", cut="answer")
    cut, again = attempt("read('a.txt')", "read('a.txt')")
    assert cut["error"][0] == "RemoteProtocolError" and again["value"] == b"a".hex() and not attempt.waits


def test_the_cache_when_the_hub_is_down(hub, attempt, tmp_path):
    hub.seed("me/x", {"x.bin": LARGE})
    home = tmp_path / "home"
    hub.arm("resolve", method="HEAD", status=503)
    filled = attempt("read('x.bin')", home=home)[0]
    assert filled["value"] == LARGE.hex() and not attempt.waits, "where there is no cache, asked once more and at once"
    hub.arm("resolve", status=503, times=math.inf)
    assert attempt("read('x.bin')", home=home)[0] == filled and not attempt.waits
    assert attempt("read('x.bin')")[0]["error"][0] == "LocalEntryNotFoundError" and attempt.waits == GIVES_UP


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        ("import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)", "tried to reach"),
        ("import urllib.request; urllib.request.urlopen('http://example.org')", "tried to reach"),
        ("import sys; sys.exit(3)", "exit code 3"),
    ],
)
def test_a_client_that_goes_astray(run_client, program, complaint):
    with pytest.raises(AssertionError, match=complaint):
        run_client(program, exit_code=0 if "exit" in program else 1)


def test_packages_that_are_not_there(run_client):
    program = "import {}; print('[]')"
    for name in ("modeling_ifaformer", "processing", "hub_card"):
        assert f"No module named '{name}'" in run_client(program.format(name), packages=False, exit_code=1).stderr
    assert run_client(program.format("hub_card")).answer == []


@pytest.fixture
def leaky(hub):
    """A Hub whose check is the test's own affair."""
    yield hub
    hub.requests.clear()
    hub.disarm()


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        ("get('{api}/api/surprise')", "no route"),
        ("get('{storage}/download/{key}')", "the token went to the storage host"),
        ("None", "nobody ran into them"),
    ],
)
def test_what_the_check_finds(leaky, run_client, step, complaint):
    leaky.seed("me/x", {"x.bin": LARGE})
    if step == "None":
        leaky.arm("commit", status=503)
    step = step.format(api=leaky.endpoint, storage=leaky.storage_endpoint, key=next(iter(leaky.storage)))
    program = f"""
from urllib.error import HTTPError
from urllib.request import Request, urlopen

def get(url):
    try:
        urlopen(Request(url, headers={{"Authorization": "Bearer hf_write"}}))
    except HTTPError:
        pass

{step}
"""
    run_client(program)
    with pytest.raises(AssertionError, match=complaint):
        leaky.check()
