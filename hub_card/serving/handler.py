"""
What Hugging Face's Inference Endpoints run of this repository: https://huggingface.co/docs/inference-endpoints

A request is JSON such as {"inputs": {"text": "Jordan met Paris", "image": "<base64>"}}: a text, a row as the pipeline
takes it, with pictures as base64, or a list of these. `parameters` may hold `threshold`, `explain` and `batch_size`.
The answer has a report for each row: what was found, and as `problems` what could not be used.
"""

import base64
import json
from pathlib import Path
from typing import Any

from transformers import pipeline


MAX_ROWS = 256  # of a request
PICTURES = ("image", "aux_crops", "rcnn_crops")
PARAMETERS = {"threshold", "explain", "batch_size"}


class EndpointHandler:
    """
    The pipeline of the model, as Inference Endpoints make and call it.

    Args:
        path: the folder of the repository. Its own code is run, which is what an endpoint of it is for.
    """

    def __init__(self, path: str = ""):
        config = json.loads(Path(path, "config.json").read_text(encoding="utf-8"))
        (task,) = config["custom_pipelines"]
        self.pipeline = pipeline(task, model=path, trust_remote_code=True)

    def __call__(self, data: dict[str, Any]) -> Any:
        """
        The report of each row; a list of them where `inputs` is a list.

        Raises:
            ValueError: for a request of another form. What is wrong with one row is told in its report.
        """
        inputs, parameters = data.get("inputs"), data.get("parameters") or {}
        if not isinstance(parameters, dict) or not parameters.keys() <= PARAMETERS:
            raise ValueError(f"parameters must be an object with some of {', '.join(sorted(PARAMETERS))}.")
        rows = inputs if isinstance(inputs, list) else [inputs]
        if len(rows) > MAX_ROWS or not all(isinstance(row, str | dict) for row in rows):
            raise ValueError(
                "inputs must be a text, an object such as {'text': 'Jordan met Paris', 'image': '<base64>'}, or a "
                f"list of at most {MAX_ROWS} of these."
            )
        options = {"batch_size": 32, **{name: value for name, value in parameters.items() if value is not None}}
        if type(options["batch_size"]) is not int or not 1 <= options["batch_size"] <= MAX_ROWS:
            raise ValueError(f"batch_size must be a whole number from 1 to {MAX_ROWS}.")
        reports = self.pipeline([_with_pictures(row) for row in rows], on_error="report", **options)
        return [dict(report) for report in reports] if isinstance(inputs, list) else dict(reports[0])


def _with_pictures(row: Any) -> Any:
    """The row with the bytes of its pictures. A path is never one: the files of the endpoint are not its callers'."""
    if isinstance(row, str):
        return row
    return {name: _bytes_of(name, value) if name in PICTURES else value for name, value in row.items()}


def _bytes_of(name: str, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        return [_bytes_of(name, one) for one in value]
    try:
        encoded = value.partition(",")[2] if value.startswith("data:") else value
        return base64.b64decode("".join(encoded.split()), validate=True)  # Lines may be wrapped.
    except (AttributeError, ValueError):
        raise ValueError(f"{name} must be base64 of a picture, or a list of these; no path and no address.") from None
