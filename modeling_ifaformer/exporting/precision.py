"""Graphs in other formats and lower precisions. Every row is answered the same whatever else is in its batch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .graph import quiet


BLOCK_SIZE = 128  # weights that share a scale


def to_openvino(onnx_file: Path, file: Path) -> None:
    """Write an ONNX graph as OpenVINO's, in float32."""
    import openvino

    openvino.save_model(openvino.Core().read_model(str(onnx_file)), str(file), compress_to_fp16=False)


def quantize_openvino(file: Path, batches: Sequence[dict[str, np.ndarray]]) -> None:
    """
    Make weights and activations of an OpenVINO graph 8-bit numbers, by SmoothQuant (Xiao et al., 2023;
    [arXiv 2211.10438](https://arxiv.org/abs/2211.10438)). The ranges of activations are taken from the batches, by
    input, and fixed.
    """
    import nncf
    import openvino

    graph = openvino.Core().read_model(str(file))
    with quiet():
        quantized: openvino.Model = nncf.quantize(
            graph,
            nncf.Dataset(list(batches)),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(batches),
        )
    # Some weights are still read from the file, so that it must not be written to.
    smaller = file.with_name(f"quantized_{file.name}")
    openvino.save_model(quantized, str(smaller), compress_to_fp16=False)
    for ending in (".xml", ".bin"):
        smaller.with_suffix(ending).replace(file.with_suffix(ending))


def quantize_onnx(file: Path) -> None:
    """
    Make the weights of an ONNX graph's products 8-bit numbers, in blocks that share a scale. Products are computed in
    float32.
    """
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    config = DefaultWeightOnlyQuantConfig(block_size=BLOCK_SIZE, is_symmetric=True, accuracy_level=0, bits=8)
    quantizer = MatMulNBitsQuantizer(onnx.load(str(file)), algo_config=config)
    with quiet():
        quantizer.process()
    for old in file.parent.glob(f"{file.name}*"):
        old.unlink()
    quantizer.model.save_model_to_file(str(file), use_external_data_format=False)
