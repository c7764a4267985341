"""
`python -m hub_card.serving` serves exported models where neither torch nor transformers is there, as in a container.

Options are variables: MODEL and RELATION_MODEL (folders that scripts/export.py has written), HOST, PORT, BATCH_SIZE,
MAX_WAITING, and IFAFORMER_TOKEN. `scripts/serve.py` is the command for models of every kind.
"""

import os
from typing import Any

from processing.exported import load_exported

from .application import create_app
from .uvicorn_server import bind, serve


def pipelines(model: str, relation_model: str | None) -> dict[str, Any]:
    """By task, the pipelines of exported models."""
    tagger = load_exported(model, relation_model)
    if tagger.task == "re":
        return {"relations": tagger}
    return {"entities": tagger, "relations": tagger.relation_extractor}


def main() -> None:
    given = os.environ
    if not given.get("MODEL"):
        raise SystemExit("Name the exported model in the variable MODEL, for example MODEL=exported/demo.")
    try:
        bound = bind(given.get("HOST", "127.0.0.1"), int(given.get("PORT", "8000")))
        loaded = pipelines(given["MODEL"], given.get("RELATION_MODEL") or None)
        numbers: Any = {name: int(given.get(name.upper(), default)) for name, default in NUMBERS.items()}
    except (ImportError, OSError, TypeError, ValueError) as error:
        raise SystemExit(str(error)) from error
    app = create_app(**loaded, token=given.get("IFAFORMER_TOKEN") or None, **numbers)
    host, port = bound.getsockname()[:2]
    serve(app, bound, lambda: print(f"Ready: http://{host}:{port}/docs describes the server.", flush=True))


NUMBERS = {"batch_size": 32, "max_waiting": 100}

if __name__ == "__main__":
    main()
