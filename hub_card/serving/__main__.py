"""
`python -m hub_card.serving` serves exported models where neither torch nor transformers is there, as in a container.

Options are variables: MODEL and RELATION_MODEL (folders that scripts/export.py has written), HOST, PORT, BATCH_SIZE,
MAX_WAITING, and IFAFORMER_TOKEN. `scripts/serve.py` is the command for models of every kind.
"""

import os
import sys
from typing import Any

from processing.exported import load_exported
from processing.problems import check_at_least_one


try:
    from .application import create_app
    from .uvicorn_server import bind, open_warning, ready_line, serve
except ImportError as error:
    packages = "fastapi uvicorn python-multipart prometheus-client"
    raise SystemExit(f"The server needs more packages ({error}): pip install {packages}") from error


def pipelines(model: str, relation_model: str | None) -> dict[str, Any]:
    """By task, the pipelines of exported models."""
    tagger = load_exported(model, relation_model)
    if tagger.task == "re":
        return {"relations": tagger}
    return {"entities": tagger, "relations": tagger.relation_extractor}


def number(name: str, default: int) -> int:
    """The whole number in a variable; a ValueError names the variable of another value."""
    given = os.environ.get(name) or str(default)
    if not given.strip().isdecimal():
        raise ValueError(f"The variable {name} must be a whole number, got {given!r}.")
    return int(given)


def main() -> None:
    if sys.argv[1:]:
        raise SystemExit(f"There are no arguments, got {' '.join(sys.argv[1:])}.\n{__doc__}")
    model, host = os.environ.get("MODEL"), os.environ.get("HOST") or "127.0.0.1"
    token = os.environ.get("IFAFORMER_TOKEN") or None
    if not model:
        raise SystemExit("Name the exported model in the variable MODEL, for example MODEL=exported/demo.")
    try:
        numbers: Any = {"batch_size": number("BATCH_SIZE", 32), "max_waiting": number("MAX_WAITING", 100)}
        check_at_least_one(**{name.upper(): value for name, value in numbers.items()})
        bound = bind(host, number("PORT", 8000))
        loaded = pipelines(model, os.environ.get("RELATION_MODEL") or None)
    except (ImportError, OSError, TypeError, ValueError) as error:
        raise SystemExit(str(error)) from error
    if (warning := open_warning(host, token)) is not None:
        print(warning, file=sys.stderr)
    serve(create_app(**loaded, token=token, **numbers), bound, lambda: print(ready_line(bound), flush=True))


if __name__ == "__main__":
    main()
