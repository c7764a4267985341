"""Command lines of the scripts: dataclasses filled from a YAML recipe and from flags, flags winning."""

import json
import os
import re
import shlex
import sys
from argparse import Action, ArgumentError, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, fields
from difflib import get_close_matches
from inspect import get_annotations
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool


RECIPES = Path(__file__).parents[1] / "recipes"
RECIPE_ENDINGS = (".yaml", ".yml")
UNSET = ("none", "null", "~", "")
MOST_CHOICES_SHOWN = 8
MOST_VALUES = 10**5  # in a recipe; a few lines of aliases of aliases can stand for any number
FIRST_GROUP = "The options that matter first"


def option(help: str, default: Any = None, choices: Sequence[str] | None = None) -> Any:
    """
    A field of a dataclass of options.

    Args:
        help: full sentence that `--help` shows.
        default: value where the option is not given; a list is copied.
        choices: values that are allowed.
    """
    metadata = {"help": help, **({"choices": choices} if choices else {})}
    if isinstance(default, list):
        return field(default_factory=lambda: [*default], metadata=metadata)
    return field(default=default, metadata=metadata)


def parse_arguments(
    *dataclass_types: type,
    description: str | None = None,
    positional: str | None = None,
    first: Sequence[str] = (),
    takes_recipe: bool = True,
) -> tuple[Any, ...]:
    """
    Read `script.py [recipe] [--option value ...]` into dataclasses.

    A recipe is a YAML file, or the name of one that is shipped (`demo`). Its values are read as flags in front of the
    user's, which win. `none` (in a recipe also `null`) unsets an option whose type allows None.

    `--help` shows an option in the group of the class that declares it; the group's title is the first line of that
    class's docstring.

    Args:
        dataclass_types: dataclasses whose fields, made by [`option`], are the options.
        description: what the command does, the docstring of the script.
        positional: option whose value may be given as the first argument without its name.
        first: options that `--help` shows before all others.
        takes_recipe: whether the first argument may be a recipe.

    Returns:
        An instance of each dataclass, then the recipe's path or None.

    Raises:
        SystemExit: with status 2 and one line on stderr, for what cannot be read.
    """
    starts = [*(["RECIPE"] if takes_recipe else []), *([positional.upper()] if positional else [])]
    usage = f"%(prog)s [{' | '.join(starts)}] [--option value ...]"
    parser = _Parser(dataclass_types, first, description=description, usage=usage)
    arguments, path, values = sys.argv[1:], None, None
    try:
        if arguments and not arguments[0].startswith("-"):
            if takes_recipe and arguments[0].endswith(RECIPE_ENDINGS):
                path = arguments.pop(0)
            elif positional:
                arguments.insert(0, f"--{positional}")
            elif arguments[0] in {recipe.stem for recipe in RECIPES.glob("*.yaml")}:
                path = str(RECIPES / f"{arguments.pop(0)}.yaml")
            else:
                raise ValueError(
                    "The first argument must be a recipe (a file that ends in .yaml, or the name of a shipped one "
                    f"such as demo) or an option that begins with --, got {arguments[0]!r}."
                )
        if path is not None:
            values = parser.read_recipe(path, Path(path))
        values = parser.read(arguments, values)
        options = [
            dtype(**{entry.name: getattr(values, entry.name) for entry in fields(dtype) if entry.init})
            for dtype in dataclass_types
        ]
    # The last three are of options of the library: a file that is not there, a package that is not installed.
    except (ArgumentError, ValueError, TypeError, OSError, ImportError) as error:
        parser.exit(2, f"{' '.join(str(error).split())}\n")
    return (*options, path)


def read_options(dataclass_types: Sequence[type], values: Mapping[str, Any], where: str) -> Namespace:
    """
    Options that a recipe with these values gives; no dataclass is made of them.

    Args:
        dataclass_types: as for [`parse_arguments`].
        values: of options, by their names.
        where: what an error begins with.

    Raises:
        ValueError: for an unknown option, and for a value that is none of its option's.
    """
    return _Parser(dataclass_types, ()).read_recipe(where, yaml.safe_dump(dict(values), sort_keys=False))


class _Parser(HfArgumentParser):
    """HfArgumentParser with recipes, groups of options, and errors that are one sentence about the option."""

    def __init__(self, dataclass_types: Sequence[Any], first: Sequence[str], **kwargs: Any):
        self._hints = {name: hint for dtype in dataclass_types for name, hint in get_type_hints(dtype).items()}
        self._homes: dict[str, Any] = {}  # the class that declares an option with its help, not its default alone
        for home in [home for dtype in dataclass_types for home in reversed(dtype.__mro__)]:
            for name in get_annotations(home):
                if name not in self._homes or home.__dataclass_fields__[name].metadata:
                    self._homes[name] = home
        self._options: dict[str, Action] = {}
        super().__init__(dataclass_types, allow_abbrev=False, exit_on_error=False, **kwargs)
        self._groups = {FIRST_GROUP: [self._options[name] for name in first]} if first else {}
        for home in [home for dtype in dataclass_types for home in dtype.__mro__]:  # its own options, then inherited
            title = str(home.__doc__).strip().splitlines()[0].rstrip(".")
            for name in get_annotations(home):
                if self._homes.get(name) is home and name not in first:
                    self._groups.setdefault(title, []).append(self._options[name])

    def add_argument(self, *names: str, **kwargs: Any) -> Action:
        name = names[0].removeprefix("--")
        if name not in self._homes:  # This is --help, or --no_option, which --help does not show.
            return super().add_argument(*names, **kwargs)
        # A class that changes the default alone has no metadata.
        kwargs = {**self._homes[name].__dataclass_fields__[name].metadata, **kwargs}
        choices, types = kwargs.pop("choices", ()), _types(self._hints[name])
        kwargs["type"] = _reader(names[0], kwargs["type"], types, choices)
        if list in types:
            kwargs["nargs"] = "+"
        kwargs["metavar"] = "true|false" if bool in types and str not in types else "VALUE"
        if 0 < len(choices) <= MOST_CHOICES_SHOWN:
            kwargs["metavar"] = f"{{{','.join(choices)}}}"
        if kwargs.get("default") not in (None, "", []):
            kwargs["help"] = f"{kwargs.get('help', '')} (default: %(default)s)"
        action = self._options[name] = super().add_argument(*names, **kwargs)
        action.option_strings = names[:1]  # --some-option is understood, but not shown.
        return action

    def format_help(self) -> str:
        formatter = RawDescriptionHelpFormatter(self.prog)
        formatter.add_usage(self.usage, (), ())
        formatter.add_text(self.description)
        for title, actions in self._groups.items():
            formatter.start_section(title)
            formatter.add_arguments(actions)
            formatter.end_section()
        return formatter.format_help()

    def read(self, flags: Sequence[str], values: Namespace | None = None) -> Namespace:
        """The values of all options: of the flags, else those given, else the defaults."""
        given = (self._option_string_actions.get(flag.partition("=")[0]) for flag in flags)
        for name, times in Counter(action.dest for action in given if action is not None).items():
            if times > 1 and name in self._options:
                how = " with all its values" if self._options[name].nargs == "+" else ""
                raise ValueError(f"--{name} is given {times} times. Give it once{how}.")
        read, rest = self.parse_known_args(flags, values)
        unknown = [flag.split("=")[0] for flag in rest if flag.startswith("-")]
        if unknown:
            raise ValueError(" ".join(map(self._no_option, unknown)))
        if rest:
            raise ValueError(f"Expected an option that begins with --, got {rest[0]!r}.")
        for name, value in vars(read).items():
            takes_one = {list, str} <= _types(self._hints[name])
            if isinstance(value, list) and len(value) == 1 and (takes_one or value[0] is None):
                setattr(read, name, value[0])
        return read

    def _no_option(self, flag: str) -> str:
        near = get_close_matches(flag.lstrip("-").replace("-", "_"), self._options)
        hint = f"Did you mean {' or '.join(f'--{name}' for name in near)}?" if near else "--help lists them."
        return f"There is no option {flag}. {hint}"

    def read_recipe(self, path: str, content: Path | str) -> Namespace:
        """The values of all options: of YAML, a file or text, else the defaults. Errors begin with `path`."""
        try:
            loader = _RecipeLoader(content if isinstance(content, str) else content.read_text(encoding="utf-8-sig"))
            recipe = loader.get_single_node()
            if not isinstance(recipe, yaml.MappingNode):
                raise ValueError("Expected lines such as `seed: 1`, an option and its value.")
            if loader.size(recipe) > MOST_VALUES:
                raise ValueError(f"It has more than {MOST_VALUES} values, those of its aliases (*name) included.")
            for name, times in Counter(loader.text(key) for key, _ in recipe.value).items():
                if times > 1:
                    raise ValueError(f"--{name} is given {times} times. Give it once.")
            loader.flatten_mapping(recipe)
            flags, lists = [], Namespace()
            for name, node in {loader.text(key): node for key, node in recipe.value}.items():
                types = _types(self._hints.get(name))
                is_list = isinstance(node, yaml.SequenceNode) and list in types
                try:
                    texts = [loader.text(item) for item in (node.value if is_list else [node])]
                except ValueError as error:
                    raise ValueError(f"--{name} cannot be read: {error}") from error
                if str in types and not (isinstance(node, yaml.ScalarNode) or {list, dict} & types):
                    raise ValueError(f"--{name} must be one value, got {texts[0]:.200}.")
                if not texts:
                    raise ValueError(
                        f"--{name} must have at least one value, got []. Without values, remove the line."
                    )
                if is_list:  # As flags, items that begin with a dash would be taken for options.
                    read_item: Any = self._options[name].type
                    setattr(lists, name, [*map(read_item, texts)])
                else:
                    flags.append(f"--{name}={texts[0]}")
            return self.read(flags, lists)
        except RecursionError as error:
            raise ValueError(f"{path}: The values are nested too deeply.") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: Expected text in UTF-8: {error}. Save the file so.") from error
        except yaml.MarkedYAMLError as error:
            place = path if error.problem_mark is None else f"{path}:{error.problem_mark.line + 1}"
            hint = " Indent with spaces, not with tabs." if "'\\t'" in str(error.problem) else ""
            raise ValueError(f"{place}: Expected YAML: {error.problem}.{hint}") from error
        except (ArgumentError, OSError, ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _types(hint: Any) -> set[Any]:
    """The types that a hint allows, without what they hold: list and None for `list[str] | None`."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return {get_origin(part) or part for part in parts}


def _true_or_false(text: str) -> bool:
    """As the library reads it, and `on` and `off`, which are booleans in YAML too."""
    return string_to_bool({"on": "true", "off": "false"}.get(text.lower(), text))


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is JSON, but no object")
    return value


EXPECTED = {int: "a whole number", float: "a number", _true_or_false: "true or false", _json_object: "a JSON object"}


def _reader(flag: str, read: Any, types: set[Any], choices: Sequence[str]) -> Callable[[str], Any]:
    """What reads a value of an option: with the library's `read`, unless it unsets the option or is JSON."""

    def read_option(text: str) -> Any:
        if NoneType in types and text in UNSET:
            return None
        if choices and text not in choices:
            raise ArgumentError(None, f"{flag} must be one of {', '.join(choices)}, got {text!r:.200}.")
        is_json = dict in types and (str not in types or text.lstrip().startswith("{"))
        reader = _json_object if is_json else _true_or_false if read is string_to_bool else read
        try:
            return reader(text)
        except (ValueError, ArgumentTypeError) as error:
            expected, why = EXPECTED.get(reader, "one value"), f": {error}" if is_json else ""
            if list in types:
                expected += ", or several, each a value of its own"
            raise ArgumentError(None, f"{flag} must be {expected}, got {text!r:.200}{why}.") from error

    return read_option


class _RecipeLoader(yaml.SafeLoader):
    """YAML in which `1e-5` is a number inside mappings too, as in newer versions of YAML."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self._sizes: dict[yaml.Node, int] = {}

    def size(self, node: Any) -> int:
        """How many values are in a node once its aliases are replaced by what they stand for."""
        if node not in self._sizes:
            is_mapping = isinstance(node, yaml.MappingNode)
            inner = [part for pair in node.value for part in pair] if is_mapping else node.value
            self._sizes[node] = 1 if isinstance(node, yaml.ScalarNode) else 1 + sum(map(self.size, inner))
        return self._sizes[node]

    def text(self, node: yaml.Node) -> str:
        """A value as it is written, that of a list or a mapping as JSON; a ValueError where JSON cannot hold it."""
        if isinstance(node, yaml.ScalarNode):
            return node.value
        try:
            return json.dumps(self.construct_document(node))
        except RecursionError:
            raise
        except Exception as error:  # A tag or a date that is none comes as nearly every kind of error.
            raise ValueError(f"{type(error).__name__}: {getattr(error, 'problem', error)}") from error


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
        SystemExit: where its folder is not there, or where a folder has its name.
    """
    if path is None:
        return None
    if not Path(path).absolute().parent.is_dir():
        raise SystemExit(f"{path} cannot be written: there is no folder {Path(path).parent}.")
    if Path(path).is_dir():
        raise SystemExit(f"{path} cannot be written: it is a folder. Name a file.")
    return Path(path)


def check_device(name: str | None) -> None:
    """
    Refuse a device that this machine does not have, before any work. None is the default device.

    Raises:
        ValueError: with the names of the devices that are there.
    """
    if name is None:
        return
    import torch  # Not above, since `--help` must not wait for it.

    there = ["cpu"]
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is not None:
        numbers = range(torch.accelerator.device_count())
        there += [accelerator.type, *(f"{accelerator.type}:{number}" for number in numbers)]
    if name not in there:
        raise ValueError(f"--device must be a device of this machine ({', '.join(there)}), got {name!r}.")


@contextmanager
def user_errors(*more: type[Exception]) -> Iterator[None]:
    """
    Around the call into a room: what the room says of the user's input becomes the last line of the command, which
    ends with status 1.

    Args:
        more: errors that are told so besides ValueError, OSError and those of a configuration's values.

    Raises:
        SystemExit: with the message of such an error.
    """
    errors: tuple[type[Exception], ...] = (ValueError, OSError, StrictDataclassError, *more)
    try:
        yield
    except errors as error:
        from processing.jobs.cache_errors import FULL_DISK

        told = str(error)
        # Not where a room says it in its own words.
        if isinstance(error, OSError) and error.errno is not None and error.strerror == os.strerror(error.errno):
            told = f"{error.strerror}." if error.filename is None else f"{error.filename}: {error.strerror}."
            if error.errno in FULL_DISK:
                told += " Free some space, and give the same command again."
        raise SystemExit(told) from error
