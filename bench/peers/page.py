#!/usr/bin/env python3
"""Writes docs/peers.md and its plots from what was measured: `python bench/peers/page.py`."""

from pathlib import Path

import plot
from figures import BASELINE, DISTILLED, EPOCH, NETS, ONNXSIM, OURS, SCOPES, TORCH, Net, is_near

OTHERS = {
    "onnx-mipp": OURS,
    "L1 with our repair": BASELINE,
    "onnxsim": ONNXSIM[0],
    "the labelled epoch": EPOCH,
    "distilling": DISTILLED,
}

INTRO = """# onnx-mipp and its peers

Top-1 accuracy in percent on the 1,000 test images of `fixtures/eval.npz`; one standard error is about 0.9
points, and each figure is one run (random channels: the mean of three), so that differences of a point or two
between criteria mean little. All methods get the same dense weights, the same budget of MACs, and at most the
512 images of `fixtures/calib.npz`. Nothing is retrained unless said. This page and its plots are written by

<!-- not run: installs packages and takes the better part of an hour -->
    pip install -r bench/peers/requirements.txt
    python bench/peers/peers.py --bin target/release/onnx-mipp

which also needs the training set of Fashion-MNIST that `fixtures/train.py` uses, for the labels and the epoch
below. The settings of onnx-mipp were chosen on test images of the same data set ([results.md](results.md)); its
peers' are their defaults.

- **Torch-Pruning** 1.6.1 on the PyTorch nets behind the fixtures, one step, one ratio searched for the budget;
  where that misses it, layer after layer takes the next lower ratio (uniform). *As pruned / after BatchNorm
  re-estimation* on the 512 images. L1 and L2 rank by one layer's weights, group norm by all coupled ones.
  Taylor and Hessian see the labels of the 512 images, which nothing else does. At most 0.95 of a layer leaves.
- **onnxsim** 0.8.1, `apply_structured_pruning` (L1, L2) and `apply_structured_wanda_pruning`, on the export with
  folded BatchNorm (it cuts no channel that has one). *As pruned / after `apply_pruning_finetune`*, its closed-form
  fit of Gemm weights on the 512 images. It cuts only some of the channels and so may miss the budget.
- **L1, our repair**: the channels with the largest weights, one ratio for all groups, repaired by onnx-mipp.
- **onnx-mipp** with `--macs`, `--align 1` (widths are free, as those of the others are) and defaults else.
- **Best peer, one labelled epoch**: the Torch-Pruning model with the best accuracy after BatchNorm re-estimation,
  then one epoch on the 60,000 labelled training images (SGD, one cycle up to 0.05, flips; one setting, not tuned).
  It is a yardstick: nothing above it trains, and only Taylor and Hessian see labels.

An asterisk marks results whose MACs miss the budget by more than 1 % of it, with the share they have (of
Torch-Pruning, the nearest above the budget, in its favour); a dash, what was not run.
"""


def text(entry, budget, figures=("pruned",)):
    if entry is None:
        return "-"
    shown = " / ".join(f"{entry[f]:.1f}" for f in figures if f in entry)
    return shown if is_near(entry, budget) else f"{shown} \\* {entry['macs']:.3f}"


def with_name(best, budget, figure):
    return "-" if best is None else f"{text(best[2], budget, (figure,))} ({best[1]})"


def table(header, rows):
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# ---------------------------------------------------------------- the parts


def summary(nets):
    columns = [
        ("net, MACs", None),
        ("onnx-mipp", lambda n, b: text(n.one(OURS, b), b)),
        ("L1, our repair", lambda n, b: text(n.one(BASELINE, b, "uniform"), b)),
        ("Torch-Pruning, best re-estimated", lambda n, b: with_name(n.best(TORCH[1:], b, "batchnorm"), b, "batchnorm")),
        ("random, re-estimated", lambda n, b: text(n.one("random", b, "uniform"), b, ("batchnorm",))),
        ("best as pruned", lambda n, b: with_name(n.best(TORCH[1:], b, "pruned"), b, "pruned")),
        ("onnxsim, best fitted", lambda n, b: with_name(n.best(ONNXSIM, b, "fitted"), b, "fitted")),
        ("best peer + labelled epoch", lambda n, b: text(n.one(EPOCH, b), b)),
    ]
    rows = []
    for net in nets:
        for budget in net.budgets:
            rows.append([f"{net.name} {budget} (dense {net.dense()['pruned']:.1f})"])
            rows[-1] += [show(net, budget) for _, show in columns[1:]]
    return table([name for name, _ in columns], rows)


def latencies(nets):
    header = ["net, MACs", "onnx-mipp", "L1, our repair", "Torch-Pruning, best re-estimated", "onnxsim, best fitted"]
    rows = []
    for net in nets:
        for budget in net.budgets:
            best = [net.best(m, budget, f) for m, f in ((TORCH[1:], "batchnorm"), (ONNXSIM, "fitted"))]
            entries = [net.one(OURS, budget), net.one(BASELINE, budget, "uniform"), *(b and b[2] for b in best)]
            if any(e and "latency" in e for e in entries):
                rows.append([f"{net.name} {budget}", *(share(e, net.dense()) for e in entries)])
    if not rows:
        return ""
    return (
        "## Latency\n\nShare of the dense model's: ONNX Runtime, one thread, 32 images at once, the least of 60 rounds "
        "in which all\nmodels of a net take turns. Other programs may have run meanwhile.\n\n" + table(header, rows)
    )


def share(entry, dense):
    return f"{entry['latency'] / dense['latency']:.2f}" if entry and "latency" in entry else "-"


def details(net):
    header = ["method"] + [f"{b} {s}" for b in net.budgets for s in SCOPES]
    rows = []
    for methods, figures in ((TORCH, ("pruned", "batchnorm")), (ONNXSIM, ("pruned", "fitted"))):
        for method in methods:
            cells = [text(net.get(method, s, b), b, figures) for b in net.budgets for s in SCOPES]
            if any(cell != "-" for cell in cells):
                rows.append([method, *cells])
    repairs = ("none", "once", "sequential")
    ours = []
    for label, method, scope in (("onnx-mipp", "onnx-mipp, repair", ""), ("L1", "L1, our repair", "uniform")):
        line = [f"{label}, repair none / once / sequential"]
        for b in net.budgets:
            line.append(" / ".join(text(net.one(f"{method} {r}", b, scope), b) for r in repairs))
        ours.append(line)
    return (
        f"### {net.name}\n\n![accuracy against MACs and latency](peers-{net.name}.svg)\n\n"
        + (table(header, rows) + "\n\n" if rows else "")
        + table(["method"] + [str(b) for b in net.budgets], ours)
    )


def missing(nets):
    """What the command measures and is not there, in words."""
    lines = []
    for name in NETS:
        net = next((n for n in nets if n.name == name), None)
        if net is None:
            lines.append(f"- {name}: everything")
            continue
        torch = [(m, s, b) for b in net.budgets for m in TORCH for s in SCOPES if m != "random" or s == "uniform"]
        lacks = sum(net.get(*key) is None for key in torch)
        said = [f"{lacks} of {len(torch)} of Torch-Pruning"] if lacks else []
        for label, method in OTHERS.items():
            budgets = [str(b) for b in net.budgets if not net.has(method, b)]
            said += [f"{label} at {' and '.join(budgets)}"] if budgets else []
        said += [] if "latency" in net.dense() else ["latencies"]
        lines += [f"- {name}: {', '.join(said)}"] if said else []
    if not lines:
        return ""
    return "**Not run yet**; *best* below is the best of what was run.\n\n" + "\n".join(lines)


def distilled(nets):
    rows = []
    for net in nets:
        for budget in net.budgets:
            entry = net.one(DISTILLED, budget)
            if entry:
                before = text(net.one(OURS, budget), budget)
                rows.append([f"{net.name} {budget}", before, text(entry, budget), text(net.one(EPOCH, budget), budget)])
    if not rows:
        return ""
    return f"""## Retraining without labels

`examples/retrain.py` takes the pruned ONNX model into PyTorch (onnx2torch), fits it to the outputs of the dense one
on the same 512 images, without labels, and exports ONNX again:

<!-- not run: needs PyTorch -->
    python examples/retrain.py dense.onnx pruned.onnx out.onnx --calib fixtures/calib.npz --mirror --mix

""" + table(["net, MACs", "onnx-mipp", "distilled", "best peer + labelled epoch"], rows)


def write(folder, docs):
    nets = [net for net in (Net(folder, name) for name in NETS) if net.results]
    for net in nets:
        (docs / f"peers-{net.name}.svg").write_text(plot.page(net))
    head = [INTRO, missing(nets), "## Summary", summary(nets), latencies(nets), distilled(nets)]
    parts = [*head, "## All figures", *map(details, nets)]
    (docs / "peers.md").write_text("\n\n".join(p.strip("\n") for p in parts if p) + "\n")


if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parents[2]
    write(ROOT / "target" / "peers", ROOT / "docs")
