"""What was measured of a net: docs/results/peers.csv, looked up and written."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import tables  # noqa: E402

FILE = tables.RESULTS / "peers.csv"
KEYS = ["net", "method", "scope", "budget"]
# The columns of the file: share of the MACs; top-1 as pruned, after BatchNorm's re-estimation, after
# onnxsim's fit; time of a run over the dense model's.
FIGURES = {"macs": "{:.4f}", "pruned": "{:.1f}", "batchnorm": "{:.1f}", "fitted": "{:.1f}", "latency": "{:.4f}"}
TOLERANCE = 0.01  # of the budget: results further from it are marked on the page

NETS = ("resnet", "vgg", "mobilenet", "densenet")
BUDGETS = (0.5, 0.25)  # shares of the MACs
SCOPES = ("uniform", "global", "isomorphic")
TORCH = ("random", "L1", "L2", "group norm", "LAMP", "FPGM", "BN scale", "Taylor", "Hessian")
ONNXSIM = ("onnxsim L1", "onnxsim L2", "onnxsim Wanda")
OURS = "onnx-mipp, repair sequential"
BASELINE = "L1, our repair sequential"
EPOCH = "best peer, one labelled epoch"
DISTILLED = "onnx-mipp, distilled"


class Net:
    def __init__(self, name, path=FILE):
        self.name = name
        rows = [row for row in tables.read(path) if row["net"] == name] if path.exists() else []
        self.commits = {row["commit"] for row in rows}
        self.results = {(row["method"], row["scope"], float(row["budget"])): entry(row) for row in rows}
        self.budgets = sorted({*(key[2] for key in self.results), *BUDGETS} - {1.0}, reverse=True)

    def get(self, method, budget, scope=""):
        return self.results.get((method, scope, budget))

    def has(self, method, budget):
        return any(key[0].startswith(method) and key[2] == budget for key in self.results)

    def dense(self):
        return self.get("dense", 1.0)

    def best(self, methods, budget, figure):
        """(accuracy, name, entry) of the best near the budget; without any, of all."""
        found = []
        for method in methods:
            for scope in SCOPES:
                entry = self.get(method, budget, scope)
                if entry and figure in entry:
                    found.append((entry[figure], f"{method}, {scope}", entry))
        near = [f for f in found if is_near(f[2], budget)]
        return max(near or found, key=lambda f: f[0], default=None)


def entry(row):
    return {name: float(row[name]) for name in FIGURES if row[name]}


def is_near(entry, budget):
    return abs(entry.get("macs", budget) - budget) <= TOLERANCE * budget


def export(folder):
    """Takes what was measured into the file; what is in there of other methods stays."""
    rows = []
    for name in NETS:
        path = folder / f"{name}.json"
        results = json.loads(path.read_text()) if path.exists() else {}
        whole = results.get("dense | | 1", {}).get("latency")
        for key, found in results.items():
            method, scope, budget = (part.strip() for part in key.split("|"))
            figures = dict(found)
            if "latency" in figures and whole:
                figures["latency"] /= whole
            row = {"net": name, "method": method, "scope": scope, "budget": budget}
            row |= {figure: form.format(figures[figure]) if figure in figures else "" for figure, form in FIGURES.items()}
            rows.append(row | {"commit": found.get("commit", "")})
    tables.keep(FILE, rows, KEYS)
