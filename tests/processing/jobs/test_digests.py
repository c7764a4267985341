import json
import os
from pathlib import Path
from types import ModuleType

import pytest
from transformers import BertweetTokenizer

from processing.features.tokenizer_training import train_wordpiece
from processing.jobs.digests import code_digest, files_digest, picture_id, tokenizer_digest, without_folders


# A project of the same make as this one: who uses whom, and by which kind of import.
FILES = {
    "__init__.py": "from .shown import Shown\nfrom .hidden import Hidden\n",
    "start.py": (
        "import json\nimport processing.plain\nfrom processing import Shown\nfrom processing.deep import inner\n"
        "from .sibling import Sibling as Other\nfrom .unused import unused  # its file travels with this one\n"
        "def run():\n    from .late import late\n    return late(Other, Shown, inner, processing.plain, json)\n"
    ),
    "plain.py": "",
    "shown.py": "from .behind_shown import Shown\n",  # gives on what it does not use itself
    "behind_shown.py": "class Shown: ...\n",
    "hidden.py": "class Hidden: ...\n",
    "sibling.py": "from .start import run\nclass Sibling:\n    go = run\n",  # a circle
    "unused.py": "def unused(): ...\n",
    "late.py": "def late(*parts): ...\n",
    "deep/__init__.py": "",
    "deep/inner.py": "from ..upwards import up\nup()\n",
    "upwards.py": "def up(): ...\n",
    "stranger.py": "",
}
REACHED = FILES.keys() - {"hidden.py", "unused.py", "stranger.py", "deep/__init__.py"}


@pytest.fixture
def project(tmp_path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "processing" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path / "processing"


def part(path: Path) -> ModuleType:
    """A module of that file, which is not run."""
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    return module


@pytest.mark.parametrize("name", FILES)
def test_a_change_counts_where_it_is_reached(project, name):
    before = code_digest(part(project / "start.py"))
    (project / name).write_text(FILES[name] + "# changed\n")
    assert (code_digest(part(project / "start.py")) != before) == (name in REACHED)


def test_where_the_project_lies_does_not_count(project, tmp_path):
    before = code_digest(part(project / "start.py"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    project.rename(elsewhere / "processing")
    assert code_digest(part(elsewhere / "processing" / "start.py")) == before


def test_several_parts_count_together(project):
    first, second = part(project / "plain.py"), part(project / "hidden.py")
    assert code_digest(first, second) == code_digest(second, first) != code_digest(first)
    (project / "hidden.py").write_text("")
    assert code_digest(first, second) != code_digest(first), "a file counts by its name as well"


def test_functions_stand_for_their_file():
    from processing.jobs import digests

    assert code_digest(code_digest) == code_digest(digests)
    with pytest.raises(TypeError):
        code_digest(json.dumps.__call__)


def test_files_digest(tmp_path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "folder").mkdir()
    arguments = ([str(tmp_path / "a"), str(tmp_path / "absent")], [str(tmp_path / "folder")])
    digests = [files_digest(*arguments), files_digest(*arguments)]
    (tmp_path / "a").write_text("2")
    digests.append(files_digest(*arguments))
    (tmp_path / "folder" / "b").touch()
    digests.append(files_digest(*arguments))
    assert digests[0] == digests[1] and len(set(digests)) == 3
    (tmp_path / "folder" / "round").symlink_to(tmp_path / "folder")
    (tmp_path / "folder" / "nowhere").symlink_to("gone")
    (tmp_path / "folder" / "cache").mkdir()
    (tmp_path / "folder" / "cache" / "c").touch()
    passed = {str(tmp_path / "folder" / name) for name in ("cache", "round")}
    assert files_digest(*arguments, passed) == digests[-1] != files_digest(*arguments)


def test_picture_id(tmp_path):
    file = tmp_path / "picture"
    source = {"bytes": None, "path": str(file)}
    absent = picture_id(source)
    file.write_bytes(b"1")
    os.utime(file, (1, 1))
    first = picture_id(source)
    file.write_bytes(b"22")
    os.utime(file, (1, 1))
    longer = picture_id(source)
    os.utime(file, (2, 2))
    assert len({absent, first, longer, picture_id(source)}) == 4
    assert picture_id({"bytes": b"1", "path": "a"}) == picture_id({"bytes": b"1", "path": None})


def test_without_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert without_folders("IDEA-Research/grounding-dino-tiny") == "IDEA-Research/grounding-dino-tiny"
    assert without_folders(str(tmp_path)) == without_folders(".") == tmp_path.name


def test_a_digest_of_a_tokenizer_follows_what_it_makes_of_texts(tmp_path):
    def wordpiece(*words):
        return train_wordpiece(words, 60)

    def python(vocabulary, folder):
        folder.mkdir()
        (folder / "vocab.txt").write_text(vocabulary)
        (folder / "bpe.codes").write_text("J o 1\n")
        return BertweetTokenizer(vocab_file=str(folder / "vocab.txt"), merges_file=str(folder / "bpe.codes"))

    used = wordpiece("Jordan")
    used("Jordan", truncation=True, max_length=3)
    assert tokenizer_digest(used) == tokenizer_digest(wordpiece("Jordan")) != tokenizer_digest(wordpiece("Paris"))
    digests = [
        tokenizer_digest(python(text, tmp_path / name))
        for name, text in zip("abc", ("J 1\n", "J 1\n", "P 1\n"), strict=True)
    ]
    assert digests[0] == digests[1] != digests[2]
