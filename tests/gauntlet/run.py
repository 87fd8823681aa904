"""The gauntlet: many skeletons of networks, each pruned by the program in several ways, each result checked.

    python tests/gauntlet/run.py [--bin target/debug/onnx-mipp] [--all] [--jobs 2] [--keep FOLDER] [NAME ...]

Without --all, a few commands for each skeleton cover the options; docs/design/gauntlet.md says what is checked.
"""

import argparse
import fnmatch
import os
import resource
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

# Threads of numpy and of ONNX Runtime's telemetry would only disturb the other worker.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"})

import design  # noqa: E402
import onnxruntime  # noqa: E402
from checks import Bench, Failure, Result  # noqa: E402
from net import SKELETONS  # noqa: E402

FAMILIES = ("cnn_residual", "cnn_mobile", "cnn_dense", "detection", "segmentation", "generative", "sequence",
            "transformers", "vectors", "exported", "few_bits")  # fmt: skip
for family in FAMILIES:
    __import__(family)


def environment() -> dict[str, str]:
    """The program takes ONNX Runtime from the package that checks its results."""
    found = dict(os.environ)
    if "ORT_DYLIB_PATH" not in found:
        libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.*"))
        if libraries:
            found["ORT_DYLIB_PATH"] = str(libraries[0])
    return found


def cpu_seconds() -> float:
    """Of this process and the programs that it ran."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)


def examine(name: str, number: int, program: Path, folder: Path, everything: bool) -> Result:
    """One skeleton, with all its commands."""
    began = cpu_seconds()
    try:
        bench = Bench(SKELETONS[name], program, folder, environment())
    except Exception:
        failure = Failure(name, "", "building the skeleton", traceback.format_exc())
        return Result(name, failures=[failure])
    try:
        bench.inspect()
        for command in design.everything() if everything else design.covering(number):
            bench.prune(command)
            if command == design.DEFAULT and (everything or number % 10 == 0):
                bench.repeat(command)
        if not (bench.skeleton.held or bench.has_cut()):
            bench.prune(design.CERTAIN)
        if everything or design.compares(number):
            bench.compare_repairs()
        result = bench.finish()
    except Exception:
        result = bench.result
        result.failures.append(Failure(name, "", "the gauntlet itself", traceback.format_exc()))
    result.seconds = cpu_seconds() - began
    return result


HEADER = f"{'skeleton':28} nodes runs  mac.7 mac.4 par.6 mi.95 rat.3   none   once  layer  CPU s"


def row(result: Result) -> str:
    left = " ".join(f"{result.left[b]:5.2f}" if b in result.left else "    -" for b in design.BUDGETS)
    kinds = ("none", "once", "sequential")
    lost = " ".join(f"{result.errors[kind]:6.3f}" if kind in result.errors else "     -" for kind in kinds)
    verdict = f"FAILED: {', '.join(sorted({f.check for f in result.failures}))}" if result.failures else ""
    return f"{result.name:28} {result.nodes:5} {result.runs:4}  {left} {lost}  {result.seconds:5.1f}  {verdict}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="skeletons or families to run, or patterns of names")
    parser.add_argument("--bin", type=Path, default=os.environ.get("ONNX_MIPP", ROOT / "target/debug/onnx-mipp"))
    parser.add_argument("--all", action="store_true", help="all budgets with all repairs and alignments")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="a folder for the models and data, which stay")
    arguments = parser.parse_args()
    program = Path(arguments.bin).resolve()
    if not program.exists():
        parser.error(f"{program} is not there: cargo build --bin onnx-mipp")
    patterns = arguments.names or ["*"]
    chosen = [n for n, s in SKELETONS.items() if any(fnmatch.fnmatch(n, p) or s.family == p for p in patterns)]
    if not chosen:
        parser.error(f"no skeleton is called {' or '.join(patterns)}")
    page = (ROOT / "docs" / "design" / "gauntlet.md").read_text()
    unnamed = [name for name in SKELETONS if f"`{name}`" not in page]
    if unnamed:
        parser.error(f"docs/design/gauntlet.md does not name {', '.join(unnamed)}")
    numbers = {name: number for number, name in enumerate(SKELETONS)}
    began = time.monotonic()
    failures: list[Failure] = []
    failed = 0
    print(HEADER)
    with tempfile.TemporaryDirectory() as passing:
        folder = arguments.keep or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(arguments.jobs) as pool:
            jobs = [pool.submit(examine, n, numbers[n], program, folder, arguments.all) for n in chosen]
            for job in as_completed(jobs):
                result = job.result()
                print(row(result), flush=True)
                failures += result.failures
                failed += bool(result.failures)
    for failure in failures:
        print(f"\n{failure}")
    counts = ([f"{failed} failed"] if failed else []) + [f"{len(chosen) - failed} passed"]
    print(f"\n===== {', '.join(counts)} in {time.monotonic() - began:.2f}s =====")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
