#!/usr/bin/env python3
"""Prunes the fixture nets with other pruners and with onnx-mipp, to the same MACs on the same data.

    python bench/peers/peers.py --bin target/release/onnx-mipp     all, then docs/results/peers.csv, its page and plots
    python bench/peers/peers.py --nets resnet --steps mipp torch   some nets and steps only
    python bench/peers/page.py                                     the page and the plots from peers.csv

What is measured is kept in target/peers/NET.json, one entry a figure, and is not measured again; the last step takes
it into docs/results/peers.csv.
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
OUT = ROOT / "target" / "peers"
sys.path.insert(0, str(FIXTURES))
from nets import NETS  # noqa: E402
from train import CALIB, SEED, load  # noqa: E402

import page  # noqa: E402
from figures import BUDGETS, export  # noqa: E402
from measure import Results, onnx_accuracy  # noqa: E402
from onnx_peers import distilled, onnx_mipp, onnxsim_peers  # noqa: E402
from torch_peers import Pruner, dense_net, retrained_best, torch_peers  # noqa: E402

STEPS = ("mipp", "onnxsim", "torch", "epoch", "distil", "latency", "page")


def read_data(folder):
    evaluation = np.load(FIXTURES / "eval.npz")
    calib = np.load(FIXTURES / "calib.npz")["input"]
    images, labels = load(folder, "train")
    chosen = np.sort(np.random.default_rng(SEED).choice(len(images), CALIB, replace=False))
    assert np.array_equal(images[chosen], calib), "these are not the images that calib.npz was drawn from"
    return {
        "calib": calib,
        "calib_path": FIXTURES / "calib.npz",
        "images": evaluation["input"],
        "labels": evaluation["labels"],
        "training": (images, labels),
        "labelled": (calib, labels[chosen]),  # for Taylor and Hessian: the calibration images with their labels
    }


def measure(net, data, args):
    path = FIXTURES / f"{net}_bn_torchscript.onnx"
    results = Results(OUT, net)
    if "dense | | 1" not in results:
        dense = onnx.load(path)
        results.add("dense | | 1", {"macs": 1.0, "pruned": onnx_accuracy(dense, data)}, dense)
    if "mipp" in args.steps:
        onnx_mipp(args.bin, path, data, args.macs, results)
    if "onnxsim" in args.steps:
        onnxsim_peers(FIXTURES / f"{net}_folded_torchscript.onnx", data, args.macs, results)
    pruner = Pruner(dense_net(net, path, data["images"]), data["labelled"])
    if "torch" in args.steps:
        torch_peers(pruner, data, args.macs, results)
    if "epoch" in args.steps:
        retrained_best(pruner, data, args.macs, results)
    if "distil" in args.steps:
        distilled(path, data, args.macs, results)
    if "latency" in args.steps:
        results.add_latencies(data["images"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, default=ROOT / "target" / "release" / "onnx-mipp")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--macs", nargs="+", type=float, default=BUDGETS)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    if set(args.steps) != {"page"}:
        data = read_data(args.data)
        for net in args.nets:
            measure(net, data, args)
    if "page" in args.steps:
        export(OUT)
        page.write()


if __name__ == "__main__":
    main()
