"""Writes docs/results/zoo.md from zoo.csv and zoo-frozen.csv beside it: `python bench/zoo_page.py`."""

import collections
import re
import statistics
import textwrap
from pathlib import Path

import tables

MACS = 0.6
SAMPLES = 16
# Outputs of a cut model and of the masked dense one may differ by rounding, relative to their scale;
# and so may those of one model with ONNX Runtime's optimiser and without.
TOLERANCE = 1e-4
OPTIMISER_TOLERANCE = 1e-3
# What a model's outputs may move by before the page names it, relative to their size.
FAR = 0.35
# Columns of zoo.csv whose spread is shown, with what they are.
SPREAD = {
    "nodes": "nodes",
    "prunable": "share of the MACs that could leave",
    "MACs": "MACs left",
    "parameters": "parameters left",
    "file": "size of the file",
    "error": "error of the outputs",
    "plain MACs": "MACs left without options and data",
    "seconds": "seconds of the run",
    "plain seconds": "seconds without options and data",
}

TEXT = """# The zoo: does it work on real graphs?

{answer}

This is about structure, not about accuracy: so few made-up samples are no calibration, and most
exports have random weights. [Accuracy](accuracy.md) has real tasks.

{state}

All figures are in [zoo.csv](zoo.csv) (a row for each model) and [zoo-frozen.csv](zoo-frozen.csv)
(a row for each reason that channels stay).

## What is run

Each model is pruned twice: to {macs} of its MACs with {samples} made-up samples as calibration
data, and once more without any option or data. `make zoo` fetches and exports the models
(`fixtures/zoo.py` pins where each comes from), prunes them and writes the files and this page.
Networks of torchvision come from both of PyTorch's exporters, those of timm from one of them. The
others are ResNets for CIFAR, a sentence model in several forms, graphs of the `onnx` package, and
files that published packages ship: text recognition, faces, voice, wake words, quality of sound.
Some are quantized.

## What is checked

- Both results pass the full check of `onnx.checker` where the original does.
- No file is larger than the original.
- ONNX Runtime gives the same without its optimiser, to {optimiser:g}, or three times as much as for
  the original. Differences of outputs that are smaller than {tolerance:g} are measured by that.
- A cut of the same share of every group, without repair, equals the dense model whose removed
  channels are set to zero where they are read: to {tolerance:g} of the output's scale, or three
  times as far as ONNX Runtime's optimiser moves the original, which matters for integers. A model
  whose output hardly moves with its input or with the cut proves little.

{masked}

## What is left

{spread}

{spread_notes}

{far}

## Where {macs} is not reached

{short}

## What keeps channels

{reasons}

## Columns of the files

- `prunable`: share of the MACs that leaves when every free group shrinks to nothing.
- `MACs`, `parameters`, `file`: what is left with `--macs {macs}`, of the original's; `options`:
  what was needed besides.
- `plain MACs`, `plain file`: the same of the run without options. `masked`: the last check above.
- `inspect`, `seconds`, `plain seconds`: of the three runs.
- `inside`: layers in the bodies of If, Loop and Scan, which are not followed. `failures`: checks
  that fail.
- Of zoo-frozen.csv, `share`: MACs of the nodes that read or make the frozen channels, of the
  model's; a node counts once for each group that it touches, so that sums may pass 1. The outputs,
  and the softmax before them, are left out, since every model has them. Of several nodes with one
  reason the one with the largest share is named, and `more nodes` counts the others.
"""


def wrap(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def answer(rows: list[tables.Row]) -> str:
    whole = [row for row in rows if not row["failures"]]
    reached = [row for row in rows if is_reached(row)]
    grew = [row for row in rows if max(float(row[name] or 0) for name in ("file", "plain file")) > 1]
    return wrap(
        f"{len(whole)} of {len(rows)} models pass every check, {len(reached)} reach {MACS} of their MACs, and {len(grew)} "
        f"files grew. {len(rows) - len(reached)} models cannot reach {MACS}: too many of their channels stay."
    )


def is_reached(row: tables.Row) -> bool:
    return float(row["MACs"] or 1) <= MACS + 0.005


def state(rows: list[tables.Row], missing: list[str]) -> str:
    found = collections.Counter(row["commit"] for row in rows).most_common()
    if len(found) == 1:
        text = f"Made with the program of commit {found[0][0]}."
    else:
        text = f"Rows are of several states of the program: {', '.join(f'{n} with {name}' for name, n in found)}."
    return wrap(text + (f" Not run yet: {listed(missing)}." if missing else ""))


def masked(rows: list[tables.Row]) -> str:
    found = collections.Counter(re.sub(r": no output is beyond .*", "", row["masked"]) for row in rows)
    words = {
        "equal": "are equal to the masked model",
        "equal, but the output hardly moves": "are equal, but the output hardly moves",
        "says nothing": "say nothing, since all outputs are next to zero",
        "": "have nothing to compare, as nothing can leave",
    }
    parts = [f"{number} {words.get(name, name)}" for name, number in found.most_common()]
    fails = [f"- `{row['model']}`: {row['failures']}" for row in rows if row["failures"]]
    return "\n".join([wrap(f"Of the {len(rows)} models, {'; '.join(parts)}."), *(["", *fails] if fails else [])])


def spread(rows: list[tables.Row]) -> str:
    found = []
    for name, words in SPREAD.items():
        values = sorted(float(row[name]) for row in rows if row[name])
        tenth = len(values) // 10
        marks = {"least": values[0], "one in ten below": values[tenth], "median": statistics.median(values)}
        marks |= {"one in ten above": values[-1 - tenth], "most": values[-1]}
        found.append({"figure": words} | {mark: f"{value:.3f}".rstrip("0").rstrip(".") for mark, value in marks.items()})
    return "\n".join(tables.markdown(list(found[0]), found))


def spread_notes(rows: list[tables.Row]) -> str:
    needed = [f"`{row['model']}` needed `{row['options']}` besides." for row in rows if row["options"]]
    text = "*Error* is how far the outputs are from the original's on four of the samples, relative to their size."
    return wrap(" ".join([text, "The runs are on two cores.", *needed]))


def far(rows: list[tables.Row]) -> str:
    found = [row for row in rows if float(row["error"] or 0) > FAR]
    found = sorted(found, key=lambda row: -float(row["error"]))
    names = ", ".join(f"`{row['model']}` ({row['error']})" for row in found)
    return wrap(f"The outputs move furthest, by more than {FAR} of their size, in {names}.")


def short(rows: list[tables.Row], frozen: list[tables.Row]) -> str:
    found = []
    for row in rows:
        if not is_reached(row):
            own = [reason["reason"] for reason in frozen if reason["model"] == row["model"]]
            why = own[0] if own else "no single reason holds half a percent of the MACs"
            if int(row["inside"] or 0):
                why = f"{row['inside']} layers are in the bodies of control flow" + (f"; {own[0]}" if own else "")
            found.append({"model": row["model"], "prunable": row["prunable"], "MACs": row["MACs"], "what stays": why})
    return "\n".join(tables.markdown(list(found[0]), found)) if found else "Nowhere."


def reasons(frozen: list[tables.Row]) -> str:
    found = collections.defaultdict(list)
    for row in frozen:
        kind = re.sub(r"^node '.*?' \((.*?)\): ", r"\1: ", row["reason"])
        found[re.sub(r"'[^']*'", "a tensor", kind)].append(row["model"])
    ranked = sorted(found.items(), key=lambda item: -len(set(item[1])))
    shown = [(kind, models) for kind, models in ranked if len(set(models)) > 2]
    lines = [{"operator: reason": kind, "models": str(len(set(models)))} for kind, models in shown]
    rest = len(ranked) - len(shown)
    text = f"Channels stay for these reasons in three models or more; {rest} other reasons hold in one or two."
    return wrap(text) + "\n\n" + "\n".join(tables.markdown(list(lines[0]), lines))


def write(folder: Path, missing: list[str]) -> None:
    rows, frozen = tables.read(folder / "zoo.csv"), tables.read(folder / "zoo-frozen.csv")
    text = TEXT.format(
        answer=answer(rows), state=state(rows, missing), masked=masked(rows), spread=spread(rows), spread_notes=spread_notes(rows),
        far=far(rows), short=short(rows, frozen), reasons=reasons(frozen), macs=MACS, samples=SAMPLES,
        tolerance=TOLERANCE, optimiser=OPTIMISER_TOLERANCE,
    )  # fmt: skip
    (folder / "zoo.md").write_text(text)


if __name__ == "__main__":
    write(tables.RESULTS, [])
