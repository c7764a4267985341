"""The graph of an exported model, in onnxruntime or in OpenVINO: arrays in, arrays out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..columns import PIXEL_MASKS


ONNX_FILE, OPENVINO_FILE = "model.onnx", "model.xml"
BACKENDS = {"onnxruntime": (ONNX_FILE,), "openvino": (OPENVINO_FILE, ONNX_FILE)}


class Graph:
    """
    A graph that gives logits.

    Args:
        folder: the exported folder.
        inputs: name -> shape, in which None stands for any size.
        backend: `onnxruntime` or `openvino`; None takes the first that is installed and has a file of its format.
        precision: of OpenVINO's products, `f32` or `bf16`.
        num_threads: None leaves the choice to the backend.

    Raises:
        ImportError: where no backend for the files in the folder is installed.
        ValueError: for a backend that has no file there.
    """

    def __init__(
        self,
        folder: Path,
        inputs: Mapping[str, Sequence[int | None]],
        backend: str | None = None,
        precision: str = "f32",
        num_threads: int | None = None,
    ):
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.backend, self._run = open_backend(folder, backend, precision, num_threads)

    def __call__(self, batch: Mapping[str, Any]) -> np.ndarray:
        """
        The logits of a batch of arrays as a collator gives it, pixels normalised. A kind of pictures that the batch
        lacks is fed as none; inputs that the graph does not have are not looked at.
        """
        return self._run(self.feed(batch))

    def feed(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """What the graph is given of such a batch, by input."""
        size = len(batch["input_ids"])
        given = {}
        for name, shape in self.inputs.items():
            values = batch.get(name)
            if values is None:
                empty = (size, *(0 if side is None else side for side in shape[1:]))
                values = np.zeros(empty, bool if name in PIXEL_MASKS.values() else np.float32)
            elif name in ("pixel_values", "image_mask") and values.ndim == len(shape) - 1:
                values = values[:, None]  # one picture, as a list of one
            given[name] = np.ascontiguousarray(values)
        return given


def open_backend(folder: Path, backend: str | None, precision: str, num_threads: int | None) -> tuple[str, Any]:
    """The name of a backend, and a function of arrays by name that gives the logits."""
    there = {name: [file for file in files if (folder / file).exists()] for name, files in BACKENDS.items()}
    if backend is not None:
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}.")
        if not there[backend]:
            raise ValueError(f"{folder} holds no graph for {backend}: {' or '.join(BACKENDS[backend])} is needed.")
    missing = []
    for name, files in there.items():
        if files and backend in (None, name):
            try:
                return name, OPENERS[name](folder / files[0], precision, num_threads)
            except ImportError:
                missing.append(name)
    if not missing:
        raise ValueError(f"{folder} holds no graph. Is it a folder that scripts/export.py has written?")
    raise ImportError(f"The graph in {folder} needs {' or '.join(missing)}: pip install {missing[0]}.")


def _onnxruntime(file: Path, precision: str, num_threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or 0
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda given: session.run(["logits"], given)[0]


def _openvino(file: Path, precision: str, num_threads: int | None) -> Any:
    import openvino

    core = openvino.Core()
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision}
    if num_threads is not None:
        settings["INFERENCE_NUM_THREADS"] = num_threads
    compiled = core.compile_model(core.read_model(str(file)), "CPU", settings)
    return lambda given: compiled(given)["logits"]


OPENERS = {"onnxruntime": _onnxruntime, "openvino": _openvino}
