"""Prunes every model of the zoo with the program's default options, checks the results and writes docs/zoo.md.

    python bench/zoo.py --bin FOLDER [NAME ...]     FOLDER has onnx-mipp and examples/masked

Each model is run twice: `--macs 0.6` with a few made-up samples as calibration data, and without any option or data. The
results of each are kept in target/zoo/NAME.json with the commit of the program's source, and a model whose results
are of that commit is not run again unless it is named; with `--keep` those of any commit count. `--write` only writes the
page. Models that were quick before, or else small ones, come first.
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
import zoo_data

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "fixtures" / "zoo"
OUT = ROOT / "target" / "zoo"
# What the program is made of.
SOURCE = ("src", "proto", "build.rs", "Cargo.toml", "Cargo.lock")
MACS = 0.6
SAMPLES = 16
# Outputs of a cut model and of the masked dense one may differ by rounding, relative to their scale; and so may those of
# one model with ONNX Runtime's optimiser and without.
TOLERANCE = 1e-4
OPTIMISER_TOLERANCE = 1e-3

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


def commit() -> str:
    """The last commit that changed the program, marked where files differ from it."""
    git = lambda *words: subprocess.run(["git", *words, "--", *SOURCE], cwd=ROOT, capture_output=True, text=True).stdout
    return git("log", "-1", "--format=%h").strip() + ("-changed" if git("status", "--porcelain") else "")


def is_older(program: Path) -> bool:
    """Whether the program was built before its source changed."""
    files = [path for name in SOURCE for path in (ROOT / name, *(ROOT / name).rglob("*"))]
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
        return "-"
    if masked.get("scale", 1.0) < TOLERANCE:
        return f"says nothing: no output is beyond {masked['scale']:.0e}"
    if masked["error"] > max(TOLERANCE, result.get("rounding", 0.0)):
        return f"differs by {masked['error']:.0e}"
    if masked["effect_of_cut"] < 10 * TOLERANCE or masked["effect_of_input"] < 10 * TOLERANCE:
        return "equal, but the output hardly moves"
    return "equal"


COLUMNS = {
    "model": lambda r: r["name"],
    "input": lambda r: r.get("input", "-"),
    "nodes": lambda r: number(r, "nodes", "{}"),
    "groups": lambda r: number(r, "groups", "{}"),
    "prunable": lambda r: number(r, "prunable"),
    "MACs": lambda r: number(r, "macs"),
    "parameters": lambda r: number(r, "parameters"),
    "file": lambda r: number(r, "budget_file"),
    "error": lambda r: number(r, "error", "{:.3f}"),
    "options": lambda r: f"`{r['options']}`" if r.get("options") else "",
    "plain MACs": lambda r: number(r, "plain_macs", "{:.3f}"),
    "plain file": lambda r: number(r, "plain_file", "{:.3f}"),
    "masked": verdict,
    "inspect": lambda r: number(r, "inspect_seconds", "{:.1f}"),
    "seconds": lambda r: number(r, "budget_seconds", "{:.0f}"),
    "plain seconds": lambda r: number(r, "plain_seconds", "{:.0f}"),
    "fails": lambda r: str(len(r["failures"])) if r["failures"] else "",
}
WORDS = ("model", "input", "options", "masked")


def number(result: dict, key: str, form: str = "{:.2f}") -> str:
    return form.format(result[key]) if result.get(key) is not None else "-"


def row(result: dict) -> str:
    return "| " + " | ".join(make(result) for make in COLUMNS.values()) + " |"


def page(results: list[dict], missing: list[str]) -> str:
    commits = collections.Counter(result["commit"] for result in results)
    states = ", ".join(f"{count} with {name}" for name, count in commits.most_common())
    whole = [r for r in results if not r["failures"]]
    reached = [r for r in results if r.get("macs", 1.0) <= MACS + 0.005]
    grew = [r for r in results if max(r.get("budget_file", 0), r.get("plain_file", 0)) > 1]
    lines = [
        "# The zoo",
        "",
        f"Real graphs, pruned with default options: to {MACS} of their MACs with {SAMPLES} made-up samples as calibration data, and",
        "once more without any option or data. `make zoo` fetches and exports the models (`fixtures/zoo.py` pins where each",
        "comes from), prunes them and writes this page. They are judged on structure here, not on accuracy: so few made-up",
        "samples are no calibration, and most exports have random weights.",
        "",
        f"Made with the program of commit {next(iter(commits), '-')}." if len(commits) < 2 else f"Rows are of several states of the program: {states}.",
        f"{len(whole)} of {len(results)} models pass every check, {len(reached)} reach {MACS}, {len(grew)} files grew.",
        *([f"Not run yet: {', '.join(missing)}."] if missing else []),
        "",
        "- *prunable*: share of the MACs that leaves when every free group shrinks to nothing.",
        f"- *MACs*, *parameters*, *file*: what is left with `--macs {MACS}`, of the original's; *options* that were needed besides: `--align 1`",
        "  where widths in multiples of 8 do not reach the budget, `--best-effort` where nothing does.",
        "- *error*: how far the outputs are from the original's on four of the samples, relative to their size.",
        "- *plain*: the same of the run without options.",
        "- *masked*: whether a cut of the same share of every group, without repair, equals the dense model whose removed channels",
        f"  are set to zero where they are read, to {TOLERANCE:g} of the output's scale (or three times as far as ONNX Runtime's optimiser",
        "  moves the original, which matters for integers). A model whose output hardly moves with its input or with the cut proves little.",
        "- *fails*: number of checks that fail, listed below. Both results have to pass the full check of `onnx.checker` where the",
        "  original does, and to be no larger; ONNX Runtime has to give the same without its optimiser, to "
        f"{OPTIMISER_TOLERANCE:g} (or three times",
        f"  as much as for the original). Differences of outputs that are smaller than {TOLERANCE:g} are measured by that.",
        f"- *inspect*, *seconds*, *plain seconds*: of the three runs, on two cores.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "".join("---|" if name in WORDS else "---:|" for name in COLUMNS),
        *map(row, results),
        "",
    ]
    if len(commits) > 1:
        lines += ["## States of the program", ""]
        lines += [f"- {name}: {', '.join(r['name'] for r in results if r['commit'] == name)}" for name in commits] + [""]
    if len(whole) < len(results):
        lines += ["## What fails", ""]
        lines += [f"- **{r['name']}**: {failure}" for r in results for failure in r["failures"]] + [""]
    return "\n".join(lines + reasons(results)) + "\n"


def reasons(results: list[dict]) -> list[str]:
    lines = [
        "## What is frozen",
        "",
        "Reasons by the share of the MACs in nodes that read or make the frozen channels (nodes count once for each group that",
        "they touch), without those that every model has: its outputs, and the softmax before them. Layers in the bodies of If,",
        "Loop and Scan are not followed. Of several nodes with one reason, the one with the largest share is named.",
        "",
    ]
    for result in results:
        held = [r for r in result.get("frozen", []) if r[1] >= 0.005 and "is an output" not in r[0]]
        if held or result.get("inside"):
            lines.append(f"- **{result['name']}**")
            if result.get("inside"):
                lines.append(f"  - {result['inside']} layers in the bodies of control flow")
            for reason, part, count in held[:5]:
                others = f", and {count - 1} more" if count > 1 else ""
                lines.append(f"  - {part:.2f}: {reason}{others}")
    return lines


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
    parser.add_argument("--write", action="store_true", help="only write the page")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "zoo.md")
    arguments = parser.parse_args()
    arguments.commit = commit()
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
            print(f"{result['seconds']:.0f} s", row(result), *result["failures"], sep="\n  ", flush=True)
    found = [(name, kept(name)) for name in names]
    results = [result for _, result in found if result]
    arguments.page.write_text(page(results, [name for name, result in found if not result]))
    bad = [result["name"] for result in results if result["failures"]]
    if bad:
        print(f"failed: {', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
