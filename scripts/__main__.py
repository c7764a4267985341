"""The console command: `ifaformer train ...` does what `python scripts/train.py ...` does."""

import ast
import sys
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path


def commands() -> dict[str, str]:
    """The first sentence of each command's docstring, by the command's name; read without importing anything."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        script = ast.parse(path.read_text(encoding="utf-8"))
        is_command = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in script.body)
        if is_command and path.stem != "__main__":
            found[path.stem] = " ".join(str(ast.get_docstring(script)).split()).split(". ")[0].removesuffix(".") + "."
    return found


def main() -> None:
    """
    Run the command that the first argument names.

    Raises:
        SystemExit: where there is no such command, and as the command does.
    """
    program = Path(sys.argv[0]).stem.replace("__main__", "python -m ifaformer_commands")
    known = commands()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(f"usage: {program} COMMAND [--help] [...]\n")
        for command, summary in known.items():
            print(f"  {command:{max(map(len, known))}}  {summary}")
        print(f"\n`{program} COMMAND --help` shows the options of a command.")
        return
    if name not in known:
        near = get_close_matches(name, known)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"The commands are {', '.join(known)}."
        print(f"There is no command {name}. {hint}", file=sys.stderr)
        raise SystemExit(2)
    if not (find_spec("torch") and find_spec("transformers")):
        print(
            f"{program} {name} needs torch and transformers, which are not installed here. Without them, an exported "
            "model is used by processing.exported.load_exported, or served by python -m hub_card.serving.",
            file=sys.stderr,
        )
        raise SystemExit(2)
    sys.argv[:2] = [f"{program} {name}"]
    import_module(f"ifaformer_commands.{name}").main()


if __name__ == "__main__":
    main()
