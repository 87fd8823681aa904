#!/usr/bin/env python3
"""Prunes the fixture nets with other pruners and with onnx-mipp, to the same MACs on the same data.

    python bench/peers/peers.py --bin target/release/onnx-mipp     all nets, then docs/peers.md and its plot
    python bench/peers/peers.py --nets resnet --skip-retraining    some nets only, without the labelled epoch

Results are kept in target/peers/NET.json, one entry a figure; what is there is not measured again.
"""

import argparse
import copy
import json
import sys
import tempfile
import warnings
from pathlib import Path
from subprocess import run

import numpy as np
import onnx
import onnxruntime
import onnxsim
import torch
import torch_pruning as tp
from onnx import numpy_helper
from torch import nn
from torch.nn import functional as F
from torch_pruning.pruner import importance

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
OUT = ROOT / "target" / "peers"
sys.path.insert(0, str(FIXTURES))
from nets import NETS  # noqa: E402
from train import load, macs  # noqa: E402

import page  # noqa: E402

BUDGETS = (0.5, 0.25)
CLOSE = 0.005  # distance from the budget at which the search for a ratio stops
RANDOM_SEEDS = 3
LABELLED = 512  # labelled images for Taylor and Hessian: as many as there are calibration images
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


# ---------------------------------------------------------------- models


def dense_net(name, images):
    """The PyTorch net with the weights of the ONNX fixture, checked against ONNX Runtime."""
    path = FIXTURES / f"{name}_bn_torchscript.onnx"
    graph = onnx.load(path).graph
    weights = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    for node in graph.node:  # the exporter stores equal tensors once and names the copies by Identity
        if node.op_type == "Identity" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]].clone()
    model = NETS[name]().eval()
    wanted = model.state_dict()
    model.load_state_dict({k: weights[k] if k in weights else v for k, v in wanted.items()})
    missing = [k for k in wanted if k not in weights and not k.endswith("num_batches_tracked")]
    assert not missing, f"{path.name} lacks {missing}"
    with torch.no_grad():
        difference = np.abs(model(torch.from_numpy(images)).numpy() - onnx_logits(path, images)).max()
    assert difference < 1e-4, f"{name}: PyTorch and ONNX Runtime differ by {difference}"
    return model


def onnx_logits(model, images):
    raw = model.SerializeToString() if isinstance(model, onnx.ModelProto) else Path(model).read_bytes()
    session = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images})[0]


def onnx_macs(proto):
    """Multiply-accumulates per image of Conv and Gemm nodes."""
    proto = copy.deepcopy(proto)
    del proto.graph.value_info[:]  # sizes from before the pruning
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(proto).graph
    shapes = {i.name: i.dims for i in graph.initializer}
    for value in [*graph.value_info, *graph.output]:
        shapes[value.name] = [d.dim_value for d in value.type.tensor_type.shape.dim]
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            total += int(np.prod(shapes[node.output[0]][1:]) * np.prod(shapes[node.input[1]][1:]))
        elif node.op_type == "Gemm":
            total += int(np.prod(shapes[node.input[1]]))
    return total


# ---------------------------------------------------------------- measuring


def accuracy(logits, labels):
    return 100 * float((np.asarray(logits).argmax(1) == labels).mean())


def torch_accuracy(model, data):
    with torch.no_grad():
        return accuracy(model.eval()(torch.from_numpy(data["images"])).numpy(), data["labels"])


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


def closest(make, budget):
    """Searches the pruning ratio whose share of the MACs is nearest to the budget: (share, model)."""
    low, high, best = 0.0, 1.0, None
    for _ in range(10):
        ratio = (low + high) / 2
        share, model = make(ratio)
        if best is None or abs(share - budget) < abs(best[0] - budget):
            best = share, model
        if abs(share - budget) < CLOSE:
            break
        low, high = (ratio, high) if share > budget else (low, ratio)
    return best


# ---------------------------------------------------------------- Torch-Pruning


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


def torch_pruned(dense, criterion, scope, ratio, grads, seed):
    torch.manual_seed(seed)
    model = copy.deepcopy(dense)
    for p, g in zip(model.parameters(), grads or []):
        p.grad = g.clone()
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    pruner = tp.pruner.BasePruner(
        model, torch.zeros(1, 1, 28, 28), CRITERIA[criterion](), pruning_ratio=ratio,
        max_pruning_ratio=0.95, ignored_layers=[last], **SCOPES[scope],
    )  # fmt: skip
    pruner.step()
    model.zero_grad()
    return macs(model) / macs(dense), model


def torch_peers(dense, data, results):
    """Fills `results`; returns a function that makes one of the pruned models again."""
    grads = {c: gradients(dense, *data["labelled"], c == "Hessian") for c in ("Taylor", "Hessian")}

    def prune(criterion, scope, budget, seed=0):
        return closest(lambda r: torch_pruned(dense, criterion, scope, r, grads.get(criterion), seed), budget)

    for budget in BUDGETS:
        for criterion in CRITERIA:
            for scope in SCOPES:
                key = f"{criterion} | {scope} | {budget}"
                if key in results or (criterion == "random" and scope != "uniform"):
                    continue
                runs = []
                for seed in range(RANDOM_SEEDS if criterion == "random" else 1):
                    share, model = prune(criterion, scope, budget, seed)
                    adapted = re_estimated(model, data["calib"])
                    runs.append((share, torch_accuracy(model, data), torch_accuracy(adapted, data)))
                mean = np.mean(runs, axis=0)
                results[key] = {"macs": mean[0], "pruned": mean[1], "batchnorm": mean[2]}
                print(key, results[key], flush=True)
    return prune


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


def retrained_best(prune, data, results):
    for budget in BUDGETS:
        key = f"best peer, one labelled epoch | | {budget}"
        if key in results:
            continue
        peers = [k for k in results if k.endswith(f"| {budget}") and "batchnorm" in results[k] and "random" not in k]
        best = max(peers, key=lambda k: results[k]["batchnorm"])
        share, model = prune(*best.split(" | ")[:2], budget)
        model = retrain(re_estimated(model, data["calib"]), *data["training"])
        results[key] = {"macs": share, "pruned": torch_accuracy(model, data), "from": best.rsplit(" | ", 1)[0]}
        print(key, results[key], flush=True)


# ---------------------------------------------------------------- ONNX to ONNX


def onnxsim_peers(name, data, results):
    dense = onnx.load(FIXTURES / f"{name}_folded_torchscript.onnx")  # it prunes no channels with a BatchNorm
    whole = onnx_macs(dense)
    calib = [{"input": batch} for batch in np.split(data["calib"], 8)]
    methods = {
        "L2": lambda r, g: onnxsim.apply_structured_pruning(dense, r, global_sparsity=g),
        "Wanda": lambda r, g: onnxsim.apply_structured_wanda_pruning(dense, calib, sparsity=r, global_sparsity=g),
    }
    for budget in BUDGETS:
        for method, prune in methods.items():
            for scope in ("uniform", "global"):
                key = f"onnxsim {method} | {scope} | {budget}"
                if key in results:
                    continue

                def make(ratio):
                    model = prune(min(ratio, 0.99), scope == "global")
                    return onnx_macs(model) / whole, model

                share, model = closest(make, budget)
                found = accuracy(onnx_logits(model, data["images"]), data["labels"])
                results[key] = {"macs": share, "pruned": found}
                print(key, results[key], flush=True)


def onnx_mipp(name, binary, data, results):
    path = FIXTURES / f"{name}_bn_torchscript.onnx"
    whole = onnx_macs(onnx.load(path))
    for budget in BUDGETS:
        for repair in ("none", "once", "sequential"):
            key = f"onnx-mipp, repair {repair} | | {budget}"
            if key in results:
                continue
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "out.onnx"
                command = [binary, path, out, "--calib", FIXTURES / "calib.npz", "--align", "1"]
                run([*command, "--macs", str(budget), "--repair", repair, "--quiet"], check=True)
                share = onnx_macs(onnx.load(out)) / whole
                found = accuracy(onnx_logits(out, data["images"]), data["labels"])
            results[key] = {"macs": share, "pruned": found}
            print(key, results[key], flush=True)


# ---------------------------------------------------------------- one net


class Results(dict):
    """A dictionary that is written to its file at every new entry, so that a run can go on later."""

    def __init__(self, path):
        super().__init__(json.loads(path.read_text()) if path.exists() else {})
        self.path = path

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.path.write_text(json.dumps(self, indent=1))


def measure(name, args):
    evaluation = np.load(FIXTURES / "eval.npz")
    images, labels = load(args.data, "train")
    chosen = np.random.default_rng(0).choice(len(images), LABELLED, replace=False)
    data = {
        "calib": np.load(FIXTURES / "calib.npz")["input"],
        "images": evaluation["input"],
        "labels": evaluation["labels"],
        "training": (images, labels),
        "labelled": (images[chosen], labels[chosen]),
    }
    dense = dense_net(name, data["images"])
    results = Results(OUT / f"{name}.json")
    results["dense | | 1"] = {"macs": 1.0, "pruned": torch_accuracy(dense, data)}
    onnx_mipp(name, args.bin, data, results)
    prune = torch_peers(dense, data, results)
    onnxsim_peers(name, data, results)
    if not args.skip_retraining:
        retrained_best(prune, data, results)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, default=ROOT / "target" / "release" / "onnx-mipp")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--skip-retraining", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    OUT.mkdir(parents=True, exist_ok=True)
    for name in args.nets:
        measure(name, args)
    page.write(OUT, ROOT / "docs")


if __name__ == "__main__":
    main()
