"""The tools around onnx-mipp, for the commands and figures of docs/guide/toolchain.md.

    python bench/toolchain.py latency MODEL.onnx ... [--runtime openvino] [--threads 1 2] [--plain]
    python bench/toolchain.py accuracy MODEL.onnx ... --data fixtures/eval.npz

`latency` runs the models in turns, so that other work on the machine falls on all of them alike, and prints
the median of the best half of the runs, with --plain as --latency-command wants it. Needs numpy and onnxruntime;
`--runtime openvino` also openvino.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

# Samples of one run where many are run.
BATCH = 64


def session(model: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def sample(model: Path) -> dict[str, np.ndarray]:
    """One sample of noise for every input; the sizes must be fixed but for the first."""
    draw = np.random.default_rng(0).standard_normal
    return {
        source.name: draw([1, *source.shape[1:]]).astype(np.float32)
        for source in session(model).get_inputs()
    }


def in_onnxruntime(model: Path, threads: int) -> Callable[[], object]:
    opened, feeds = session(model, threads), sample(model)
    return lambda: opened.run(None, feeds)


def in_openvino(model: Path, threads: int) -> Callable[[], object]:
    import openvino

    feeds = sample(model)
    read = openvino.Core().read_model(model)
    read.reshape({name: list(values.shape) for name, values in feeds.items()})
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    # What the exported weights are is computed in, on every CPU.
    compiled = openvino.compile_model(read, "CPU", settings | {"INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    return lambda: request.infer(feeds)


RUNTIMES = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}


def taken(runs: list[Callable[[], object]], seconds: float) -> list[float]:
    """Milliseconds of one run of each."""
    times: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    began = time.perf_counter()
    while len(times[0]) < 10 or time.perf_counter() - began < seconds:
        for run, own in zip(runs, times):
            start = time.perf_counter()
            run()
            own.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(sorted(own)[: (len(own) + 1) // 2]) for own in times]


def latency(arguments: argparse.Namespace) -> None:
    columns = []
    if arguments.plain:
        runs = [RUNTIMES[arguments.runtime](model, arguments.threads[0]) for model in arguments.models]
        print(*taken(runs, arguments.seconds))
        return
    for threads in arguments.threads:
        runs = [RUNTIMES[arguments.runtime](model, threads) for model in arguments.models]
        columns.append(taken(runs, arguments.seconds))
    print(f"| {arguments.runtime} | " + " | ".join(f"threads: {n} (ms)" for n in arguments.threads) + " |")
    print("|---|" + "---:|" * len(columns))
    for model, *times in zip(arguments.models, *columns):
        print(f"| {model.name} | " + " | ".join(f"{time:.3g}" for time in times) + " |")


def accuracy(arguments: argparse.Namespace) -> None:
    data = np.load(arguments.data)
    labels = data["labels"]
    print("| model | kB | top-1 |\n|---|---:|---:|")
    for model in arguments.models:
        opened = session(model)
        name = opened.get_inputs()[0].name
        parts = np.split(data[name], range(BATCH, len(labels), BATCH))
        scores = np.concatenate([opened.run(None, {name: part})[0] for part in parts])
        kilobytes = model.stat().st_size / 1000
        print(f"| {model.name} | {kilobytes:.0f} | {(scores.argmax(1) == labels).mean():.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("latency")
    command.add_argument("models", type=Path, nargs="+")
    command.add_argument("--runtime", choices=RUNTIMES, default="onnxruntime")
    command.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    command.add_argument("--seconds", type=float, default=2, help="for each number of threads")
    command.add_argument("--plain", action="store_true", help="only the milliseconds, with the first number of threads")
    command.set_defaults(call=latency)
    command = commands.add_parser("accuracy")
    command.add_argument("models", type=Path, nargs="+")
    command.add_argument("--data", type=Path, required=True)
    command.set_defaults(call=accuracy)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
