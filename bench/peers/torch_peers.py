"""Torch-Pruning on the PyTorch nets behind the fixtures, and the labelled epoch that is the yardstick."""

import copy
import io
import warnings
from contextlib import redirect_stdout

import numpy as np
import onnx
import torch
import torch_pruning as tp
from onnx import numpy_helper
from torch import nn
from torch.nn import functional as F
from torch_pruning.pruner import importance

from figures import TOLERANCE
from measure import accuracy, onnx_logits
from nets import NETS
from train import macs

RANDOM_SEEDS = 3
SEARCH_STEPS = 12
CLOSE = 0.003  # of the budget: where the search for a ratio stops
SCOPES = {
    "uniform": {},
    "global": {"global_pruning": True},
    "isomorphic": {"global_pruning": True, "isomorphic": True},
}
CRITERIA = {
    "random": importance.RandomImportance,
    "L1": lambda: importance.GroupMagnitudeImportance(p=1, group_reduction="first"),
    "L2": lambda: importance.GroupMagnitudeImportance(p=2, group_reduction="first"),
    "group norm": lambda: importance.GroupMagnitudeImportance(p=2),
    "LAMP": importance.LAMPImportance,
    "FPGM": importance.FPGMImportance,
    "BN scale": importance.BNScaleImportance,
    "Taylor": importance.GroupTaylorImportance,
    "Hessian": importance.GroupHessianImportance,
}


def dense_net(name, path, images):
    """The PyTorch net with the weights of the ONNX fixture, checked against ONNX Runtime."""
    proto = onnx.load(path)
    weights = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in proto.graph.initializer}
    for node in proto.graph.node:  # the exporter stores equal tensors once and names the copies by Identity
        if node.op_type == "Identity" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]].clone()
    model = NETS[name]().eval()
    wanted = model.state_dict()
    model.load_state_dict({k: weights.get(k, v) for k, v in wanted.items()})
    missing = [k for k in wanted if k not in weights and not k.endswith("num_batches_tracked")]
    assert not missing, f"{path.name} lacks {missing}"
    with torch.no_grad():
        difference = np.abs(model(torch.from_numpy(images)).numpy() - onnx_logits(proto, images)).max()
    assert difference < 1e-4, f"{name}: PyTorch and ONNX Runtime differ by {difference}"
    return model


def torch_accuracy(model, data):
    with torch.no_grad():
        return accuracy(model.eval()(torch.from_numpy(data["images"])).numpy(), data["labels"])


def exported(model):
    file = io.BytesIO()
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(), (torch.zeros(2, 1, 28, 28),), file, dynamo=False, opset_version=17,
            input_names=["input"], output_names=["logits"], dynamic_axes={"input": {0: "batch"}},
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


def re_estimated(model, calib):
    """A copy whose BatchNorm statistics are those of the calibration images."""
    model = copy.deepcopy(model).eval()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.reset_running_stats()
            m.momentum = None  # plain mean over the batches
            m.train()
    with torch.no_grad():
        for batch in torch.from_numpy(calib).split(128):
            model(batch)
    return model.eval()


def gradients(model, images, labels, squared):
    """Mean gradient of the loss (Taylor), or mean of each image's squared gradient (Hessian).

    Hessian is done here: accumulate_grad of torch-pruning 1.6.1 keeps the last image's gradient only.
    """
    parameters = list(model.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    size = 1 if squared else len(images)
    for x, y in zip(torch.from_numpy(images).split(size), torch.from_numpy(labels).split(size)):
        for t, g in zip(total, torch.autograd.grad(F.cross_entropy(model(x), y), parameters)):
            t += g.square() if squared else g
    return [t * size / len(images) for t in total]


class Pruner:
    """Prunes one dense net to a share of its MACs by any criterion and scope."""

    def __init__(self, dense, labelled):
        self.dense = dense
        self.whole = macs(dense)
        self.labelled = labelled
        self.gradients = {}
        self.uniform = {}

    def gradients_for(self, criterion):
        if criterion in ("Taylor", "Hessian") and criterion not in self.gradients:
            self.gradients[criterion] = gradients(self.dense, *self.labelled, criterion == "Hessian")
        return self.gradients.get(criterion, [])

    def at(self, criterion, scope, ratio, own_ratios=None, seed=0):
        """Share of the MACs left, and the model; `own_ratios` are of layers that differ from `ratio`."""
        torch.manual_seed(seed)
        model = copy.deepcopy(self.dense)
        for p, g in zip(model.parameters(), self.gradients_for(criterion)):
            p.grad = g.clone()
        last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        layers = dict(model.named_modules())
        pruner = tp.pruner.BasePruner(
            model, torch.zeros(1, 1, 28, 28), CRITERIA[criterion](), pruning_ratio=ratio,
            pruning_ratio_dict={layers[n]: r for n, r in (own_ratios or {}).items()},
            max_pruning_ratio=0.95, ignored_layers=[last], **SCOPES[scope],
        )  # fmt: skip
        pruner.step()
        model.zero_grad()
        return macs(model) / self.whole, model

    def to(self, criterion, scope, budget, seed=0):
        """The model nearest to the budget, and its share of the MACs."""
        if scope == "uniform":
            if budget not in self.uniform:  # widths do not depend on the criterion, so they are searched once
                self.uniform[budget] = self.uniform_ratios(budget)
            return self.at(criterion, scope, *self.uniform[budget], seed)
        return self.search(criterion, scope, budget)[0][1:]

    def search(self, criterion, scope, budget):
        """What one ratio reaches, (ratio, share, model), and the two ratios around the budget.

        It is the nearest to the budget, or where none is near, the nearest above: in the peer's favour.
        """
        low, high = (0.0, 1.0), (1.0, 0.0)  # ratio, share of the MACs
        best = above = None
        for step in range(SEARCH_STEPS):
            part = (low[1] - budget) / (low[1] - high[1])
            ratio = low[0] + (high[0] - low[0]) * (part if step % 3 else 0.5)  # bisection where the curve jumps
            share, model = self.at(criterion, scope, ratio)
            if best is None or abs(share - budget) < abs(best[1] - budget):
                best = ratio, share, model
            if share > budget:
                low = ratio, share
                above = ratio, share, model
            else:
                high = ratio, share
            if abs(share - budget) < CLOSE * budget:
                break
        far = abs(best[1] - budget) > TOLERANCE * budget
        return above if far and above else best, (low[0], high[0])

    def uniform_ratios(self, budget):
        """One ratio, and the layers that take the next lower one so that the budget is met more closely."""
        (ratio, share, _), (low, high) = self.search("L1", "uniform", budget)
        own, nearest = {}, (abs(share - budget), ratio, {})
        for name, layer in self.dense.named_modules():
            if nearest[0] < CLOSE * budget:
                break
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                share, _ = self.at("L1", "uniform", high, {**own, name: low})
                if share <= budget * (1 + CLOSE):
                    own = {**own, name: low}
                nearest = min(nearest, (abs(share - budget), high, {**own, name: low}), key=lambda n: n[0])
        return nearest[1:]


def torch_peers(pruner, data, budgets, results):
    for budget in budgets:
        for criterion in CRITERIA:
            for scope in SCOPES:
                key = f"{criterion} | {scope} | {budget}"
                if key in results or (criterion == "random" and scope != "uniform"):
                    continue
                runs = []
                for seed in range(RANDOM_SEEDS if criterion == "random" else 1):
                    share, model = pruner.to(criterion, scope, budget, seed)
                    adapted = re_estimated(model, data["calib"])
                    runs.append((share, torch_accuracy(model, data), torch_accuracy(adapted, data)))
                mean = np.mean(runs, axis=0)
                entry = {"macs": mean[0], "pruned": mean[1], "batchnorm": mean[2]}
                results.add(key, entry, exported(adapted))


def retrain(model, images, labels):
    """One epoch with labels: SGD, one cycle, flips, as fixtures/train.py but at a third of its rate."""
    torch.manual_seed(0)
    model.train()
    images, labels = torch.from_numpy(images), torch.from_numpy(labels)
    batches = torch.randperm(len(images)).split(128)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=len(batches), pct_start=0.2)
    for chosen in batches:
        x = images[chosen]
        flip = torch.rand(len(x)) < 0.5
        x[flip] = x[flip].flip(-1)
        loss = F.cross_entropy(model(x), labels[chosen], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def retrained_best(pruner, data, budgets, results):
    """The labelled epoch for the peer that is best after BatchNorm re-estimation."""
    for budget in budgets:
        key = f"best peer, one labelled epoch | | {budget}"
        if key in results:
            continue
        peers = [k for k in results if k.split(" | ")[0] in CRITERIA and k.endswith(f"| {budget}")]
        best = max((k for k in peers if "random" not in k), key=lambda k: results[k]["batchnorm"])
        share, model = pruner.to(*best.split(" | ")[:2], budget)
        model = retrain(re_estimated(model, data["calib"]), *data["training"])
        entry = {"macs": share, "pruned": torch_accuracy(model, data), "from": best.rsplit(" | ", 1)[0]}
        results.add(key, entry, exported(model))
