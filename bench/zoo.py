"""Prunes every model of the zoo with the program's default options and checks the results.

    python bench/zoo.py --bin FOLDER [NAME ...]     FOLDER has onnx-mipp and examples/masked

Each model is run twice: `--macs 0.6` with a few made-up samples as calibration data, and without any option or data. The
results of each are kept in target/zoo/NAME.json with the commit of the program's source, and a model whose results
are of that commit is not run again unless it is named; with `--keep` those of any commit count. Models that were quick
before, or else small ones, come first. What is found goes to docs/results: zoo.csv and zoo-frozen.csv, and zoo.md
which zoo_page.py writes from them; `--write` does only that.
"""

import argparse
import collections
import concurrent.futures
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tables
import zoo_data
import zoo_page
from zoo_page import MACS, OPTIMISER_TOLERANCE, SAMPLES, TOLERANCE

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "fixtures" / "zoo"
OUT = ROOT / "target" / "zoo"

# Sizes that the models leave open, where they run with certain ones only or small ones are enough. The first is the batch.
SHAPES = {
    "ddddocr_common": {"input1": [1, 1, 64, 160]},
    "ddddocr_common_old": {"input1": [1, 1, 64, 160]},
    "ppocr_det": {"x": [1, 3, 160, 160]},
    "ppocr_v5_det": {"x": [1, 3, 160, 160]},
    "ppocr_v6_det": {"x": [1, 3, 160, 160]},
    "ppocr_rec": {"x": [1, 3, 48, 160]},
    "ppocr_v5_rec": {"x": [1, 3, 48, 160]},
    "ppocr_v6_rec": {"x": [1, 3, 48, 160]},
    "ppocr_cls": {"x": [1, 3, 48, 192]},
    "yolov8n_nudenet": {"images": [1, 3, 160, 160]},
    "mtcnn_p": {"input_1": [1, 48, 48, 3]},
    "silero_vad": {"input": [1, 256]},
    "silero_vad_op15": {"input": [1, 512]},
    "silero_vad_half": {"input": [1, 512]},
    "silero_vad_ifless": {"input": [1, 512]},
    "voicefilter_int8": {"stacked_logmel": [1, 20, 512]},
    "aecmos": {"input": [1, 3, 64, 160]},
    "aecmos_48k": {"input": [1, 3, 64, 160]},
    "plcmos": {"degraded_audio": [1, 1, 64, 257]},
    "swift_f0": {"audio": [1, 8000]},
    "eeg_seizure": {"x": [1, 100, 64]},
    "tashkeel_bilstm_int8": {"input_ids": [1, 48]},
    "tashkeel_rawi_int8": {"input": [1, 48]},
    "wakeword_melspectrogram": {"input": [1, 16000]},
    "minilm_int8_shipped": {name: [1, 32] for name in ("input_ids", "attention_mask", "token_type_ids")},
}


def run(command: list[str], end: float) -> tuple[float, subprocess.CompletedProcess]:
    """Runs the command until the time `end` at the latest."""
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(end - began, 1))
    except subprocess.TimeoutExpired:
        done = subprocess.CompletedProcess(command, 124, "", "the time for this model is over")
    return time.monotonic() - began, done


def last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else ""


def complaint(done: subprocess.CompletedProcess) -> str:
    """The program's error, in one line."""
    text = " ".join(done.stderr.split())
    return text[max(text.rfind("error: "), 0) :][:500] or f"exit status {done.returncode}"


def checked(path: Path) -> str:
    """What the checker finds wrong, or nothing."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
        return ""
    except Exception as error:
        return str(error).strip().splitlines()[0][:200]


def is_older(program: Path) -> bool:
    """Whether the program was built before its source changed."""
    files = [path for name in tables.SOURCE for path in (ROOT / name, *(ROOT / name).rglob("*"))]
    return program.stat().st_mtime < max(path.stat().st_mtime for path in files if path.is_file())


class Model:
    """One model of the zoo, the files of its runs and what they find."""

    def __init__(self, name: str, arguments: argparse.Namespace):
        self.name, self.path = name, ZOO / f"{name}.onnx"
        self.file = lambda suffix: OUT / f"{name}.{suffix}"
        self.program = [str(arguments.bin / "onnx-mipp")]
        self.masked = [str(arguments.bin / "examples" / "masked")]
        self.threads = ["--threads", str(arguments.threads)]
        self.end = time.monotonic() + arguments.limit
        shapes = SHAPES.get(name, {})
        texts = [f"{key}={','.join(map(str, sizes))}" for key, sizes in shapes.items()]
        self.shapes = [part for text in texts for part in ("--shape", text)]
        self.result = {"name": name, "commit": arguments.commit, "failures": []}

    def call(self, stage: str, command: list[str]) -> subprocess.CompletedProcess | None:
        """What the command gave, or nothing where it failed, which is noted."""
        seconds, done = run(command, self.end)
        self.result[f"{stage}_seconds"] = seconds
        if done.returncode == 0:
            return done
        self.result["failures"].append(f"{stage}: {complaint(done)}")
        return None

    def inspect(self) -> None:
        loaded = onnx.load(self.path, load_external_data=False)
        self.result |= {"nodes": len(loaded.graph.node), "inside": inside(loaded.graph)}
        done = self.call("inspect", [*self.program, "inspect", str(self.path), "--json", *self.shapes])
        if done:
            found = json.loads(done.stdout)
            self.result |= {"groups": len(found["groups"]), "prunable": found["prunable_macs"], "frozen": frozen(found)}

    def budget(self) -> None:
        """The run with a budget and data, and what its result is like."""
        shapes = SHAPES.get(self.name, {})
        data, whole = zoo_data.write(self.path, self.file("npz"), shapes, SAMPLES)
        self.result["input"] = "; ".join(
            "x".join(map(str, array.shape[name not in whole :])) or "1" for name, array in data.items()
        )
        out, report = self.file("onnx"), self.file("report.json")
        command = [*self.program, str(self.path), str(out), "--calib", str(self.file("npz")), "--macs", str(MACS)]
        command += ["--quiet", "--report", str(report), *self.threads, *self.shapes]
        seconds = 0.0
        # Layers of few channels have too few widths in multiples of 8, and frozen ones may not let a budget be reached.
        for extra in ([], ["--align", "1"], ["--align", "1", "--best-effort"]):
            spent, done = run([*command, *extra], self.end)
            seconds += spent
            self.result["options"] = " ".join(extra)
            if done.returncode == 0 or "cannot be reached" not in done.stderr:
                break
        self.result["budget_seconds"] = seconds
        if done.returncode != 0:
            self.result["failures"].append(f"budget: {complaint(done)}")
            return
        told = json.loads(report.read_text())
        for key in ("macs", "parameters"):
            self.result[key] = share(told[key])
        self.judge("budget", out)
        self.compare(out, data, whole)
        out.unlink()

    def plain(self) -> None:
        """The run without options and data."""
        out, report = self.file("plain.onnx"), self.file("plain.json")
        command = [*self.program, str(self.path), str(out), "--quiet", "--report", str(report)]
        if self.call("plain", [*command, *self.threads, *self.shapes]):
            self.result["plain_macs"] = share(json.loads(report.read_text())["macs"])
            self.judge("plain", out)
            out.unlink()

    def judge(self, stage: str, out: Path) -> None:
        """Whether the file is valid and not larger."""
        self.result[f"{stage}_file"] = out.stat().st_size / self.path.stat().st_size
        if self.result[f"{stage}_file"] > 1:
            self.result["failures"].append(f"{stage}: the file is {self.result[f'{stage}_file']:.3f} times as large")
        wrong = checked(out)
        if wrong and not checked(self.path):
            self.result["failures"].append(f"{stage}: checker: {wrong}")

    def compare(self, out: Path, data: dict[str, np.ndarray], whole: set[str]) -> None:
        """How far the outputs are from the original's, and ONNX Runtime's optimiser from the graph as it is."""
        sizes = [shape[0] for name, shape in inputs(self.path).items() if name not in whole]
        for batch in (min((size for size in sizes if size), default=4), 1):
            feeds = {name: array if name in whole else array[:batch] for name, array in data.items()}
            try:
                dense = [outputs(self.path, feeds, level) for level in (False, True)]
                break
            except Exception:
                if batch == 1:
                    raise
        try:
            cut = [outputs(out, feeds, level) for level in (False, True)]
        except Exception as error:
            self.result["failures"].append(f"budget: ONNX Runtime: {str(error).splitlines()[0][:300]}")
            return
        self.result["error"] = difference(cut[1], dense[1])
        self.result["optimiser"] = difference(cut[1], cut[0])
        # Rounding to integers may fall to either side, in the original as well.
        self.result["rounding"] = 3 * difference(dense[1], dense[0])
        if not self.result["optimiser"] <= max(OPTIMISER_TOLERANCE, self.result["rounding"]):
            self.result["failures"].append(f"budget: ONNX Runtime's optimiser moves it by {self.result['optimiser']:.0e}")

    def mask(self) -> None:
        """The cut of an equal share of every group without repair, against the masked dense model."""
        if self.result.get("prunable"):
            done = self.call("masked", [*self.masked, str(self.path), "--macs", str(MACS), *self.shapes])
            if done:
                self.result["masked"] = json.loads(last_line(done.stdout))
                if verdict(self.result).startswith("differs"):
                    self.result["failures"].append("masked: " + verdict(self.result))

    def examine(self) -> dict:
        began = time.monotonic()
        for stage in (self.inspect, self.budget, self.plain, self.mask):
            try:
                stage()
            except Exception as error:
                self.result["failures"].append(f"{stage.__name__}: the bench: {str(error)[:300]}")
        for suffix in ("npz", "onnx", "plain.onnx"):
            self.file(suffix).unlink(missing_ok=True)
        self.result["seconds"] = time.monotonic() - began
        self.file("json").write_text(json.dumps(self.result, indent=1))
        return self.result


def share(cost: dict) -> float:
    return cost["after"] / cost["before"] if cost["before"] else 1.0


def inputs(path: Path) -> dict[str, list]:
    graph = onnx.load(path, load_external_data=False).graph
    stored = {tensor.name for tensor in graph.initializer}
    shape = lambda value: [d.dim_value or None for d in value.type.tensor_type.shape.dim]
    return {value.name: shape(value) for value in graph.input if value.name not in stored}


def outputs(path: Path, feeds: dict[str, np.ndarray], is_optimised: bool) -> list[np.ndarray]:
    """The outputs of floats."""
    level = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level.ORT_ENABLE_ALL if is_optimised else level.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return [np.float64(made) for made in session.run(None, feeds) if np.issubdtype(made.dtype, np.floating)]


def difference(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The difference of all outputs relative to their size, or to TOLERANCE where they are smaller: zero but for rounding."""
    if any(f.shape != e.shape for f, e in zip(found, expected, strict=True)):
        return float("inf")
    flat = lambda arrays: np.concatenate([array.ravel() for array in arrays]) if arrays else np.zeros(1)
    size = max(np.linalg.norm(flat(expected)), TOLERANCE * flat(expected).size ** 0.5)
    return float(np.linalg.norm(flat(found) - flat(expected)) / size)


LINEAR = {"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"}


def inside(graph: onnx.GraphProto, deep: bool = False) -> int:
    """Layers in the bodies of If, Loop and Scan."""
    count = 0
    for node in graph.node:
        count += deep and node.op_type in LINEAR
        for attribute in node.attribute:
            for body in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                count += inside(body, True)
    return count


def frozen(found: dict) -> list[tuple[str, float]]:
    """Reasons that groups are frozen, with the share of the MACs that those groups touch."""
    shares = collections.Counter()
    for group in found["groups"]:
        for reason in group["frozen"]:
            shares[reason] += group["macs_share"]
    # One example for each reason, told apart by operator and text.
    kinds = collections.defaultdict(list)
    for reason, share in shares.items():
        kind = re.sub(r"'[^']*'", "'…'", reason)
        kinds[kind].append((share, reason))
    ranked = sorted(kinds.values(), key=lambda reasons: -sum(share for share, _ in reasons))
    return [(max(reasons)[1], sum(s for s, _ in reasons), len(reasons)) for reasons in ranked]


def verdict(result: dict) -> str:
    """What the comparison with the masked model says."""
    masked = result.get("masked")
    if masked is None:
        return ""
    if masked.get("scale", 1.0) < TOLERANCE:
        return f"says nothing: no output is beyond {masked['scale']:.0e}"
    if masked["error"] > max(TOLERANCE, result.get("rounding", 0.0)):
        return f"differs by {masked['error']:.0e}"
    if masked["effect_of_cut"] < 10 * TOLERANCE or masked["effect_of_input"] < 10 * TOLERANCE:
        return "equal, but the output hardly moves"
    return "equal"


COLUMNS = {
    "model": lambda r: r["name"],
    "input": lambda r: r.get("input", ""),
    "nodes": lambda r: number(r, "nodes", "{}"),
    "groups": lambda r: number(r, "groups", "{}"),
    "prunable": lambda r: number(r, "prunable"),
    "MACs": lambda r: number(r, "macs"),
    "parameters": lambda r: number(r, "parameters"),
    "file": lambda r: number(r, "budget_file"),
    "error": lambda r: number(r, "error", "{:.3f}"),
    "options": lambda r: r.get("options", ""),
    "plain MACs": lambda r: number(r, "plain_macs", "{:.3f}"),
    "plain file": lambda r: number(r, "plain_file", "{:.3f}"),
    "masked": verdict,
    "inspect": lambda r: number(r, "inspect_seconds", "{:.1f}"),
    "seconds": lambda r: number(r, "budget_seconds", "{:.0f}"),
    "plain seconds": lambda r: number(r, "plain_seconds", "{:.0f}"),
    "inside": lambda r: number(r, "inside", "{}"),
    "failures": lambda r: "; ".join(r["failures"]),
    "commit": lambda r: r["commit"],
}


def number(result: dict, key: str, form: str = "{:.2f}") -> str:
    return form.format(result[key]) if result.get(key) is not None else ""


def row(result: dict) -> tables.Row:
    return {name: make(result) for name, make in COLUMNS.items()}


def reasons(result: dict) -> list[tables.Row]:
    """Why channels stay, but for the outputs and the softmax before them, which every model has."""
    held = [r for r in result.get("frozen", []) if r[1] >= 0.005 and "is an output" not in r[0]]
    return [
        {"model": result["name"], "share": f"{part:.2f}", "reason": reason, "more nodes": str(count - 1), "commit": result["commit"]}
        for reason, part, count in held[:5]
    ]


def kept(name: str) -> dict | None:
    path = OUT / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def expected_seconds(name: str) -> float:
    """As long as the last time, or by the size of the file."""
    last = kept(name)
    return last["seconds"] if last else 5 + 0.5 * (ZOO / f"{name}.onnx").stat().st_size / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="models to run again")
    parser.add_argument("--bin", type=Path, default=ROOT / "target" / "release")
    parser.add_argument("--keep", action="store_true", help="results of another commit count as well")
    parser.add_argument("--jobs", type=int, default=1, help="models at a time")
    parser.add_argument("--threads", type=int, default=2, help="threads of ONNX Runtime for each")
    parser.add_argument("--limit", type=int, default=300, help="seconds that a model may take")
    parser.add_argument("--write", action="store_true", help="only write the files and the page")
    parser.add_argument("--results", type=Path, default=tables.RESULTS, help="folder of the files and the page")
    arguments = parser.parse_args()
    arguments.commit = tables.commit()
    if not arguments.write and is_older(arguments.bin / "onnx-mipp"):
        sys.exit(f"{arguments.bin}/onnx-mipp is older than the source: build it again")
    OUT.mkdir(parents=True, exist_ok=True)
    names = sorted(path.stem for path in ZOO.glob("*.onnx"))
    is_new = lambda name: (found := kept(name)) and (arguments.keep or found["commit"] == arguments.commit)
    chosen = [name for name in names if (name in arguments.names if arguments.names else not is_new(name))]
    chosen = [] if arguments.write else sorted(chosen, key=expected_seconds)
    minutes = sum(map(expected_seconds, chosen)) / 60 / arguments.jobs
    print(f"{len(chosen)} models, about {minutes:.0f} minutes, program of {arguments.commit}", flush=True)
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for result in pool.map(lambda name: Model(name, arguments).examine(), chosen):
            cells = tables.line(row(result).values())
            print(f"{result['seconds']:.0f} s", cells, *result["failures"], sep="\n  ", flush=True)
    results = [result for result in map(kept, names) if result]
    if not results:
        sys.exit(f"nothing in {OUT}: run models first")
    tables.write(arguments.results / "zoo.csv", list(map(row, results)))
    tables.write(arguments.results / "zoo-frozen.csv", [reason for result in results for reason in reasons(result)])
    zoo_page.write(arguments.results, [name for name in names if not kept(name)])
    bad = [result["name"] for result in results if result["failures"]]
    if bad:
        print(f"failed: {', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
