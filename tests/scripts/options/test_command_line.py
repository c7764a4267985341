import errno
import os
import re
from dataclasses import dataclass, make_dataclass
from pathlib import Path

import pytest
import torch
import yaml

from ifaformer_commands.options.command_line import (
    FIRST_GROUP,
    RECIPES,
    check_device,
    option,
    output_path,
    parse_arguments,
    this_command,
    user_errors,
)


@dataclass
class Common:
    """Options of everything."""

    name: str = option("The name.", "demo")
    steps: int = option("The number of steps.", -1)


@dataclass
class Options(Common):
    """Options of this command.

    They are many.
    """

    name: str = "other"  # the default alone: the option stays where its help is
    rate: float = option("The rate.", 0.1)
    fast: bool = option("Whether to hurry.", True)
    maybe: bool | None = option("Whether to think.")
    model: str | None = option("The model.")
    config: dict | str | None = option("The configuration.")
    mapping: dict | None = option("The mapping.")
    seeds: list[int] | None = option("The seeds.")
    words: list[str] = option("The words.", [])
    loggers: None | str | list[str] = option("The loggers.", "board")  # noqa: RUF036  (the library wants None first)
    limit: int | None = option("The limit.", 3)
    split: str | None = option("The split.", choices=("train", "test"))
    letter: str | None = option("The letter.", choices="abcdefghijklm")
    long_name: int = option("The name of several words.", 0)


@pytest.fixture
def parse(monkeypatch):
    """`parse("--flag", "value", ...)` -> the options and the recipe's path."""

    def run(*arguments, **options):
        monkeypatch.setattr("sys.argv", ["train.py", *map(str, arguments)])
        return parse_arguments(Options, **options)

    return run


@pytest.fixture
def refused(parse, capsys):
    """`refused("--flag", ...)` -> the one line on stderr with which the arguments are refused."""

    def run(*arguments, **options):
        with pytest.raises(SystemExit) as end:
            parse(*arguments, **options)
        printed = capsys.readouterr()
        assert end.value.code == 2 and not printed.out
        (line,) = printed.err.splitlines()
        return line

    return run


@pytest.fixture
def recipe(tmp_path):
    """`recipe("seed: 1")` -> the path of a file that holds it."""

    def write(content):
        path = tmp_path / "recipe.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


class TestValues:
    # In a recipe and as flags, and what they mean.
    SAME = (
        ("rate: 1e-5", ("--rate", "1e-5"), {"rate": 1e-5}),
        ("rate: 1.0e-3", ("--rate=0.001",), {"rate": 1e-3}),
        ("steps: -1", ("--steps", "-1"), {"steps": -1}),
        ("fast: no", ("--fast", "no"), {"fast": False}),
        ("fast: false", ("--no_fast",), {"fast": False}),
        ("fast: yes", ("--fast",), {"fast": True}),
        ("fast: off", ("--fast", "Off"), {"fast": False}),
        ("maybe: on", ("--maybe", "on"), {"maybe": True}),
        ("model: on", ("--model", "on"), {"model": "on"}),
        ("maybe: true", ("--maybe", "TRUE"), {"maybe": True}),
        ("model: 2017", ("--model", "2017"), {"model": "2017"}),
        ("model: no", ("--model", "no"), {"model": "no"}),
        ("model: 2001-99-99", ("--model", "2001-99-99"), {"model": "2001-99-99"}),
        ("seeds: [1, 2]", ("--seeds", "1", "2"), {"seeds": [1, 2]}),
        ("seeds: 1", ("--seeds", "1"), {"seeds": [1]}),
        ("words: [a b, no]", ("--words", "a b", "no"), {"words": ["a b", "no"]}),
        (
            "config: {a: 3, b: 1e-5}",
            ("--config", '{"a": 3, "b": 1e-5}'),
            {"config": {"a": 3, "b": 1e-5}},
        ),
        ("config: a.json", ("--config", "a.json"), {"config": "a.json"}),
        ("mapping: {a: {b: [1]}}", ("--mapping", '{"a": {"b": [1]}}'), {"mapping": {"a": {"b": [1]}}}),
        ("split: train", ("--split", "train"), {"split": "train"}),
        ("loggers: file", ("--loggers", "file"), {"loggers": "file"}),
        ("loggers: [board, file]", ("--loggers", "board", "file"), {"loggers": ["board", "file"]}),
    )

    @pytest.mark.parametrize("written, flags, expected", SAME)
    def test_a_recipe_says_what_flags_say(self, parse, recipe, written, flags, expected):
        path = recipe(written)
        of_flags, none = parse(*flags)
        of_recipe, given = parse(path)
        assert (none, given) == (None, str(path))
        assert of_flags == of_recipe == Options(**expected)

    def test_values_can_be_shared_within_a_recipe(self, parse, recipe):
        assert parse(recipe("<<: {rate: 3, steps: 2}\nsteps: 1"))[0] == Options(rate=3.0, steps=1)

    def test_items_of_a_list_may_look_like_options(self, parse, recipe):
        written = "{words: ['-foo', '--rate', b], seeds: [-1, 2], loggers: [-x]}"
        expected = Options(words=["-foo", "--rate", "b"], seeds=[-1, 2], loggers="-x")
        assert parse(recipe(written))[0] == expected
        assert parse(recipe(written), "--words", "c")[0].words == ["c"]

    def test_a_list_wins_over_the_value_that_it_replaces(self, parse, recipe):
        assert parse(recipe("<<: {seeds: 2}\nseeds: [1, 3]"))[0].seeds == [1, 3]

    def test_flags_win(self, parse, recipe):
        options, _ = parse(recipe("{rate: 0.5, steps: 7, fast: false, seeds: [1]}"), "--rate", "2", "--fast", "true")
        assert options == Options(rate=2.0, steps=7, fast=True, seeds=[1])

    def test_a_flag_unsets_what_the_recipe_sets(self, parse, recipe):
        names = ("model", "config", "mapping", "seeds", "limit", "split", "maybe")
        path = recipe("{model: m, config: {a: 1}, mapping: {a: 1}, seeds: [1], limit: 5, split: train, maybe: true}")
        assert None not in [getattr(parse(path)[0], name) for name in names]
        unset = [argument for name in names for argument in (f"--{name}", "none")]
        assert [getattr(parse(path, *unset)[0], name) for name in names] == [None] * 7
        assert parse(path, "--model", "")[0].model is None
        assert [parse(recipe(f"limit: {null}"))[0].limit for null in ("null", "~", "")] == [None] * 3


class TestRefusal:
    # What is wrong in a recipe and as flags, and what is said.
    SAME = (
        ("rate: fast", ("--rate", "fast"), "--rate must be a number, got 'fast'."),
        ("steps: 1.5", ("--steps", "1.5"), "--steps must be a whole number, got '1.5'."),
        ("steps: none", ("--steps", "none"), "--steps must be a whole number, got 'none'."),
        ("fast: perhaps", ("--fast", "perhaps"), "--fast must be true or false, got 'perhaps'."),
        (
            "seeds: [1, x]",
            ("--seeds", "1", "x"),
            "--seeds must be a whole number, or several, each a value of its own, got 'x'.",
        ),
        ("split: tst", ("--split", "tst"), "--split must be one of train, test, got 'tst'."),
        ("mapping: word", ("--mapping", "word"), "--mapping must be a JSON object, got 'word'"),
        ("rat: 3", ("--rat", "3"), "There is no option --rat. Did you mean --rate?"),
        (
            "wrods: 3\nsplt: 1",
            ("--wrods", "3", "--splt=1"),
            "--words? There is no option --splt. Did you mean --split?",
        ),
        ("qqqq: 3", ("--qqqq",), "There is no option --qqqq. --help lists them."),
    )

    @pytest.mark.parametrize("written, flags, expected", SAME)
    def test_a_recipe_is_refused_as_flags_are(self, refused, recipe, written, flags, expected):
        path = recipe(written)
        assert expected in refused(*flags)
        line = refused(path)
        assert expected in line and line.startswith(f"{path}: ")

    @pytest.mark.parametrize(
        "written, expected",
        [
            ("", "an option and its value"),
            ("- 1", "an option and its value"),
            ("just words", "an option and its value"),
            ("{1: a, b: c}", "There is no option --1."),
            ("[a]: 1", 'There is no option --["a"].'),
            ("rate: [1, 2]", "--rate must be a number, got '[1, 2]'."),
            ("steps: 1\nrate: {a: 1}", "--rate must be a number, got '{\"a\": 1}'."),
            (
                "seeds: {a: 1}",
                "--seeds must be a whole number, or several, each a value of its own, got '{\"a\": 1}'.",
            ),
            ("seeds: [[1]]", "--seeds must be a whole number, or several, each a value of its own, got '[1]'."),
            ("seeds: []", "--seeds must have at least one value, got []."),
            ("words: [a, [2001-01-01]]", "--words cannot be read: TypeError: Object of type date"),
            ("config: {a: 2001-99-99}", "--config cannot be read: ValueError: month must be in 1..12"),
            (
                "config: {a: 2001-01-01}",
                "--config cannot be read: TypeError: Object of type date is not JSON serializable",
            ),
            ("config: {a: !!timestamp soon}", "--config cannot be read: AttributeError: "),
            ("config: {a: !!bool perhaps}", "--config cannot be read: KeyError: 'perhaps'"),
            ("config: " + "[" * 5000, "nested too deeply"),
            ("config: &a {b: *a}", "nested too deeply"),
            ("config: '" + '{"a":' * 5000 + "'", ": it is nested too deeply."),
            ("split: [train, test]", '--split must be one value, got ["train", "test"].'),
            ("rate: 1\nsteps: 2\nrate: 3", "--rate is given 2 times. Give it once."),
            ("rate: " + "x" * 10**5, "got 'xxx"),
            ("rate: {", ":1: Expected YAML: "),
            (
                "rate: 1\nmapping:\n\ta: 1",
                ":3: Expected YAML: found character '\\t' that cannot start any token. Indent",
            ),
            ("rate: 1".encode("utf-16"), "Expected text in UTF-8: "),
            (b"model: \x00", "special characters are not allowed"),
            (
                "model: !!python/object/apply:os.getcwd []",
                "--model cannot be read: ConstructorError: could not determine a constructor",
            ),
        ],
    )
    def test_a_broken_recipe_ends_in_one_line(self, refused, recipe, written, expected):
        path = recipe(written)
        line = refused(path)
        assert expected in line and line.startswith(f"{path}:") and len(line) < 1000

    @pytest.mark.parametrize("last", ["config: *a9", "<<: *a9"])
    def test_aliases_that_stand_for_aliases(self, refused, recipe, last):
        lines = ["config: &a0 {x: 1}"]
        lines += [f"a{n}: &a{n} {{{', '.join(f'k{i}: *a{n - 1}' for i in range(9))}}}" for n in range(1, 10)]
        assert "more than 100000 values" in refused(recipe("\n".join([*lines, last])))

    def test_a_recipe_that_is_not_there(self, refused, tmp_path):
        assert refused(tmp_path / "absent.yaml") == f"{tmp_path / 'absent.yaml'}: No such file or directory"

    def test_a_name_that_is_too_long_for_a_file(self, refused):
        assert "must be a recipe" in refused("x" * 300)

    def test_flags(self, refused):
        assert refused("--rate") == "argument --rate: expected one argument"
        assert refused("--seeds") == "argument --seeds: expected at least one argument"
        assert "Expected an option that begins with --, got 'x'." in refused("--rate", "1", "x")
        assert "must be a recipe" in refused("dmo") and "demo" in refused("dmo")

    def test_a_dataclass_that_refuses_its_values(self, monkeypatch, capsys):
        @dataclass
        class Strict:
            size: int = 1

            def __post_init__(self):
                if self.size < 1:
                    raise ValueError(f"--size must be at least 1, got {self.size}.")

        for arguments, expected in (
            (["--size", "0"], "--size must be at least 1, got 0.\n"),
            (["--size", "0", "--sze", "1"], "There is no option --sze. Did you mean --size?\n"),
        ):
            monkeypatch.setattr("sys.argv", ["train.py", *arguments])
            with pytest.raises(SystemExit):
                parse_arguments(Strict)
            assert capsys.readouterr().err == expected


def test_what_the_system_says_of_files():
    with pytest.raises(SystemExit, match=r"^/x/a: No such file or directory\.$"), user_errors():
        Path("/x/a").read_bytes()
    with pytest.raises(SystemExit, match=r"^Broken pipe\.$"), user_errors():
        raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
    with pytest.raises(SystemExit, match=r"^/x/a: No space left on device\. Free some space, and give"), user_errors():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/a")
    with pytest.raises(SystemExit, match=r"the cache is full\.$"), user_errors():
        raise OSError(errno.ENOSPC, "the cache is full.")


class TestHelp:
    def test_options_are_grouped(self, parse, capsys):
        with pytest.raises(SystemExit) as end:
            parse("--help", description="Do it.\n\n    as written", first=("seeds", "steps"))
        shown = capsys.readouterr().out
        assert end.value.code == 0 and "Do it.\n\n    as written" in shown
        titles = re.findall(r"^(\w.*):$", shown, flags=re.MULTILINE)
        assert titles == [FIRST_GROUP, "Options of this command", "Options of everything"]
        first, own, common = (shown.split(f"{title}:\n")[1].split("\n\n")[0] for title in titles)
        assert re.findall(r"--\w+", first) == ["--seeds", "--steps"]
        assert {"--rate", "--split"} < set(re.findall(r"--\w+", own)) and "--no_fast" not in own
        assert "--fast [true|false]" in own and "--words VALUE [VALUE ...]" in own and "--split {train,test}" in own
        assert "--letter VALUE" in own
        assert re.findall(r"--\w+", common) == ["--name"] and "The name. (default: other)" in common

    def test_the_usage_is_one_line(self, parse, capsys):
        with pytest.raises(SystemExit):
            parse("--help", positional="model")
        assert capsys.readouterr().out.splitlines()[0] == "usage: train.py [RECIPE | MODEL] [--option value ...]"


def test_the_first_argument(parse, recipe):
    assert parse("some/model", positional="model")[0].model == "some/model"
    path = recipe("model: of-recipe")
    assert parse(path, positional="model") == (Options(model="of-recipe"), str(path))


def test_shipped_recipes_are_found_by_name(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "demo"])
    keys = yaml.safe_load((RECIPES / "demo.yaml").read_text(encoding="utf-8"))
    options, path = parse_arguments(make_dataclass("Anything", [(key, dict | str | None, None) for key in keys]))
    assert path == str(RECIPES / "demo.yaml") and options.dataset == "demo"


@pytest.mark.parametrize(
    "argv, expected",
    [
        (["scripts/score.py", "--output", "a b.json"], "python scripts/score.py --output 'a b.json'"),
        (["ifaformer score", "--seed", "1"], "ifaformer score --seed 1"),
    ],
)
def test_this_command(monkeypatch, argv, expected):
    monkeypatch.setattr("sys.argv", argv)
    assert this_command() == expected


def test_output_path(tmp_path):
    assert output_path(None) is None and output_path(str(tmp_path / "a.json")) == tmp_path / "a.json"
    with pytest.raises(SystemExit, match="there is no folder"):
        output_path(str(tmp_path / "absent" / "a.json"))
    with pytest.raises(SystemExit, match="it is a folder"):
        output_path(str(tmp_path))


def test_devices(monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    check_device(None)
    check_device("cpu")
    for name in ("foo", "cuda", "cpu:x"):
        with pytest.raises(ValueError, match=rf"--device must be a device of this machine \(cpu\), got '{name}'"):
            check_device(name)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 2)
    for name in ("cpu", "cuda", "cuda:1"):
        check_device(name)
    with pytest.raises(ValueError, match=r"\(cpu, cuda, cuda:0, cuda:1\), got 'cuda:2'"):
        check_device("cuda:2")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--words", "a", "b", "--words", "c"), "--words is given 2 times. Give it once with all its values."),
        (("--words", "a", "--words=c"), "--words is given 2 times. Give it once with all its values."),
        (("--rate", "1", "--rate", "2", "--rate=3"), "--rate is given 3 times. Give it once."),
        (("--fast", "true", "--no_fast"), "--fast is given 2 times. Give it once."),
        (("--long_name", "1", "--long-name", "2"), "--long_name is given 2 times. Give it once."),
    ],
)
def test_an_option_is_given_once(flags, message, parse, capsys):
    """Of two, the library takes the last one."""
    with pytest.raises(SystemExit) as stop:
        parse(*flags)
    assert stop.value.code == 2 and capsys.readouterr().err == f"{message}\n"


def test_a_value_may_be_the_name_of_an_option(parse):
    options, _ = parse("--words", "words", "--name", "words", "--model=--words")
    assert (options.words, options.name, options.model) == (["words"], "words", "--words")
