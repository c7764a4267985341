"""Command lines of the scripts: dataclasses filled from a YAML recipe and from flags, flags winning."""

import json
import re
import shlex
import sys
from argparse import (
    OPTIONAL,
    SUPPRESS,
    Action,
    ArgumentDefaultsHelpFormatter,
    ArgumentError,
    RawDescriptionHelpFormatter,
)
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import Field, field, fields
from difflib import get_close_matches
from inspect import get_annotations
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser


RECIPES = Path(__file__).parent / "recipes"
RECIPE_ENDINGS = (".yaml", ".yml")
MOST_CHOICES_SHOWN = 8
FIRST_GROUP = "The options that matter first"
EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", dict: "a JSON object"}


def option(help: str, default: Any = None, choices: Sequence[str] | None = None, none_is_text: bool = False) -> Any:
    """
    A field of a dataclass of options.

    Args:
        help: full sentence that `--help` shows.
        default: value where the option is not given; a list is copied.
        choices: values that are allowed.
        none_is_text: whether the value "none" has a meaning of its own, and does not unset the option.
    """
    metadata: dict[str, Any] = {"help": help}
    if choices:
        metadata["choices"] = choices
    if none_is_text:
        metadata["none_is_text"] = True
    if isinstance(default, list):
        return field(default_factory=lambda: [*default], metadata=metadata)
    return field(default=default, metadata=metadata)


def parse_arguments(
    *dataclass_types: type, description: str | None = None, positional: str | None = None, first: Sequence[str] = ()
) -> tuple[Any, ...]:
    """
    Read `script.py [recipe] [--option value ...]` into dataclasses.

    A recipe is a YAML file, or the name of one that is shipped (`demo`). Its values are read and checked as those of
    flags are, and flags win over them. `none` (in a recipe also `null`) unsets an option whose type allows None.

    `--help` shows an option in the group of the class that declares it; the group's title is the first line of that
    class's docstring.

    Args:
        dataclass_types: dataclasses whose fields, made by [`option`], are the options.
        description: what the command does, the docstring of the script.
        positional: option whose value may be given as the first argument without its name.
        first: options that `--help` shows before all others.

    Returns:
        An instance of each dataclass, then the recipe's path or None.

    Raises:
        SystemExit: with status 2 and one line on stderr, for what cannot be read.
    """
    usage = f"%(prog)s [RECIPE{f' | {positional.upper()}' if positional else ''}] [--option value ...]"
    parser = _Parser(dataclass_types, first, description=description, usage=usage)
    arguments = sys.argv[1:]
    path = None
    if arguments and not arguments[0].startswith("-"):
        shipped = RECIPES / f"{arguments[0]}.yaml"
        if arguments[0].endswith(RECIPE_ENDINGS):
            path = arguments.pop(0)
        elif positional:
            arguments.insert(0, f"--{positional}")
        elif shipped.is_file():
            path = str(shipped)
            del arguments[0]
        else:
            parser.error(
                "The first argument must be a recipe (a file that ends in .yaml, or the name of a shipped one such as "
                f"demo) or an option that begins with --, got {arguments[0]!r}."
            )
    if path is not None:
        # The recipe's values become the defaults.
        parser.set_defaults(**parser.recipe_values(path))
    return (*parser.instances(arguments), path)


class _HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Examples as they are written, each option once, and the defaults that say something."""

    def _format_action_invocation(self, action: Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        shown = [option for option in action.option_strings if "-" not in option[2:]]
        values = "[true|false]" if action.nargs == OPTIONAL else self._format_args(action, "VALUE")
        if action.choices is not None and len(list(action.choices)) > MOST_CHOICES_SHOWN:
            values = "VALUE"
        return f"{', '.join(shown)} {values}".rstrip()

    def _get_help_string(self, action: Action) -> str | None:
        return action.help if action.default in (None, "", []) else super()._get_help_string(action)


class _Parser(HfArgumentParser):
    """HfArgumentParser with groups of options, one check for flags and recipes, and messages of one line."""

    def __init__(self, dataclass_types: Iterable[Any], first: Sequence[str], **kwargs: Any):
        self._groups: dict[str, Any] = {}
        self._hints: dict[str, Any] = {}
        self._none_is_text: set[str] = set()
        self._first = first
        super().__init__(formatter_class=_HelpFormatter, allow_abbrev=False, **kwargs)
        self._optionals.title = "Help"
        if first:
            self._group(FIRST_GROUP)
        for dataclass_type in dataclass_types:
            self._add_dataclass_arguments(dataclass_type)
        self.dataclass_types = [*dataclass_types]
        if first:
            # A group shows its options in the order in which they were added.
            self._group(FIRST_GROUP)._group_actions.sort(key=lambda action: first.index(action.dest))

    def _group(self, title: str) -> Any:
        if title not in self._groups:
            self._groups[title] = self.add_argument_group(title)
        return self._groups[title]

    def _add_dataclass_arguments(self, dtype: type) -> None:
        hints = get_type_hints(dtype)
        left = {entry.name: entry for entry in fields(dtype) if entry.init}
        for declaring in dtype.__mro__:  # What is special to the command comes before what it inherits.
            for name in [*left]:
                declared = vars(declaring).get("__dataclass_fields__", {}).get(name)
                # A class that changes the default alone leaves the option where its help is.
                if declared is not None and name in get_annotations(declaring) and declared.metadata:
                    self._add_option(left.pop(name), declared.metadata, hints[name], declaring)
        for name, entry in left.items():
            self._add_option(entry, entry.metadata, hints[name], dtype)

    def _add_option(self, entry: Field, metadata: Any, hint: Any, declaring: type) -> None:
        entry = copy(entry)  # The library writes into it.
        entry.type = hint
        entry.metadata = MappingProxyType({name: metadata[name] for name in metadata if name != "none_is_text"})
        if metadata.get("none_is_text"):
            self._none_is_text.add(entry.name)
        self._hints[entry.name] = hint
        docstring = str(declaring.__doc__)
        # A dataclass without a docstring gets its signature as one.
        title = "Options" if docstring.startswith(f"{declaring.__name__}(") else docstring.strip().splitlines()[0]
        group = self._group(FIRST_GROUP if entry.name in self._first else title.rstrip("."))
        self._parse_dataclass_field(group, entry)
        for action in self._actions:
            if f"--no_{entry.name}" in action.option_strings:
                action.help = SUPPRESS  # `--option false` says the same.

    # How a value is read, from a flag or from a recipe:

    def _types(self, action: Action) -> set[Any]:
        """The types that an option allows, without what they hold: list and None for `list[str] | None`."""
        hint = self._hints.get(action.dest, str)
        parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        return {get_origin(part) or part for part in parts}

    def _get_values(self, action: Action, arg_strings: list[str]) -> Any:
        may_be_none = type(None) in self._types(action) and action.dest not in self._none_is_text
        if action.option_strings and may_be_none and arg_strings in (["none"], [""]):
            return None
        return super()._get_values(action, arg_strings)

    def _get_value(self, action: Action, arg_string: str) -> Any:
        name, types = self._shown(action), self._types(action) - {type(None)}
        if dict in types and (arg_string.lstrip().startswith("{") or str not in types):
            try:
                value = json.loads(arg_string)
            except ValueError as error:
                raise ArgumentError(None, f"{name} must be a JSON object, got {arg_string!r}: {error}.") from error
            if not isinstance(value, dict):
                raise ArgumentError(None, f"{name} must be a JSON object, got {arg_string!r}.")
            return value
        try:
            return super()._get_value(action, arg_string)
        except ArgumentError as error:
            raise ArgumentError(None, f"{name} must be {self._expected(action)}, got {arg_string!r}.") from error

    def _expected(self, action: Action) -> str:
        # The library reads true and false with a function of its own.
        return EXPECTED.get(action.type if isinstance(action.type, type) else bool, "one value")

    def _check_value(self, action: Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = ", ".join(map(str, action.choices))
            raise ArgumentError(None, f"{self._shown(action)} must be one of {choices}, got {value!r}.")

    def _match_argument(self, action: Action, arg_strings_pattern: str) -> int:
        try:
            return super()._match_argument(action, arg_strings_pattern)
        except ArgumentError as error:
            raise ArgumentError(None, f"{self._shown(action)} needs a value.") from error

    def _shown(self, action: Action) -> str:
        return action.option_strings[0] if action.option_strings else action.dest

    # How flags are read:

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, rest = super().parse_known_args(args, namespace)
        unknown = [argument.split("=")[0] for argument in rest if argument.startswith("-")]
        if unknown:
            self.error(self._no_option(unknown))
        if rest:
            self.error(f"Expected an option that begins with --, got {rest[0]!r}.")
        return parsed, rest

    def instances(self, arguments: list[str]) -> tuple[Any, ...]:
        """The dataclasses with the values of the flags."""
        try:
            return self.parse_args_into_dataclasses(arguments, look_for_args_file=False)
        except ValueError as error:  # A dataclass may check its values itself.
            self.error(str(error))

    def _no_option(self, names: Iterable[str]) -> str:
        """A sentence for each name that is no option, with its neighbours."""
        sentences = []
        for name in names:
            near = get_close_matches(name.lstrip("-").replace("-", "_"), self._hints)
            hint = f"Did you mean {' or '.join(f'--{word}' for word in near)}?" if near else "--help lists them."
            sentences.append(f"There is no option {name}. {hint}")
        return " ".join(sentences)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{' '.join(message.split())}\n")

    # How recipes are read:

    def recipe_values(self, path: str) -> dict[str, Any]:
        """Values by the name of the option, each read and checked as that of a flag is."""
        by_name = {action.option_strings[0]: action for action in self._actions if action.dest in self._hints}
        try:
            loader = _RecipeLoader(Path(path).read_text(encoding="utf-8-sig"))
            recipe = loader.get_single_node()
            if not isinstance(recipe, yaml.MappingNode):
                raise ValueError("Expected lines such as `seed: 1`, an option and its value.")
            loader.flatten_mapping(recipe)
            names = [f"--{key.value}" if isinstance(key, yaml.ScalarNode) else "[...]" for key, _ in recipe.value]
            unknown = [name for name in names if name not in by_name]
            if unknown:
                raise ValueError(self._no_option(unknown))
            actions = [by_name[name] for name in names]
            return {
                action.dest: self._recipe_value(action, node, loader)
                for action, (_, node) in zip(actions, recipe.value, strict=True)
            }
        except RecursionError:
            self.error(f"{path}: The values are nested too deeply.")
        except (OSError, ValueError, ArgumentError, yaml.YAMLError) as error:
            self.error(f"{path}: {getattr(error, 'strerror', None) or error}")

    def _recipe_value(self, action: Action, node: yaml.Node, loader: "_RecipeLoader") -> Any:
        def text(scalar: yaml.Node) -> str:
            return "none" if scalar.tag == "tag:yaml.org,2002:null" else scalar.value

        types = self._types(action)
        takes_list = action.nargs not in (None, OPTIONAL)
        if isinstance(node, yaml.ScalarNode):
            return self._get_values(action, [text(node)])
        if isinstance(node, yaml.MappingNode) and dict in types:
            try:
                value = loader.construct_document(node)
                json.dumps(value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{self._shown(action)} in line {node.start_mark.line + 1}: {error}.") from error
            return value
        is_flat = isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value)
        if is_flat and takes_list:
            return self._get_values(action, [text(item) for item in node.value])
        if is_flat and list in types:
            return [text(item) for item in node.value]
        expected = "a list of single values" if takes_list else self._expected(action)
        came = "a mapping" if isinstance(node, yaml.MappingNode) else "a nested list" if takes_list else "a list"
        raise ValueError(f"{self._shown(action)} must be {expected}, got {came} in line {node.start_mark.line + 1}.")


class _RecipeLoader(yaml.SafeLoader):
    """YAML in which `1e-5` is a number inside mappings too, as in newer versions of YAML."""


_RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def this_command(*launcher: str) -> str:
    """
    This run, for a shell: `python scripts/score.py ...` or `ifaformer score ...`.

    Args:
        launcher: what starts a script; `python` if left out.
    """
    started_as, *arguments = sys.argv
    if started_as.endswith(".py"):
        return shlex.join([*(launcher or ("python",)), started_as, *arguments])
    return f"{started_as} {shlex.join(arguments)}".rstrip()


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
    errors: tuple[type[Exception], ...] = (ValueError, OSError, *more)
    try:
        yield
    except errors as error:
        raise SystemExit(str(error)) from error
