"""Models of the real ir-py, and pruning as a pass of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnx_mipp
import onnx_mipp.ir
import onnxruntime
import pytest
from onnx_ir.passes import common

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "fixtures/resnet_bn_torchscript.onnx"
FEW = dict(ratio=0.5, repair="once", threads=1)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.load(ROOT / "fixtures/calib.npz")["input"][:16]


@pytest.fixture(scope="module")
def result(images: np.ndarray) -> onnx_mipp.Result:
    return onnx_mipp.prune(MODEL, images, **FEW)


def run(model: bytes, images: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model).run(None, {"input": images})[0]


def test_a_model_of_ir_py_is_pruned_as_its_file(result, images):
    model = onnx_ir.load(MODEL)
    found = onnx_mipp.prune(model, images, **FEW)
    assert found.plan == result.plan and found.report["input"] is None
    assert np.array_equal(run(found.model_bytes, images), run(result.model_bytes, images))
    # And back.
    again = found.ir_model
    assert isinstance(again, onnx_ir.Model) and again.graph.num_nodes() == result.ir_model.graph.num_nodes()
    assert np.array_equal(run(onnx_ir.to_proto(again).SerializeToString(), images), run(found.model_bytes, images))
    inspected = onnx_mipp.inspect(model)
    assert inspected.groups == onnx_mipp.inspect(MODEL).groups
    [point] = onnx_mipp.sweep(model, images, **FEW).results
    assert point.plan == result.plan
    compared = onnx_mipp.compare(model, again, images, threads=1)
    before, after = (run(made, images) for made in (MODEL.read_bytes(), result.model_bytes))
    assert (compared.original, compared.other) == (None, None)
    assert compared.comparison.top1_agreement == (before.argmax(1) == after.argmax(1)).mean()


def test_weights_in_files_stay_there(result, images, tmp_path):
    onnx_ir.save(onnx_ir.load(MODEL), tmp_path / "model.onnx", external_data="model.data")
    model = onnx_ir.load(tmp_path / "model.onnx")
    found = onnx_mipp.prune(model, images, **FEW)
    assert found.plan == result.plan
    assert np.array_equal(run(found.model_bytes, images), run(result.model_bytes, images))
    weights = [value.const_value for value in model.graph.initializers.values()]
    assert any(isinstance(weight, onnx_ir.ExternalTensor) for weight in weights)


def test_a_pass_stands_among_others(result, images):
    model = onnx_ir.load(MODEL)
    before = onnx_ir.to_proto(model).SerializeToString()
    prune = onnx_mipp.ir.PrunePass(images, **FEW)
    assert prune.result is None
    passes = onnx_ir.passes.Sequential(
        common.ClearMetadataAndDocStringPass(), prune, common.RemoveUnusedNodesPass(), common.CheckerPass()
    )
    done = passes(onnx_ir.from_proto(onnx.load_from_string(before)))
    assert done.modified and prune.result.plan == result.plan
    smaller = onnx_ir.to_proto(done.model).SerializeToString()
    assert np.array_equal(run(smaller, images), run(result.model_bytes, images))
    # Alone, it leaves the model that it is given.
    alone = onnx_mipp.ir.PrunePass(images, **FEW)(model)
    assert alone.modified and alone.model is not model
    assert onnx_ir.to_proto(model).SerializeToString() == before


def test_a_pass_says_what_it_did_and_what_is_wrong(images):
    kept = onnx_mipp.ir.PrunePass(images, ratio=0.0, repair="none", threads=1)(onnx_ir.load(MODEL))
    assert not kept.modified
    with pytest.raises(TypeError, match="mac"):
        onnx_mipp.ir.PrunePass(images, mac=0.5)
    refused = onnx_ir.passes.Sequential(onnx_mipp.ir.PrunePass(images, macs=0.001, threads=1))
    with pytest.raises(onnx_ir.passes.PassError) as caught:
        refused(onnx_ir.load(MODEL))
    assert isinstance(caught.value.__cause__, onnx_mipp.Error)
