"""Command lines of the scripts: dataclasses filled from a YAML recipe and from flags, flags winning."""

import sys
from argparse import ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser


class _HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Examples as they are written, and the defaults of options."""


def parse_arguments(
    *dataclass_types: type, description: str | None = None, positional: str | None = None
) -> tuple[Any, ...]:
    """
    `script.py [recipe.yaml] [--flag value ...]`, an instance for each dataclass, then the recipe's path or None. With
    `positional`, a first argument that is no recipe is the value of that option.

    Exits with a message for a recipe that is no mapping or has keys that no dataclass knows.
    """
    parser = HfArgumentParser(dataclass_types, description=description, formatter_class=_HelpFormatter)
    parser.add_argument("recipe", nargs="?", help="YAML file with values of the options below; flags win over it")
    # The recipe's values become the defaults, so it is looked for before everything else is parsed.
    arguments = sys.argv[1:]
    if positional and arguments and not arguments[0].startswith("-") and not arguments[0].endswith((".yaml", ".yml")):
        arguments.insert(0, f"--{positional}")
    path = arguments[0] if arguments and arguments[0].endswith((".yaml", ".yml")) else None
    if path is not None:
        try:
            with open(path, encoding="utf-8") as file:
                recipe = yaml.safe_load(file)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            parser.error(f"recipe {path}: {error}")
        if not isinstance(recipe, dict):
            parser.error(f"{path} must hold a mapping from options to values, got {type(recipe).__name__}")
        known = {action.dest for action in parser._actions}
        unknown = sorted(set(recipe) - known)
        if unknown:
            parser.error(f"{path} has unknown options {unknown}")
        parser.set_defaults(**recipe)
    *parsed, namespace, unknown = parser.parse_args_into_dataclasses(arguments, return_remaining_strings=True)
    if unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)}")
    if namespace.recipe != path:
        parser.error(f"expected a recipe ending in .yaml as the first argument, got {namespace.recipe}")
    return (*parsed, path)


def output_path(path: str | None) -> Path | None:
    """
    A file that the command will write, before it has done its work.

    Raises:
        SystemExit: where its folder is not there.
    """
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise SystemExit(f"{path} cannot be written: there is no folder {Path(path).parent}.")
    return None if path is None else Path(path)


@contextmanager
def user_errors(*more: type[Exception]) -> Iterator[None]:
    """
    Around the call into a room: what the room says of the user's input becomes the last line of the command, which
    ends with status 1.

    Args:
        more: errors that are told so besides ValueError and OSError.

    Raises:
        SystemExit: with the message of such an error.
    """
    try:
        yield
    except (ValueError, OSError, *more) as error:
        raise SystemExit(str(error)) from error
