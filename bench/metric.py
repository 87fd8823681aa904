"""Models shrunk as far as a metric allows: docs/results/accuracy.md has the table.

    python bench/metric.py FOLDER [--task NAME ...] [--bin PATH] [--csv docs/results]
    python bench/metric.py FOLDER --task NAME --write OUT

The tasks are those of bench/tasks.py and mobilenet_v2 of bench/defaults.py (the first fold), with FOLDER as there, and
the metrics the scripts of examples/. A metric sees every second of the judged samples; the result is judged on the
others, which the search did not see. Points that may be lost: DROPS. The second form only writes the samples: calib.npz,
seen.npz and unseen.npz, for the commands of docs/start.md.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from defaults import imagenet
from judged import EXAMPLES, ROOT, Case, report, share, standard_error
from tables import Table
from tasks import TASKS as OTHERS

TASKS = ("mobilenet_v2", *OTHERS)
DROPS = {"mobilenet_v2": 2.0, "recogniser": 0.5, "sentences": 0.5, "boxes": 1.0, "voice": 0.2}
SCRIPTS = {
    "mobilenet_v2": "right.py", "recogniser": "characters.py", "sentences": "sentences.py", "boxes": "boxes.py",
    "voice": "speech.py",
}  # fmt: skip
COLUMNS = [
    "task", "max drop", "MACs left", "before, seen", "after, seen", "before", "after", "lost",
    "standard error", "candidates", "seconds",
]  # fmt: skip


def case(task: str, folder: Path) -> Case:
    found = imagenet(task, folder / "imagenet") if task == "mobilenet_v2" else OTHERS[task](task, folder)
    return next(iter(found))


def written(judged: Case, out: Path) -> None:
    for name, arrays in (
        ("calib", judged.calib),
        ("seen", judged.truth(slice(0, None, 2))),
        ("unseen", judged.truth(slice(1, None, 2))),
    ):
        np.savez(out / f"{name}.npz", **arrays)


def row(task: str, folder: Path, program: Path) -> list[str]:
    judged, drop = case(task, folder), DROPS[task]
    with tempfile.TemporaryDirectory() as work:
        written(judged, Path(work))
        out = Path(work, "out.onnx")
        metric = f"'{sys.executable}' '{EXAMPLES / SCRIPTS[task]}' {{model}} '{work}/seen.npz'"
        began = time.monotonic()
        asked = ["--calib", f"{work}/calib.npz", "--metric", metric, "--max-drop", str(drop)]
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
    parser.add_argument("--write", type=Path, metavar="OUT", help="only write the samples of one task to this folder")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if arguments.write:
        arguments.write.mkdir(parents=True, exist_ok=True)
        written(case(arguments.task[0], folder), arguments.write)
        return
    table = Table("metric", COLUMNS, COLUMNS[:2], arguments.csv)
    for task in arguments.task:
        table.add(*row(task, folder, arguments.bin.resolve()))


if __name__ == "__main__":
    main()
