#!/usr/bin/env python3
"""Writes docs/results/peers.md and its plots from peers.csv beside it: `python bench/peers/page.py`."""

import textwrap

import plot
from figures import BASELINE, BUDGETS, DISTILLED, EPOCH, NETS, ONNXSIM, OURS, SCOPES, TORCH, Net, is_near, tables

OTHERS = {
    "onnx-mipp": OURS,
    "L1 with our repair": BASELINE,
    "onnxsim": ONNXSIM[0],
    "the labelled epoch": EPOCH,
    "distilling": DISTILLED,
}

WHAT = """## What is compared

Top-1 accuracy in percent on the 1,000 test images of `fixtures/eval.npz`. All methods get the same
dense weights, the same budget of MACs, and at most the 512 images of `fixtures/calib.npz`. Nothing
is retrained unless said. One standard error is about 0.9 points, and each figure is one run (random
channels: the mean of three): a point or two between criteria means little. The settings of
onnx-mipp were chosen on test images of the same data set ([accuracy](accuracy.md)); its peers' are
their defaults.

- **onnx-mipp** with `--macs`, `--align 1` (widths are free, as those of the others are) and
  defaults else.
- **L1, our repair**: the channels with the largest weights, one ratio for all groups, repaired by
  onnx-mipp.
- **Torch-Pruning** 1.6.1 on the PyTorch nets behind the fixtures, one step, one ratio searched for
  the budget. Where that misses it, layer after layer takes the next lower ratio (uniform). L1 and
  L2 rank by one layer's weights, group norm by all coupled ones. Taylor and Hessian see the labels
  of the 512 images, which nothing else does. At most 0.95 of a layer leaves. *Re-estimated* is
  after BatchNorm takes its statistics from the 512 images anew.
- **onnxsim** 0.8.1, `apply_structured_pruning` (L1, L2) and `apply_structured_wanda_pruning`, on
  the export with folded BatchNorm (it cuts no channel that has one). *Fitted* is after
  `apply_pruning_finetune`, its closed-form fit of Gemm weights on the 512 images. It cuts only some
  of the channels and so may miss the budget.
- **Best peer, one labelled epoch**: the Torch-Pruning model with the best accuracy after
  re-estimation, then one epoch on the 60,000 labelled training images (SGD, one cycle up to 0.05,
  flips; one setting, not tuned). It is a yardstick: nothing else here trains.

<!-- not run: installs packages and takes the better part of an hour -->
    pip install -r bench/peers/requirements.txt
    python bench/peers/peers.py --bin target/release/onnx-mipp

This needs the training set of Fashion-MNIST that `fixtures/train.py` uses, for the labels and the
epoch. It writes [peers.csv](peers.csv), this page and its plots.
"""

MARKS = """An asterisk marks results whose MACs miss the budget by more than 1 % of it, with the share that
they have (of Torch-Pruning, the nearest above the budget, in its favour); a dash, what was not run."""

ALL = """## All figures

[peers.csv](peers.csv) has every criterion, scope and budget: `pruned` is the accuracy as pruned,
`batchnorm` after re-estimation, `fitted` after onnxsim's fit; `macs` and `latency` are shares of
the dense model's. Where `macs` is empty it is within 1 % of the budget."""


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
        ("onnx-mipp", lambda n, b: text(n.get(OURS, b), b)),
        ("L1, our repair", lambda n, b: text(n.get(BASELINE, b, "uniform"), b)),
        ("Torch-Pruning, best re-estimated", lambda n, b: with_name(n.best(TORCH[1:], b, "batchnorm"), b, "batchnorm")),
        ("random, re-estimated", lambda n, b: text(n.get("random", b, "uniform"), b, ("batchnorm",))),
        ("best as pruned", lambda n, b: with_name(n.best(TORCH[1:], b, "pruned"), b, "pruned")),
        ("onnxsim, best fitted", lambda n, b: with_name(n.best(ONNXSIM, b, "fitted"), b, "fitted")),
        ("best peer + labelled epoch", lambda n, b: text(n.get(EPOCH, b), b)),
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
            entries = [net.get(OURS, budget), net.get(BASELINE, budget, "uniform"), *(b and b[2] for b in best)]
            if any(e and "latency" in e for e in entries):
                rows.append([f"{net.name} {budget}", *map(share, entries)])
    if not rows:
        return ""
    shown = [[float(cell) for cell in row[1:] if cell != "-"] for row in rows if row[0].endswith(f" {BUDGETS[0]}")]
    least, most = min(map(min, shown)), max(map(max, shown))
    message = f"MACs are not time. At {BUDGETS[0]} of the MACs a run takes {least} to {most} of the dense model's time."
    return f"## Latency\n\n{message}\n\n{table(header, rows)}\n\n{LATENCY}"


LATENCY = """Shares of the dense model's time with ONNX Runtime, one thread, 32 images at once, the least of 60
rounds in which all models of a net take turns. Other programs may have run meanwhile. Widths are
free here (`--align 1`); [latency](latency.md) has what multiples of 8 and `--latency` reach."""


def share(entry):
    return f"{entry['latency']:.2f}" if entry and "latency" in entry else "-"


def repairs(nets):
    """What each repair is worth, of onnx-mipp's channels and of L1's."""
    kinds = ("none", "once", "sequential")
    header = ["net, MACs"] + [f"{label}, {kind}" for label in ("onnx-mipp", "L1") for kind in kinds]
    rows = []
    for net in nets:
        for b in net.budgets:
            ours = [text(net.get(f"onnx-mipp, repair {kind}", b), b) for kind in kinds]
            theirs = [text(net.get(f"L1, our repair {kind}", b, "uniform"), b) for kind in kinds]
            rows.append([f"{net.name} {b}", *ours, *theirs])
    return "## What the repair is worth\n\nTop-1 by `--repair`, of onnx-mipp's channels and of those that L1 chooses:\n\n" + table(header, rows)


def plots(nets):
    pictures = [f"![{net.name}: accuracy against MACs and latency](peers-{net.name}.svg)" for net in nets]
    return "## Plots\n\n" + "\n\n".join(pictures)


def answer(nets):
    """Who is ahead where, in words."""
    cases = [(net, budget) for net in nets for budget in net.budgets if net.get(OURS, budget)]
    peers = {
        "Torch-Pruning's best criterion, re-estimated": lambda n, b: n.best(TORCH[1:], b, "batchnorm")[0],
        "onnxsim's best, fitted": lambda n, b: n.best(ONNXSIM, b, "fitted")[0],
        "L1 channels with the same repair": lambda n, b: n.get(BASELINE, b, "uniform")["pruned"],
        "the best peer after one epoch on 60,000 labelled images": lambda n, b: n.get(EPOCH, b)["pruned"],
    }
    lines = []
    for words, figure in peers.items():
        leads = [net.get(OURS, budget)["pruned"] - figure(net, budget) for net, budget in cases]
        ahead = sum(lead > 0 for lead in leads)
        least, most = min(leads), max(leads)
        how = f"{least:.1f} to {most:.1f} points" if least > 0 else f"{-least:.1f} points behind to {most:.1f} ahead"
        lines.append(f"- {words}: ahead in {ahead} of {len(leads)} cases, {how}.")
    text = "At the same MACs, on four small nets and without training, onnx-mipp is, compared with"
    return "\n".join([wrap(text), "", *map(wrap, lines)])


def state(nets):
    commits = sorted(set().union(*(net.commits for net in nets)))
    return wrap(f"**State:** the figures of this page are of commit {', '.join(commits)}.")


def wrap(words):
    return textwrap.fill(words, 100, subsequent_indent="  " if words.startswith("- ") else "", break_on_hyphens=False)


def missing(nets):
    """What the command measures and is not there, in words."""
    lines = []
    for name in NETS:
        net = next((n for n in nets if n.name == name), None)
        if net is None:
            lines.append(f"- {name}: everything")
            continue
        torch = [(m, s, b) for b in net.budgets for m in TORCH for s in SCOPES if m != "random" or s == "uniform"]
        lacks = sum(net.get(m, b, s) is None for m, s, b in torch)
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
            entry = net.get(DISTILLED, budget)
            if entry:
                before = text(net.get(OURS, budget), budget)
                rows.append([f"{net.name} {budget}", before, text(entry, budget), text(net.get(EPOCH, budget), budget)])
    if not rows:
        return ""
    return f"""## Retraining without labels

`examples/retrain.py` takes the pruned ONNX model into PyTorch (onnx2torch), fits it to the outputs
of the dense one on the same 512 images, without labels, and exports ONNX again. It gains most where
most was cut.

<!-- not run: needs PyTorch -->
    python examples/retrain.py dense.onnx pruned.onnx out.onnx --calib fixtures/calib.npz --mirror --mix

""" + table(["net, MACs", "onnx-mipp", "distilled", "best peer + labelled epoch"], rows)


def write(docs=tables.RESULTS):
    nets = [net for net in map(Net, NETS) if net.results]
    for net in nets:
        (docs / f"peers-{net.name}.svg").write_text(plot.page(net))
    head = ["# How does onnx-mipp compare with its peers?", answer(nets), state(nets), missing(nets)]
    figures = ["## Summary", MARKS, summary(nets), latencies(nets), repairs(nets), distilled(nets)]
    parts = [*head, *figures, WHAT, plots(nets), ALL]
    (docs / "peers.md").write_text("\n\n".join(p.strip("\n") for p in parts if p) + "\n")


if __name__ == "__main__":
    write()
