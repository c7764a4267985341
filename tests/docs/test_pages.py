"""Every snippet of README and docs runs as it stands, and prints what the page shows."""

import inspect
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from modeling_ifaformer.prediction.demo_page import SENTENCE
from processing.data.demo.entity_tweets import TYPICAL_TWEETS


REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")])
# Commands that CI runs by themselves, and those that set up the machine.
NOT_OF_A_PAGE = ("make", "git", "pip", "python3", "source")
# What a page says where its snippet cannot be run: three of eight GPUs, of the Hub, of a checkpoint elsewhere.
MOST_NOT_RUN = 7
PORT = "8000"  # of a page's server
SECONDS = 300  # until it has begun, has answered and has ended, however busy the machine is


class Block(NamedTuple):
    language: str
    content: str
    is_run: bool
    is_of_demo: bool  # its output is that of the model that `make demo` trains


def blocks(page):
    """The fenced blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    pattern = r"(?P<comment><!-- [^\n]* -->\n)?```(?P<language>\w+)\n(?P<content>.*?)```"
    for match in re.finditer(pattern, text, flags=re.DOTALL):
        comment = match["comment"] or ""
        is_run = "not run here" not in comment
        yield Block(match["language"], match["content"], is_run, "make demo" in comment)


def python_program(page):
    """
    The Python blocks of a page as one program, which prints a line that cannot occur at the end of each, and the block
    that shows its output. `...` in that stands for whatever is printed in its place on the line.
    """
    of_page = list(blocks(page))
    program, expected = [], []
    for block, after in zip(of_page, [*of_page, None][1:], strict=True):
        if block.language == "python" and block.is_run:
            program.append(f"{block.content}\nprint('<end of block>')\n")
            expected.append(after if after is not None and after.language == "text" else None)
    return "".join(program), expected


def commands(page):
    """The commands of a page's bash blocks, each as a list of words."""
    for block in blocks(page):
        if block.language == "bash" and block.is_run:
            for line in block.content.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0] not in NOT_OF_A_PAGE:
                    yield words


@contextmanager
def in_background(words, folder, port):
    """A command that a page ends with `&`, which is a server on that port; here it has begun to answer."""
    process = subprocess.Popen([sys.executable, *words[1:]], cwd=folder)
    try:
        end = time.monotonic() + SECONDS
        while True:
            assert process.poll() is None and time.monotonic() < end, f"no server: {shlex.join(words)}"
            try:
                assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=SECONDS).json()["status"] == "ok"
                break
            except httpx.TransportError:
                time.sleep(0.2)
        yield
        process.terminate()
        assert process.wait(SECONDS) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait(SECONDS)


@pytest.fixture
def port():
    """A free one, in the place of that which pages name."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])


@pytest.fixture
def servers():
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets(page, workspace, has_demo_model, finish, tmp_path, port, servers):
    """The commands of the page first, since its Python may look at what they made."""
    folder = shutil.copytree(workspace, tmp_path / "workspace", symlinks=True)
    for words in commands(page):
        words = [word.replace(PORT, port) for word in words]
        if words[0] == "curl":
            if shutil.which("curl") is not None:
                subprocess.run(words, cwd=folder, check=True, timeout=SECONDS)
            continue
        # One process needs no launcher, which would start an interpreter more.
        words = words[2:] if words[:2] == ["accelerate", "launch"] else words
        words = ["python", "scripts/__main__.py", *words[1:]] if words[0] == "ifaformer" else words
        if words[-1] == "&":
            servers.enter_context(in_background(words[:-1], folder, port))
            continue
        assert words[0] == "python", f"{page.name} has a command that no test knows: {shlex.join(words)}"
        finish([sys.executable, *words[1:]], cwd=folder)

    program, expected = python_program(page)
    if not program:
        return
    (folder / "page.py").write_text(program.replace(PORT, port), encoding="utf-8")
    printed = finish([sys.executable, "page.py"], cwd=folder).stdout
    *printed, rest = printed.split("<end of block>\n")
    assert not rest and len(printed) == len(expected)
    for shown, output in zip(expected, printed, strict=True):
        if shown is None:
            assert output == "", "the page does not show what this snippet prints"
        elif has_demo_model or not shown.is_of_demo:  # CI runs `make demo` before the tests
            assert re.fullmatch(re.escape(shown.content).replace(re.escape("..."), "[^\n]*"), output), output


def test_few_snippets_are_not_run():
    assert sum(not block.is_run for page in PAGES for block in blocks(page)) <= MOST_NOT_RUN


def anchors(page):
    """The names by which links reach the headings of a page, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for links in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", page.read_text(encoding="utf-8")):
        link = links[0] or links[1]
        if not link.startswith("http"):
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_messages_of_the_troubleshooting_page_are_those_of_the_code():
    rows = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8").splitlines()
    quoted = [match[1] for row in rows if (match := re.match(r"\| `([^`]+)` \|", row))]
    assert len(quoted) > 4
    code = "".join(
        path.read_text(encoding="utf-8")
        for room in ("modeling_ifaformer", "processing", "hub_card", "scripts")
        for path in (REPOSITORY / room).rglob("*.py")
    )
    assert [message for message in quoted if message not in code] == []


def test_make_demo_ends_with_the_page_that_readme_names():
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    *_, last = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "demo"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert last.endswith("--demo_page runs/demo/index.html")
    assert "`runs/demo/index.html`" in (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_readme_has_the_four_pictures_of_the_page():
    program, _ = python_program(REPOSITORY / "README.md")
    assert f'data["test"].select({[*TYPICAL_TWEETS.values()]})' in program and SENTENCE in program


def test_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 170


def test_signatures_are_those_of_the_code():
    page = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
    names = re.findall(r"^### `([\w.]+)(\(.*\))?`$", page, flags=re.MULTILINE)
    assert len(names) > 30
    for name, shown in names:
        described = described_by(name)  # an error where there is no such name
        assert not shown or str(names_and_defaults(described)) == shown, name


def described_by(name):
    """The function, class, method or property of a dotted name."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            described = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = inspect.getattr_static(described, part, None)
            is_descriptor = isinstance(found, classmethod | staticmethod | property)
            described = getattr(found, "__func__", found) if is_descriptor else getattr(described, part)
        return described
    raise ModuleNotFoundError(name)


def names_and_defaults(described):
    """The signature without annotations, `self` and `cls`."""
    signature = inspect.signature(described)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    return signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
