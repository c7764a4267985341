"""Measure exported models: tweets a second from prepared features to tags, in every format and precision."""

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from modeling_ifaformer import IFAformerForTokenClassification
from modeling_ifaformer.exporting.export import model_facts
from modeling_ifaformer.exporting.graph import graph_inputs, write_onnx
from modeling_ifaformer.exporting.precision import quantize_onnx, quantize_openvino, to_openvino
from processing.exported.graphs import ONNX_FILE, OPENVINO_FILE, Graph
from processing.exported.linear_chain import LinearChain

from .measuring import Call, compare
from .models import IFAFORMER, PUBLISHED
from .published import PublishedTagger, with_pictures
from .work import Work, by_size, run_batches


CALIBRATION_BATCHES = 8


def measure_exported(work: Work) -> dict[str, Any]:
    """
    Tagging by exported models, one thread each, against the published way from rows to tags, and against the model in
    torch: without whole pictures, which the published way never looks at, and with them.
    """
    padded, published = work.padded_texts(), work.placed(PublishedTagger(work))
    calls: dict[str, Call] = {PUBLISHED: lambda: run_batches(published, with_pictures(work, padded))}
    with tempfile.TemporaryDirectory() as folder:
        for told, whole, features in (
            ("", False, work.features),
            (", whole pictures too", True, work.whole_features),
        ):
            ordered = by_size(features)
            calls[f"{IFAFORMER} in torch{told}"] = partial(
                tag_in_torch, work, work.ifaformer(use_whole_image=whole), ordered
            )
            # A graph is made of a model in float32, and runs on the CPU, whatever device and type the others have.
            model = IFAformerForTokenClassification(work.ifaformer_config(use_whole_image=whole)).eval()
            for name, tag in variants(work, model, ordered, Path(folder, f"whole_{whole}")).items():
                calls[f"{name}{told}"] = tag
        runs = {name: (len(work.sample), call) for name, call in calls.items()}
        return {"comparison": compare(runs, PUBLISHED, work.options.repeats, "tweets")}


def tag_in_torch(work: Work, model: Any, features: Dataset) -> None:
    run_batches(model, work.read(features))


def variants(work: Work, model: Any, features: Dataset, folder: Path) -> dict[str, Call]:
    """By name, what tags the features with the model as a graph."""
    inputs = graph_inputs(model.config, work.processor.tokenizer.model_input_names)
    chain = LinearChain.of(model_facts(model, work.processor, inputs)["crf"])
    onnx, onnx_int8, openvino, openvino_int8 = (folder / name for name in ("onnx", "onnx8", "openvino", "openvino8"))
    for place in (onnx, openvino, openvino_int8):
        place.mkdir(parents=True)
    write_onnx(model, inputs, onnx / ONNX_FILE)
    shutil.copytree(onnx, onnx_int8)
    quantize_onnx(onnx_int8 / ONNX_FILE)
    for place in (openvino, openvino_int8):
        to_openvino(onnx / ONNX_FILE, place / OPENVINO_FILE)
    open_graph = partial(Graph, inputs=inputs, num_threads=1)
    plain = open_graph(openvino)
    some = islice(arrays(work, features), CALIBRATION_BATCHES)
    quantize_openvino(openvino_int8 / OPENVINO_FILE, [plain.feed(batch) for batch in some])
    graphs = {
        "onnxruntime, float32": open_graph(onnx),
        "onnxruntime, 8-bit weights": open_graph(onnx_int8),
        "OpenVINO, float32": plain,
        "OpenVINO, bfloat16": open_graph(openvino, precision="bf16"),
        "OpenVINO, 8 bits": open_graph(openvino_int8),
    }
    return {name: partial(tag, work, graph, chain, features) for name, graph in graphs.items()}


def arrays(work: Work, features: Dataset) -> Iterator[dict[str, np.ndarray]]:
    """Batches of features as arrays."""
    size, collator = work.options.batch_size, work.processor.data_collator
    for first in range(0, len(features), size):
        rows = features.select(range(first, min(first + size, len(features))))
        yield collator.arrays(list(rows))


def tag(work: Work, graph: Graph, chain: LinearChain, features: Dataset) -> None:
    for batch in arrays(work, features):
        chain.best_tags(graph(batch), batch["crf_mask"])
