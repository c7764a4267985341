"""spaCy finds the component by the entry point in setup.cfg, and a pipeline without it costs nothing."""

import configparser
import os
import subprocess
import sys

import pytest


@pytest.fixture
def with_entry_points(repository, tmp_path):
    """The environment of a program in which the project is installed with the entry points of setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(repository / "setup.cfg", encoding="utf-8")
    folder = tmp_path / "installed" / "ifaformer-0.1.0.dist-info"
    folder.mkdir(parents=True)
    points = setup["options.entry_points"]
    lines = [line for name in points for line in (f"[{name}]", *points[name].strip().splitlines())]
    (folder / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: ifaformer\nVersion: 0.1.0\n", encoding="utf-8")
    (folder.parent / "ifaformer_commands").symlink_to(repository / "scripts")
    path = [str(folder.parent), str(repository), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def test_the_entry_point_gives_the_component(with_entry_points, checkpoint):
    program = (
        "import sys, spacy\n"
        "nlp = spacy.blank('en')\n"
        "assert 'modeling_ifaformer' not in sys.modules and 'transformers' not in sys.modules\n"
        f"nlp.add_pipe('ifaformer', config={{'model': {checkpoint!r}}})\n"
        "print([ent._.score is not None for ent in nlp('Jordan met Paris').ents])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], env=with_entry_points, capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("[True"), ran.stdout
