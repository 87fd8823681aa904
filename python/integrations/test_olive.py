"""The pass for Olive, in workflows that the real package runs."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

# Read when Olive is imported.
os.environ["OLIVE_DISABLE_TELEMETRY"] = "1"

import onnx_mipp
import onnx_mipp.olive
from olive.model import ONNXModelHandler
from olive.passes.olive_pass import create_pass_from_dict

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "fixtures/resnet_bn_torchscript.onnx"
CALIBRATION = ROOT / "fixtures/calib.npz"


def accuracy(model: Path) -> float:
    data = np.load(ROOT / "fixtures/eval.npz")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    scores = session.run(None, {"input": data["input"]})[0]
    return float((scores.argmax(1) == data["labels"]).mean())


def widths(model: onnx.ModelProto) -> list[int]:
    """The output channels of the convolutions, whose weights may be quantized and whose order may differ."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    made = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    weights = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    return sorted(shapes[made.get(name, name)][0] for name in weights)


def prune(model: Path, out: Path, **options: object) -> ONNXModelHandler:
    return create_pass_from_dict(onnx_mipp.olive.OnnxMippPruning, options, disable_search=True).run(
        ONNXModelHandler(model), str(out)
    )


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands of the documentation write with the workflow of the examples."""
    folder = tmp_path_factory.mktemp("olive")
    run = dict(cwd=ROOT, check=True, capture_output=True, text=True)
    packages = folder / "packages.json"
    packages.write_text(subprocess.run([sys.executable, "-m", "onnx_mipp.olive"], **run).stdout)
    workflow = json.loads((ROOT / "examples/olive.json").read_text())
    workflow |= {"output_dir": str(folder / "out"), "cache_dir": str(folder / "cache")}
    (folder / "workflow.json").write_text(json.dumps(workflow))
    olive = Path(sys.executable).with_name("olive")
    subprocess.run([olive, "run", "--config", folder / "workflow.json", "--package-config", packages], **run)
    return folder / "out/model.onnx"


def test_a_workflow_prunes_and_then_quantizes(quantized: Path):
    found = onnx.load(quantized)
    onnx.checker.check_model(found, full_check=True)
    assert any(node.op_type == "QuantizeLinear" for node in found.graph.node)
    alone = onnx_mipp.prune(MODEL, CALIBRATION, macs=0.5).model
    assert widths(found) == widths(alone) != widths(onnx.load(MODEL))


def test_the_workflow_loses_what_the_guide_says(quantized: Path):
    # docs/guide/toolchain.md: 0.925, then 0.910. One image in 1,000 is 0.001.
    assert accuracy(MODEL) == pytest.approx(0.925, abs=0.0015)
    assert accuracy(quantized) == pytest.approx(0.910, abs=0.006)


def test_weights_in_files_of_their_own_stay_with_the_model(tmp_path: Path):
    model = tmp_path / "in/net.onnx"
    model.parent.mkdir()
    onnx.save(onnx.load(MODEL), model, save_as_external_data=True, location="net.data", size_threshold=0)
    found = prune(model, tmp_path / "out", calibration=str(CALIBRATION), samples=32, ratio=0.5, repair="once")
    path = Path(found.model_path)
    assert path.name == "net.onnx" and [file.suffix for file in path.parent.iterdir()] != [".onnx"]
    assert Path(found.get_resource("model_path")) == path.parent
    assert sum(widths(onnx.load(path))) < sum(widths(onnx.load(MODEL)))


def test_two_sources_of_samples_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="found both"):
        prune(MODEL, tmp_path, calibration=str(CALIBRATION), data_config={"name": "x"}, macs=0.5)


def test_options_are_those_of_prune_and_their_types_are_checked(tmp_path: Path):
    known = inspect.signature(onnx_mipp.prune).parameters
    assert set(onnx_mipp.olive._OPTIONS) <= set(known)
    with pytest.raises(ValueError, match="macs"):
        prune(MODEL, tmp_path, macs="half")
    with pytest.raises(onnx_mipp.Error, match="macs"):
        prune(MODEL, tmp_path, macs=1.5)
