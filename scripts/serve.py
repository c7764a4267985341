"""
Answer requests over HTTP with a trained model: entities of texts and their pictures, and relations.

    python scripts/serve.py --model runs/demo
    python scripts/serve.py --model runs/demo --relation_model runs/demo_re --port 8080
    IFAFORMER_TOKEN=secret python scripts/serve.py --model user/name --host 0.0.0.0

`POST /tag` takes a text and its picture, `POST /relations` two entities of the text besides. `GET /health` says
whether the server works, `/metrics` has figures for Prometheus, and `/docs` is a page that describes all of it and
tries it out. Requests that wait are answered together. Where the variable IFAFORMER_TOKEN is set, requests need it as
`Authorization: Bearer TOKEN`. SIGTERM or Ctrl+C ends the server when all that it has accepted is answered.
"""

import os
import sys
from dataclasses import dataclass
from typing import Any

from ifaformer_commands.options.command_line import check_device, option, parse_arguments, user_errors
from ifaformer_commands.options.prediction_options import TaggerArguments, read_threshold


@dataclass
class ServerArguments(TaggerArguments):
    """Options of the server."""

    host: str = option("The address to answer on. 0.0.0.0 is every one of this machine.", "127.0.0.1")
    port: int = option("The port to answer on. With 0 it is any free one.", 8000)
    batch_size: int = option("How many texts are answered together at most.", 32)
    max_waiting: int = option("How many requests may wait. Others are refused.", 100)


def load_pipelines(arguments: ServerArguments) -> dict[str, Any]:
    """By task, the pipelines of the models that are named."""
    from modeling_ifaformer.checkpoints.trained import load_processor, task_of
    from modeling_ifaformer.prediction import load_tagger

    model, options = str(arguments.model), dict(vars(arguments.proposal_options()))
    if task_of(load_processor(model)) == "re":
        names = ("relation_model", "relation_types", "threshold")
        given = [f"--{name}" for name in names if getattr(arguments, name) is not None]
        if given:
            raise ValueError(f"{', '.join(given)} can be used only with an entity model; {model} is a relation model.")
        return {"relations": load_tagger(model, "re", device=arguments.device, **options)}
    arguments.check_relation_types()
    options |= {"relation_types": arguments.relation_types, "threshold": read_threshold(arguments.threshold)}
    tagger = load_tagger(model, "ner", arguments.relation_model, arguments.device, **options)
    return {"entities": tagger, "relations": tagger.relation_extractor}


def main() -> None:
    arguments, _ = parse_arguments(ServerArguments, description=__doc__, first=("model", "relation_model"))
    if arguments.model is None:
        raise SystemExit("Name the model, for example --model runs/demo.")
    try:
        from hub_card.serving.application import create_app
        from hub_card.serving.uvicorn_server import bind, open_warning, ready_line, serve
    except ImportError as error:
        raise SystemExit(f"The server needs more libraries ({error}): pip install -e .[serve]") from error
    from processing.problems import check_at_least_one

    with user_errors(ImportError):
        check_at_least_one(batch_size=arguments.batch_size, max_waiting=arguments.max_waiting)
        check_device(arguments.device)
        bound = bind(arguments.host, arguments.port)  # before a model is loaded
        pipelines = load_pipelines(arguments)
        for pipeline in filter(None, pipelines.values()):
            pipeline.load_detectors()
    token = os.environ.get("IFAFORMER_TOKEN") or None
    if (warning := open_warning(arguments.host, token)) is not None:
        print(warning, file=sys.stderr)
    numbers = {"batch_size": arguments.batch_size, "max_waiting": arguments.max_waiting}
    serve(create_app(**pipelines, token=token, **numbers), bound, lambda: print(ready_line(bound), flush=True))


if __name__ == "__main__":
    main()
