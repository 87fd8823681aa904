"""Looks up what was measured of a net."""

import json

from measure import TOLERANCE

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
    def __init__(self, folder, name):
        self.name = name
        path = folder / f"{name}.json"
        self.results = json.loads(path.read_text()) if path.exists() else {}
        budgets = {float(key.rsplit(" | ", 1)[1]) for key in self.results}
        self.budgets = sorted({*budgets, *BUDGETS} - {1.0}, reverse=True)

    def get(self, method, scope, budget):
        return self.results.get(f"{method} | {scope} | {budget}")

    def has(self, method, budget):
        return any(k.startswith(method) and k.endswith(f" {budget}") for k in self.results)

    def dense(self):
        return self.results["dense | | 1"]

    def one(self, method, budget, scope=""):
        """The entry of a method without scopes: its key has an empty one."""
        return self.results.get(f"{method} | {scope} | {budget}" if scope else f"{method} | | {budget}")

    def best(self, methods, budget, figure):
        """(accuracy, name, entry) of the best near the budget; without any, of all."""
        found = []
        for method in methods:
            for scope in SCOPES:
                entry = self.get(method, scope, budget)
                if entry and figure in entry:
                    found.append((entry[figure], f"{method}, {scope}", entry))
        near = [f for f in found if is_near(f[2], budget)]
        return max(near or found, key=lambda f: f[0], default=None)


def is_near(entry, budget):
    return abs(entry["macs"] - budget) <= TOLERANCE * budget
