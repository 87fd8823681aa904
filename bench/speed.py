"""Times onnx-mipp against a plain ONNX Runtime pass over the same samples; docs/results/performance.md has the figures.

    python bench/speed.py --bin FOLDER ratios resnet50_torchscript=128 mobilenet_v2_torchscript=512
    python bench/speed.py --bin FOLDER samples mobilenet_v2_torchscript=64,128,256,512
    python bench/speed.py --bin FOLDER selection 512,1024,2048
    python bench/speed.py --bin FOLDER sweep resnet mobilenet
    python bench/speed.py --bin FOLDER --before OTHER turns resnet mobilenet mobilenet_v2_torchscript=96

FOLDER has onnx-mipp; models are those of fixtures/zoo, the images noise with a spectrum of 1/f. `ratios` runs a
plain pass, the program once for each repair, and a plain pass again, and prints the share of each stage and
the peak memory. `samples` prints time and memory for each number of images; `selection` the time of
the selection for one layer of each width, `sweep` that of one run and of four budgets at once on fixtures, the better of
two each. `turns` runs the programs of two folders in turns, on one thread, and prints the least CPU seconds of ROUNDS
runs of each: a name alone is a fixture with its data, `=N` a model of the zoo on N images, `=-N` either on N samples that
are made up. With --csv, the tables are also kept in that folder, as speed-ratios.csv and so on. Needs numpy, onnx and onnxruntime, and Linux.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from tables import Table

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "fixtures" / "zoo"
SIDE = 224
# As many images as the program takes into one batch.
BATCH = 6
THREADS = 2
REPAIRS = ("once", "sequential")
ROUNDS = 7
STAGE = re.compile(r"^\[ *([\d.]+) s\] (.*)$")


def images(count: int, path: Path) -> None:
    """Random images of unit variance whose amplitudes fall as 1/f; colours resemble each other."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    falling = 1 / np.maximum(frequency, 1 / SIDE)
    found = np.lib.format.open_memmap(path, "w+", np.float32, (count, 3, SIDE, SIDE))
    for image in found:
        noise = rng.standard_normal((4, SIDE, SIDE))
        own = np.fft.irfft2(np.fft.rfft2(noise) * falling, (SIDE, SIDE))
        mixed = own[3] + 0.5 * own[:3]
        image[:] = (mixed - mixed.mean()) / mixed.std()
    found.flush()


class Pass:
    """A plain pass of the images through a model."""

    def __init__(self, model: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(self, data: Path, count: int) -> tuple[float, float]:
        """Elapsed and CPU seconds, without the opening of the model."""
        name = self.session.get_inputs()[0].name
        array = np.load(data, mmap_mode="r")
        began, cpu = time.monotonic(), time.process_time()
        for first in range(0, count, BATCH):
            self.session.run(None, {name: np.ascontiguousarray(array[first : min(first + BATCH, count)])})
        return time.monotonic() - began, time.process_time() - cpu


class Run:
    """One run of the program: elapsed and CPU seconds, peak memory in MB, seconds of each stage."""

    def __init__(self, binary: Path, model: Path, data: Path | None, options: list[str], is_sweep: bool = False,
                 threads: int = THREADS) -> None:  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            start = ["sweep", model, "--out-dir", folder] if is_sweep else [model, Path(folder, "out.onnx")]
            given = [] if data is None else ["--calib", data]
            command = [binary, *start, *given, "--threads", threads, "-v", *options]
            command = [str(word) for word in command]
            began = time.monotonic()
            with tempfile.TemporaryFile("w+") as log:
                child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
                _, status, used = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(status)
                self.elapsed = time.monotonic() - began
                log.seek(0)
                text = log.read()
        if child.returncode:
            sys.exit(f"{' '.join(command)}\n{text}")
        self.cpu = used.ru_utime + used.ru_stime
        self.peak = used.ru_maxrss / 1e3
        self.stages = stages(text)


def stages(text: str) -> dict[str, float]:
    """Seconds of each stage, by its first words."""
    marks = [STAGE.match(line) for line in text.splitlines()]
    marks = [(float(mark[1]), re.split(r" \(|:", mark[2])[0]) for mark in marks if mark]
    marks = [(at, name) for at, name in marks if not name.startswith(("runs on", "note"))]
    found: dict[str, float] = {}
    for (at, name), (after, _) in zip(marks, marks[1:]):
        found[name] = found.get(name, 0) + after - at
    return found


def ratios(binary: Path, data: Path, wanted: list[tuple[str, list[int]]], repairs: list[str], folder: Path | None) -> None:
    keys = ["model", "images", "repair"]
    columns = ["plain pass (s)", "program (s)", "ratio", "ratio of CPU time", "peak memory (MB)"]
    table = Table("speed-ratios", [*keys, *columns], keys, folder)
    found = []
    for name, counts in wanted:
        model = ZOO / f"{name}.onnx"
        plain = Pass(model)
        plain.run(data, BATCH)
        for count in counts:
            before = plain.run(data, count)
            runs = [one(binary, model, data, count, repair) for repair in repairs]
            after = plain.run(data, count)
            elapsed, cpu = ((a + b) / 2 for a, b in zip(before, after))
            for repair, run in zip(repairs, runs):
                times = (f"{run.elapsed:.1f}", f"{run.elapsed / elapsed:.1f}", f"{run.cpu / cpu:.1f}")
                table.add(name, count, repair, f"{before[0]:.1f}, {after[0]:.1f}", *times, f"{run.peak:.0f}")
                found.append((name, count, repair, run))
    names = list(dict.fromkeys(stage for *_, run in found for stage in run.stages))
    print("\nPercent of the elapsed time:\n")
    table = Table("speed-stages", [*keys, *names], keys, folder)
    for name, count, repair, run in found:
        table.add(name, count, repair, *(f"{100 * run.stages.get(stage, 0) / run.elapsed:.0f}" for stage in names))


def one(binary: Path, model: Path, data: Path, count: int, repair: str) -> Run:
    return Run(binary, model, data, ["--samples", str(count), "--macs", "0.5", "--repair", repair])


def samples(binary: Path, data: Path, wanted: list[tuple[str, list[int]]], repairs: list[str], folder: Path | None) -> None:
    keys = ["model", "images", "repair"]
    table = Table("speed-samples", [*keys, "program (s)", "CPU time (s)", "peak memory (MB)"], keys, folder)
    for name, counts in wanted:
        for count in counts:
            for repair in repairs:
                run = one(binary, ZOO / f"{name}.onnx", data, count, repair)
                table.add(name, count, repair, f"{run.elapsed:.1f}", f"{run.cpu:.1f}", f"{run.peak:.0f}")


def layer(width: int, path: Path) -> None:
    """Two convolutions of one tap with so many channels between them."""
    rng = np.random.default_rng(width)
    helper = onnx.helper
    narrow, nodes, stored = 64, [], []
    for index, (made, read) in enumerate([(width, narrow), (narrow, width)]):
        weight = rng.standard_normal((made, read, 1, 1)).astype(np.float32) / np.float32(np.sqrt(read))
        stored.append(onnx.numpy_helper.from_array(weight, f"w{index}"))
    nodes.append(helper.make_node("Conv", ["x", "w0"], ["a"], name="wide"))
    nodes.append(helper.make_node("Relu", ["a"], ["b"], name="relu"))
    nodes.append(helper.make_node("Conv", ["b", "w1"], ["y"], name="narrow"))
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", narrow, 14, 14]) for name in "xy"]
    graph = helper.make_graph(nodes, "layer", values[:1], values[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def selection(binary: Path, folder: Path, widths: list[int], kept: Path | None) -> None:
    columns = ["channels", "calibrating (s)", "selecting (s)", "CPU time of the whole (s)"]
    table = Table("speed-selection", columns, columns[:1], kept)
    data = folder / "inputs.npy"
    np.save(data, np.random.default_rng(0).standard_normal((64, 64, 14, 14)).astype(np.float32))
    for width in widths:
        path = folder / "layer.onnx"
        layer(width, path)
        run = Run(binary, path, data, ["--ratio", "0.5", "--repair", "once"])
        times = run.stages
        table.add(width, f"{times['calibrating']:.1f}", f"{times['selecting channels']:.1f}", f"{run.cpu:.1f}")


def sweep(binary: Path, names: list[str], kept: Path | None) -> None:
    columns = ["model", "repair", "one run", "four budgets", "ratio of elapsed", "of CPU time"]
    table = Table("speed-sweep", columns, columns[:2], kept)
    data = ROOT / "fixtures" / "calib.npz"
    one, four = ["--macs", "0.5"], ["--macs", "0.9,0.75,0.5,0.25"]
    repairs = {"by default": [], **{repair: ["--repair", repair] for repair in REPAIRS}}
    for name in names:
        model = ROOT / "fixtures" / f"{name}_bn_torchscript.onnx"
        for repair, option in repairs.items():
            runs = [
                min((Run(binary, model, data, [*budgets, *option], budgets is four) for _ in range(2)), key=lambda run: run.cpu)
                for budgets in (one, four)
            ]
            times = (f"{run.elapsed:.1f} ({run.cpu:.1f})" for run in runs)
            elapsed, cpu = runs[1].elapsed / runs[0].elapsed, runs[1].cpu / runs[0].cpu
            table.add(name, repair, *times, f"{elapsed:.2f}", f"{cpu:.2f}")


def turns(binaries: list[Path], words: list[str], folder: Path, repairs: list[str], kept: Path | None) -> None:
    os.environ["RAYON_NUM_THREADS"] = "1"
    counts = {word: int((word + "=0").split("=")[1]) for word in words}
    data = folder / "images.npy"
    if max(counts.values()) > 0:
        images(max(counts.values()), data)
    columns = ["run", "repair", "before (s)", "after (s)", "after over before"]
    table = Table("speed-turns", columns, columns[:2], kept)
    for word, count in counts.items():
        name = word.split("=")[0]
        fixture = ROOT / "fixtures" / f"{name}_bn_torchscript.onnx"
        model = fixture if fixture.exists() else ZOO / f"{name}.onnx"
        given = data if count > 0 else None if count < 0 else ROOT / "fixtures" / "calib.npz"
        limit = ["--samples", str(abs(count))] if count else []
        for repair in repairs:
            options = ["--macs", "0.5", "--repair", repair, *limit]
            runs = [[Run(binary, model, given, options, threads=1).cpu for binary in binaries] for _ in range(ROUNDS)]
            before, after = (min(times) for times in zip(*runs))
            table.add(word, repair, f"{before:.2f}", f"{after:.2f}", f"{after / before:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, default=ROOT / "target" / "release")
    parser.add_argument("--before", type=Path, help="folder of the program that --bin is compared with")
    parser.add_argument("--repairs", default=",".join(REPAIRS))
    parser.add_argument("--csv", type=Path, help="folder of the CSV files")
    parser.add_argument("what", choices=["ratios", "samples", "selection", "sweep", "turns"])
    parser.add_argument("wanted", nargs="+", help="NAME=COUNT,... of images, widths, or names of fixtures")
    arguments = parser.parse_args()
    binary = arguments.bin / "onnx-mipp"
    if arguments.what == "sweep":
        return sweep(binary, arguments.wanted, arguments.csv)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "turns":
            binaries = [arguments.before / "onnx-mipp", binary]
            return turns(binaries, arguments.wanted, Path(folder), arguments.repairs.split(","), arguments.csv)
        if arguments.what == "selection":
            widths = [int(width) for word in arguments.wanted for width in word.split(",")]
            return selection(binary, Path(folder), widths, arguments.csv)
        wanted = [word.split("=") for word in arguments.wanted]
        wanted = [(name, [int(count) for count in counts.split(",")]) for name, counts in wanted]
        data = Path(folder) / "images.npy"
        images(max(count for _, counts in wanted for count in counts), data)
        measure = {"ratios": ratios, "samples": samples}[arguments.what]
        measure(binary, data, wanted, arguments.repairs.split(","), arguments.csv)


if __name__ == "__main__":
    main()
