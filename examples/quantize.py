"""Quantizes a model to 8 bits, behind pruning: weights per channel, activations by calibration data, in the QDQ form.

    python examples/quantize.py IN.onnx OUT.onnx --calib fixtures/calib.npz [--with nncf]

The calibration data are those that the model was pruned with: an .npz file with an array for each input. Needs
onnx and onnxruntime, or nncf.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter

# Samples of one run.
BATCH = 64

# The first version of ONNX's operators in which each channel has a scale of its own.
PER_CHANNEL = 13

Batch = dict[str, np.ndarray]


def batches(file: Path) -> Iterator[Batch]:
    arrays = dict(np.load(file))
    for start in range(0, min(map(len, arrays.values())), BATCH):
        yield {name: array[start : start + BATCH] for name, array in arrays.items()}


def prepared(model: Path, folder: Path) -> Path:
    """Folds what stands between a convolution and its activation, which a quantizer otherwise cannot fuse."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    read, path = onnx.load(model), folder / "prepared.onnx"
    if any(not opset.domain and opset.version < PER_CHANNEL for opset in read.opset_import):
        read = onnx.version_converter.convert_version(read, PER_CHANNEL)
    quant_pre_process(read, path, skip_symbolic_shape=True)
    return path


def by_onnxruntime(model: Path, out: Path, samples: Iterator[Batch]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def get_next(self) -> Batch | None:
            return next(samples, None)

    quantize_static(
        model,
        out,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        # Weights of 7 bits: on x86-64 without VNNI, sums of two products of 8 bits do not fit their 16.
        reduce_range=True,
    )


def by_nncf(model: Path, out: Path, samples: Iterator[Batch]) -> None:
    import nncf

    onnx.save(nncf.quantize(onnx.load(model), nncf.Dataset(list(samples))), out)


QUANTIZERS = {"onnxruntime": by_onnxruntime, "nncf": by_nncf}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--calib", type=Path, required=True)
    parser.add_argument("--with", dest="tool", choices=QUANTIZERS, default="onnxruntime")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = prepared(arguments.model, Path(folder))
        QUANTIZERS[arguments.tool](model, arguments.out, batches(arguments.calib))


if __name__ == "__main__":
    main()
