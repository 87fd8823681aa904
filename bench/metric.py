"""Models shrunk as far as a metric allows: docs/results/accuracy.md has the table.

    python bench/metric.py FOLDER [--task NAME ...] [--bin PATH] [--csv docs/results]
    python bench/metric.py FOLDER --task NAME --measure MODEL

The tasks are those of bench/tasks.py and mobilenet_v2 of bench/defaults.py (the first fold), with FOLDER as there. The
second form prints what a model is worth on every second of the judged samples; with it as `--metric` the first form
prunes, and judges the result on those that the search did not see. Points that may be lost: DROPS.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from defaults import imagenet
from judged import ROOT, Case, report, share, standard_error
from tables import Table
from tasks import TASKS as OTHERS

TASKS = ("mobilenet_v2", *OTHERS)
DROPS = {"mobilenet_v2": 2.0, "recogniser": 0.5, "sentences": 0.5, "boxes": 1.0, "voice": 0.2}
COLUMNS = [
    "task", "max drop", "MACs left", "before, seen", "after, seen", "before", "after", "lost",
    "standard error", "candidates", "seconds",
]  # fmt: skip


def case(task: str, folder: Path) -> Case:
    found = imagenet(task, folder / "imagenet") if task == "mobilenet_v2" else OTHERS[task](task, folder)
    return next(iter(found))


def row(task: str, folder: Path, program: Path) -> list[str]:
    judged, drop = case(task, folder), DROPS[task]
    with tempfile.TemporaryDirectory() as work:
        calib, out = Path(work, "calib.npz"), Path(work, "out.onnx")
        np.savez(calib, **judged.calib)
        metric = f"'{sys.executable}' '{Path(__file__).resolve()}' '{folder}' --task {task} --measure {{model}}"
        began = time.monotonic()
        asked = ["--calib", str(calib), "--metric", metric, "--max-drop", str(drop)]
        found = report(program, judged.model, out, asked)
        seconds = time.monotonic() - began
        before, after = (judged.mark(judged.run(model, judged.judged))[1::2] for model in (judged.model, out))
    metric = found["metric"]
    first, second = map(judged.metric, (before, after))
    points = (metric["before"], metric["after"], first, second, first - second, standard_error(judged.metric, before, after))
    figures = [f"{value:.1f}" for value in points]
    candidates = len(found["search"]["candidates"])
    return [task, str(drop), f"{share(found):.3f}", *figures, str(candidates), f"{seconds:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--bin", type=Path, default=ROOT / "target" / "release" / "onnx-mipp", help="the program")
    parser.add_argument("--csv", type=Path, help="folder of metric.csv")
    parser.add_argument("--measure", type=Path, metavar="MODEL", help="only print what this model is worth")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if arguments.measure:
        judged = case(arguments.task[0], folder)
        print(judged.metric(judged.mark(judged.run(arguments.measure, judged.judged))[::2]))
        return
    table = Table("metric", COLUMNS, COLUMNS[:2], arguments.csv)
    for task in arguments.task:
        table.add(*row(task, folder, arguments.bin.resolve()))


if __name__ == "__main__":
    main()
