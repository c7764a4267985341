"""The house is as ARCHITECTURE's one rule has it: what lies where, who imports whom, and what travels to the Hub."""

import ast
import configparser

import pytest
from transformers.dynamic_module_utils import get_relative_import_files


TRAVELLING_ROOMS = ("modeling_ifaformer", "processing")
ROOMS = (*TRAVELLING_ROOMS, "hub_card", "scripts")
PACKAGES = {"modeling_ifaformer", "processing", "hub_card", "ifaformer_commands"}
# What the auto classes of a saved folder name; all else travels because these files import it.
ENTRY_FILES = {
    "modeling_ifaformer": ("modeling_ifaformer.py", "modeling_baseline.py"),
    "processing": ("processing_ifaformer.py",),
}
MOST_FILES, MOST_TRAVELLING_FILES = 12, 18  # of the model, a file for each family of towers
MOST_LINES_OF_A_COMMAND = 150
# Of each room and below it, what it may import of ours; a room's own parts besides.
MAY_IMPORT = {
    "processing": set(),
    "hub_card": {"processing"},
    "modeling_ifaformer": {"processing", "hub_card"},
    "scripts": PACKAGES,
}


def sources(folder):
    """The Python files of a folder, but for `__init__.py`."""
    return sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")


def sources_below(folder):
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imports(path):
    """(dots, module) of every import in a file, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


@pytest.mark.parametrize("room", TRAVELLING_ROOMS)
def test_exactly_the_files_at_the_root_travel(repository, room):
    entries = [str(repository / room / name) for name in ENTRY_FILES[room]]
    travelling = {*entries, *(path for entry in entries for path in get_relative_import_files(entry))}
    assert travelling == {str(path) for path in sources(repository / room)}


def test_no_two_travelling_files_share_a_name(repository):
    names = [path.name for room in TRAVELLING_ROOMS for path in sources(repository / room)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("room", TRAVELLING_ROOMS)
def test_travelling_files_import_siblings_alone(repository, room):
    siblings = {path.stem for path in sources(repository / room)}
    for path in sources(repository / room):
        for dots, module in imports(path):
            if dots:
                assert dots == 1 and module in siblings, f"{path.name}: from {'.' * dots}{module}"
            else:
                assert module.split(".")[0] not in PACKAGES, f"{path.name} imports {module}"


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_downwards(repository, room):
    own = {"scripts": "ifaformer_commands"}.get(room, room)
    for path in sources_below(repository / room):
        if path.parent == repository / "hub_card" / "space":
            continue  # the page of a Space runs where this project is not installed
        for dots, module in imports(path):
            package = module.split(".")[0]
            if not dots and package in PACKAGES - {own}:
                assert package in MAY_IMPORT[room], f"{path.relative_to(repository)} imports {module}"


def test_folders_are_small(repository):
    for room in ROOMS:
        for folder in {path.parent for path in sources_below(repository / room)}:
            travels = folder in (repository / "modeling_ifaformer", repository / "processing")
            most = MOST_TRAVELLING_FILES if travels else MOST_FILES
            number = sum(path.name != "__main__.py" for path in sources(folder))
            assert number <= most, f"{folder.relative_to(repository)} has {number} files"


def test_commands_are_short_and_import_no_other_command(repository):
    commands = [path for path in sources(repository / "scripts") if "\ndef main(" in path.read_text(encoding="utf-8")]
    names = {path.stem for path in commands}
    for path in commands:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES_OF_A_COMMAND, path.name
        assert not {module for _, module in imports(path)} & names, path.name


def test_every_folder_is_installed(repository):
    setup = configparser.ConfigParser()
    setup.read(repository / "setup.cfg", encoding="utf-8")
    installed = set(setup["options"]["packages"].split())
    folders = {path.parent.relative_to(repository) for room in ROOMS for path in sources_below(repository / room)}
    folders -= {folder for folder in folders if folder.parts == ("hub_card", "space")}  # package data
    packages = {".".join(folder.parts) for folder in folders}
    assert installed == {name.replace("scripts", "ifaformer_commands", 1) for name in packages}


def test_tests_mirror_the_rooms(repository):
    # What goes through several rooms, or is no Python file, has tests of its own at the root of a room's tests.
    across = {"golden_inputs", "remote_code", "accelerate_configs", "end_to_end", "relations", "space_app"}
    across |= {"space_in_browser", "real_tweets", "cases", "several_pictures"}
    for room in ROOMS:
        for test in sources_below(repository / "tests" / room):
            if test.name.startswith("test_"):
                name, folder = test.stem.removeprefix("test_"), test.parent.relative_to(repository / "tests")
                there = {path.stem for path in sources(repository / folder)}
                assert name in there | across, f"{test.relative_to(repository)} tests no file of {folder}"
