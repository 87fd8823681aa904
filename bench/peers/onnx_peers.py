"""Pruners from ONNX to ONNX: onnxsim, onnx-mipp, and L1 channels with onnx-mipp's repair."""

import json
import sys
import tempfile
from pathlib import Path
from subprocess import run

import numpy as np
import onnx
import onnxsim

from l1 import l1_plan
from measure import onnx_accuracy, onnx_macs

REPAIRS = ("sequential", "once", "none")
CLOSE = 0.003  # of the budget: where the search for a ratio stops
RETRAIN = Path(__file__).resolve().parents[2] / "examples" / "retrain.py"
RETRAIN_OPTIONS = ("--mirror", "--mix")


# ---------------------------------------------------------------- onnxsim


def onnxsim_peers(path, data, budgets, results):
    """`path` is the fixture with folded BatchNorm: onnxsim cuts no channels that have one."""
    dense = onnx.load(path)
    calib = [{"input": batch} for batch in np.split(data["calib"], 8)]
    wanda = onnxsim.apply_structured_wanda_pruning
    methods = {
        "onnxsim L1": lambda r, g: onnxsim.apply_structured_pruning(dense, r, "l1", g),
        "onnxsim L2": lambda r, g: onnxsim.apply_structured_pruning(dense, r, "l2", g),
        "onnxsim Wanda": lambda r, g: wanda(dense, calib, sparsity=r, global_sparsity=g),
    }
    for budget in budgets:
        for method, prune in methods.items():
            for scope in ("uniform", "global"):
                key = f"{method} | {scope} | {budget}"
                if key not in results:
                    share, model = nearest(lambda r: prune(r, scope == "global"), onnx_macs(dense), budget)
                    fitted = onnxsim.apply_pruning_finetune(dense, model, calib)
                    entry = {"macs": share, "pruned": onnx_accuracy(model, data), "fitted": onnx_accuracy(fitted, data)}
                    results.add(key, entry, fitted)


def nearest(prune, whole, budget):
    """The ratio whose share of the MACs is nearest to the budget: that share, and the model."""
    low, high, best = 0.0, 0.99, None
    for _ in range(12):
        ratio = (low + high) / 2
        model = prune(ratio)
        share = onnx_macs(model) / whole
        if best is None or abs(share - budget) < abs(best[0] - budget):
            best = share, model
        if abs(share - budget) < CLOSE * budget:
            break
        low, high = (ratio, high) if share > budget else (low, ratio)
    return best


# ---------------------------------------------------------------- onnx-mipp


def mipp(binary, path, data, arguments):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.onnx"
        run([binary, path, out, "--calib", data["calib_path"], "--quiet", *arguments], check=True, capture_output=True)
        return onnx.load(out)


def onnx_mipp(binary, path, data, budgets, results):
    """onnx-mipp's own choice and L1 channels, with each repair; the sequential ones first, as they matter most."""
    whole = onnx_macs(onnx.load(path))
    for budget in budgets:
        plan = None
        for repair in REPAIRS:
            for key in (f"onnx-mipp, repair {repair} | | {budget}", f"L1, our repair {repair} | uniform | {budget}"):
                if key in results:
                    continue
                if key.startswith("L1"):
                    plan = plan or l1_plan(binary, path, budget)
                    model = with_plan(binary, path, data, plan, repair)
                else:
                    asked = ["--macs", str(budget), "--align", "1", "--repair", repair]
                    model = mipp(binary, path, data, asked)
                results.add(key, {"macs": onnx_macs(model) / whole, "pruned": onnx_accuracy(model, data)}, model)


def with_plan(binary, path, data, plan, repair):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(plan, file)
        file.flush()
        return mipp(binary, path, data, ["--plan", file.name, "--repair", repair])


def distilled(path, data, budgets, results):
    """What onnx-mipp made, after examples/retrain.py; nothing where onnx-mipp has not run."""
    for budget in budgets:
        pruned = results.model_path(f"onnx-mipp, repair sequential | | {budget}")
        key = f"onnx-mipp, distilled | | {budget}"
        if key in results or not pruned.exists():
            continue
        out = results.model_path(key)
        run([sys.executable, RETRAIN, path, pruned, out, "--calib", data["calib_path"], *RETRAIN_OPTIONS], check=True)
        model = onnx.load(out)
        share = onnx_macs(model) / onnx_macs(onnx.load(path))
        results.add(key, {"macs": share, "pruned": onnx_accuracy(model, data)})
