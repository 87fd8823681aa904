"""Pruned, then quantized by ONNX Runtime and by NNCF: the accuracies of the guide, measured with both packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_mipp
import onnxruntime
import pytest

ROOT = Path(__file__).parents[2]
CALIBRATION = ROOT / "fixtures/calib.npz"
NETS = ["resnet", "vgg", "mobilenet", "densenet"]
TOOLS = ["onnxruntime", "nncf"]

# Six of 1,000 images: other processors round quantized sums otherwise. The losses of the guide are larger or
# within one standard error (0.009).
BOUND = 0.006


def documented() -> dict[str, list[float]]:
    """The rows of the guide's table: original, quantized by each tool, pruned, pruned and quantized by each."""
    page = (ROOT / "docs/guide/toolchain.md").read_text()
    table = page.split("| net | original |")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {name: [float(cell) for cell in cells] for name, *cells in rows}


def accuracy(model: Path) -> float:
    data = np.load(ROOT / "fixtures/eval.npz")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    scores = session.run(None, {"input": data["input"]})[0]
    return float((scores.argmax(1) == data["labels"]).mean())


def quantized(model: Path, tool: str) -> Path:
    out = model.with_name(f"{model.stem}-{tool}.onnx")
    command = [sys.executable, ROOT / "examples/quantize.py", model, out, "--calib", CALIBRATION, "--with", tool]
    subprocess.run(command, check=True, capture_output=True, text=True)
    found = onnx.load(out)
    onnx.checker.check_model(found)
    kernels = [tensor.data_type for tensor in found.graph.initializer if len(tensor.dims) == 4]
    # NNCF leaves squeeze-excite gates as they are.
    assert kernels.count(onnx.TensorProto.INT8) > 0.6 * len(kernels), tool
    assert any(node.op_type == "QuantizeLinear" for node in found.graph.node)
    return out


@pytest.mark.parametrize("net", NETS)
def test_both_losses_are_those_of_the_guide(net: str, tmp_path: Path):
    dense, half = tmp_path / "dense.onnx", tmp_path / "half.onnx"
    dense.write_bytes((ROOT / f"fixtures/{net}_bn_torchscript.onnx").read_bytes())
    onnx_mipp.prune(dense, CALIBRATION, macs=0.5).save(half)
    models = [path for model in (dense, half) for path in (model, *(quantized(model, tool) for tool in TOOLS))]
    assert [accuracy(model) for model in models] == pytest.approx(documented()[net], abs=BOUND)
    size = {model: model.stat().st_size for model in models}
    assert max(size[model] for model in models[-2:]) < size[half] < size[dense]


def test_the_guide_has_a_row_for_each_net():
    assert list(documented()) == NETS
