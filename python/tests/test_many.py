"""Several models at once: sweeps and comparisons, against the program and numpy."""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_mipp
import onnxruntime
import pytest

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "fixtures/resnet_bn_torchscript.onnx"
DATA = ROOT / "fixtures/calib.npz"


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.load(DATA)["input"][:32]


@pytest.fixture(scope="module")
def sweep(images: np.ndarray) -> onnx_mipp.Sweep:
    lines: list[str] = []
    found = onnx_mipp.sweep(MODEL, images, ratio=[0.25, 0.5, 0.25], macs=0.75, threads=1, progress=lines.append)
    assert [line for line in lines if line.startswith("for ")] == [
        "for --macs 0.75:", "for --ratio 0.25:", "for --ratio 0.5:"
    ]
    return found


def program(*arguments: object) -> str:
    command = Path(sys.executable).with_name("onnx-mipp")
    return subprocess.run([command, *map(str, arguments)], capture_output=True, text=True, check=True).stdout


def test_a_sweep_gives_the_models_of_the_program(sweep, images, tmp_path):
    np.save(tmp_path / "calib.npy", images)
    options = ["--ratio", "0.25,0.5", "--macs", 0.75, "--threads", 1, "--out-dir", tmp_path]
    told = json.loads(program("sweep", MODEL, "--calib", tmp_path / "calib.npy", *options, "--json"))
    assert len(told["entries"]) == len(sweep.results) == len(sweep.report["entries"]) == 3
    for entry, result, own in zip(told["entries"], sweep.results, sweep.report["entries"]):
        assert Path(entry["path"]).read_bytes() == result.model_bytes
        assert own == {"report": result.report}
        for field in ("asked", "input", "macs", "repair", "groups", "comparison"):
            assert own["report"][field] == entry["report"][field], field
        assert result.macs == onnx_mipp._results.Change(**entry["report"]["macs"])
        assert dataclasses.asdict(result.comparison) == entry["report"]["comparison"]
    assert sweep.results[0].macs.after <= 0.75 * sweep.results[0].macs.before
    rows = str(sweep).splitlines()
    assert [row.split("  ")[0] for row in rows[1:4]] == ["--macs 0.75", "--ratio 0.25", "--ratio 0.5"]
    assert "wrote" not in str(sweep) and "3 budgets" in sweep.html and "srcdoc" in sweep._repr_html_()
    again = pickle.loads(pickle.dumps(sweep))
    assert str(again) == str(sweep) and again.results[1].model_bytes == sweep.results[1].model_bytes


def test_a_comparison_is_what_numpy_finds(sweep, images):
    small = sweep.results[1]
    lines: list[str] = []
    found = onnx_mipp.compare(MODEL, small.model_bytes, images, threads=1, progress=lines.append)
    assert "comparing (32 samples)" in lines
    before, after = (
        onnxruntime.InferenceSession(model).run(None, {"input": images})[0].astype(np.float64)
        for model in (MODEL.read_bytes(), small.model_bytes)
    )
    comparison = found.comparison
    assert comparison.samples == len(images)
    assert comparison.relative_error == pytest.approx(np.linalg.norm(after - before) / np.linalg.norm(before), rel=1e-4)
    cosines = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert comparison.cosine == pytest.approx(cosines.mean(), rel=1e-5)
    assert comparison.top1_agreement == (before.argmax(1) == after.argmax(1)).mean()
    assert comparison.top1_agreement_low < comparison.top1_agreement
    change = ((after - before) ** 2).sum(1).mean() / before.var(0, ddof=1).sum()
    assert comparison.divergence.mean == pytest.approx(change, rel=1e-3) and comparison.divergence.high > change
    assert (found.original, found.other) == (str(MODEL), None)
    assert found.bytes.before == MODEL.stat().st_size and found.bytes.after == len(small.model_bytes)
    assert found.source == ("data in memory",) and found.latency_ms.after > 0
    assert f"A is {MODEL}\nB is a model in memory\n" in str(found)


def test_a_comparison_is_that_of_the_program(sweep, tmp_path):
    sweep.results[0].save(tmp_path / "small.onnx")
    asked = [MODEL, tmp_path / "small.onnx"]
    told = json.loads(program("compare", *asked, "--calib", DATA, "--samples", 16, "--threads", 1, "--json"))
    found = onnx_mipp.compare(*asked, DATA, samples=16, threads=1)
    assert found.report.keys() == told.keys()
    for field in ("original", "other", "source", "device", "onnxruntime", "comparison", "bytes", "notes"):
        assert found.report[field] == told[field], field
    typed = json.loads(json.dumps(dataclasses.asdict(found)))
    assert {name: typed[name] for name in found.report} == found.report
    with pytest.warns(UserWarning, match="made up"):
        assert onnx_mipp.compare(*asked, threads=1).comparison is None


def renamed() -> onnx.ModelProto:
    """The model with another name of its input."""
    model = onnx.load(MODEL)
    model.graph.input[0].name = "picture"
    for node in model.graph.node:
        node.input[:] = ["picture" if name == "input" else name for name in node.input]
    return model


def test_what_makes_no_sense_is_refused(images):
    for options, words in [
        ({}, "a sweep goes over budgets of --macs, .* found none"),
        (dict(macs=[0.5, 2.0]), "--macs: expected a number above 0 and up to 1, found 2"),
        (dict(latency=["fast"]), "latency: expected a number above 0 and up to 1, or .* such as 12ms, found fast"),
        (dict(macs=[0.5], align=0), "align: expected a whole number from 1"),
        (dict(macs=[0.001], threads=1), "macs 0.001"),
    ]:
        with pytest.raises(onnx_mipp.Error, match=words):
            onnx_mipp.sweep(MODEL, images, **options)
    with pytest.raises(TypeError, match="max_drop"):
        onnx_mipp.sweep(MODEL, images, max_drop=0.5)
    with pytest.raises(onnx_mipp.Error, match="(?s)comparing .*resnet.* with a model in memory: .*inputs"):
        onnx_mipp.compare(MODEL, renamed(), images)
    with pytest.raises(onnx_mipp.Error, match="no-such.onnx"):
        onnx_mipp.compare(MODEL, "no-such.onnx", images)
