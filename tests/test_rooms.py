"""The rooms stay apart: what the Hub's copy of single files needs."""

import ast

import pytest


ROOMS = ("modeling_ifaformer", "processing")


def imports(path):
    """(dots, module, names) of every import in a file, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module, tuple(alias.name for alias in node.names)


def files(repository, room):
    return sorted((repository / room).glob("*.py"))


@pytest.mark.parametrize(("room", "other"), [ROOMS, ROOMS[::-1]])
def test_rooms_do_not_import_each_other(repository, room, other):
    assert len(files(repository, room)) > 4
    for path in files(repository, room):
        for dots, module, _ in imports(path):
            assert dots or module.split(".")[0] not in (other, room), f"{path.name} imports {module}"


@pytest.mark.parametrize("room", ROOMS)
def test_siblings_are_imported_as_the_hub_s_copy_understands(repository, room):
    siblings = {path.stem for path in files(repository, room)}
    for path in files(repository, room):
        for dots, module, names in imports(path):
            if dots:
                assert dots == 1 and module in siblings, f"{path.name}: from {'.' * dots}{module} import {names}"


def test_no_two_files_share_a_name(repository):
    names = [path.name for room in ROOMS for path in files(repository, room) if path.name != "__init__.py"]
    assert len(names) == len(set(names))


def test_tests_mirror_the_rooms(repository):
    tests = repository / "tests"
    for room in (*ROOMS, "scripts"):
        sources = {path.stem for path in files(repository, room)}
        for test in (tests / room).glob("test_*.py"):
            name = test.stem.removeprefix("test_")
            assert name in sources | {
                "golden_inputs",
                "end_to_end",
                "remote_code",
                "accelerate_configs",
                "relations",
            }, f"{test} tests no file of {room}"
