"""How a pruned model is judged: on samples with a known truth that the program has not seen."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "fixtures" / "zoo"
EXAMPLES = ROOT / "examples"
# What a metric of the examples does, is done here by the same code.
sys.path.append(str(EXAMPLES))
BATCH = 50
DRAWS = 1000
COLUMNS = ["task", "data", "options", "MACs left", "before", "after", "lost", "standard error", "seconds"]

Arrays = dict[str, np.ndarray]
# Of judged samples: what each is worth, as the metric reads it.
Marks = np.ndarray


def outputs(model: Path, arrays: Arrays) -> np.ndarray:
    session = opened(model)
    count = len(next(iter(arrays.values())))
    names = [source.name for source in session.get_inputs()]
    fixed = session.get_inputs()[0].shape[0]
    batch = fixed if isinstance(fixed, int) else BATCH
    parts = []
    for first in range(0, count, batch):
        feeds = {name: arrays[name][first : first + batch] for name in names}
        parts.append(session.run(None, feeds)[0])
    return np.concatenate(parts)


def opened(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@dataclass
class Case:
    """One model, what calibrates it and how its outputs are marked."""

    name: str
    model: Path
    calib: Arrays
    judged: Arrays
    # From the outputs on `judged` to one row of marks a sample, and from these to points.
    mark: Callable[[np.ndarray], Marks]
    metric: Callable[[Marks], float]
    # Options that the model needs where no data show its sizes.
    shapes: list[str] = field(default_factory=list)
    # The first output on `judged`.
    run: Callable[[Path, Arrays], np.ndarray] = outputs
    # Some of the judged samples with what is true of them, as the metrics of examples/ read it.
    truth: Callable[[slice], Arrays] | None = None


def percent_right(marks: Marks) -> float:
    return 100 * float(marks.mean())


def standard_error(metric: Callable[[Marks], float], before: Marks, after: Marks) -> float:
    random = np.random.default_rng(0)
    draws = (random.integers(len(before), size=len(before)) for _ in range(DRAWS))
    return float(np.std([metric(after[draw]) - metric(before[draw]) for draw in draws]))


def report(program: Path, model: Path, out: Path, asked: list[str]) -> dict:
    """The program's report on a model that it prunes."""
    command = [str(program), str(model), str(out), "--json", "--quiet", *asked]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout)


def share(report: dict) -> float:
    """Of the MACs that is left."""
    return report["macs"]["after"] / report["macs"]["before"]


def prune(program: Path, case: Case, work: Path, with_data: bool, options: list[str]) -> tuple[dict, float]:
    if with_data:
        np.savez(work / "calib.npz", **case.calib)
    inputs = ["--calib", str(work / "calib.npz")] if with_data else case.shapes
    began = time.monotonic()
    return report(program, case.model, work / "out.onnx", [*options, *inputs]), time.monotonic() - began


def row(task: str, cases: Iterator[Case], program: Path, with_data: bool, options: list[str]) -> list[str]:
    """What COLUMNS name."""
    shares, seconds, before, after = [], [], [], []
    with tempfile.TemporaryDirectory() as work:
        for number, case in enumerate(cases):
            # Without data all folds have the same model.
            if with_data or number == 0:
                made, taken = prune(program, case, Path(work), with_data, options)
                shares.append(share(made))
                seconds.append(taken)
            before.append(case.mark(case.run(case.model, case.judged)))
            after.append(case.mark(case.run(Path(work, "out.onnx"), case.judged)))
    metric = case.metric
    both = np.concatenate(before), np.concatenate(after)
    first, second = map(metric, both)
    data = "yes" if with_data else "no"
    macs = ", ".join(f"{share:.3f}" for share in shares)
    points = (first, second, first - second, standard_error(metric, *both))
    figures = [f"{value:.1f}" for value in points]
    return [task, data, " ".join(options), macs, *figures, f"{np.mean(seconds):.0f}"]
