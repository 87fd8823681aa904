"""Prunes every model of the zoo to 0.6 of its MACs, checks the results and writes docs/zoo.md.

    python bench/zoo.py --bin FOLDER [NAME ...]     FOLDER has onnx-mipp and examples/masked

With `--quick`, every free group gives up the same share of its channels, no trials are run and
weights are repaired in one pass, or not at all with `--unrepaired`. The results of each model are kept in target/zoo/NAME.json; a model that has them is not run again
unless it is named. `--write` only writes the page.
"""

import argparse
import collections
import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import onnx

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "fixtures" / "zoo"
OUT = ROOT / "target" / "zoo"
MACS = 0.6
SAMPLES = 8
LIMIT_SECONDS = 1800
# Outputs of a cut model and of the masked dense one may differ by rounding, relative to their scale.
TOLERANCE = 1e-4

# Sizes that the models leave open, where they run with certain ones only.
SHAPES = {
    "ppocr_rec": ["x=1,3,48,320"],
    "ppocr_cls": ["x=1,3,48,192"],
    "silero_vad": ["input=2,256", "state=2,2,128"],
    "silero_vad_op15": ["input=2,512", "state=2,2,128"],
    "silero_vad_half": ["input=2,512", "state=2,2,128"],
    "silero_vad_ifless": ["input=2,512", "state=2,2,128"],
}


def run(command: list[str]) -> tuple[float, subprocess.CompletedProcess]:
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        done = subprocess.CompletedProcess(command, 124, "", f"no end after {LIMIT_SECONDS} s")
    return time.monotonic() - began, done


def cpu_seconds() -> float:
    """CPU time of all programs that were run."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def is_valid(path: Path) -> str:
    """What the checker finds wrong, or nothing."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
        return ""
    except Exception as error:
        return str(error).strip().splitlines()[0][:200]


def examine(name: str, binaries: Path, quick: bool, repair: str) -> dict:
    model, out = ZOO / f"{name}.onnx", OUT / f"{name}.onnx"
    plan, report = OUT / f"{name}.plan.json", OUT / f"{name}.report.json"
    shapes = [part for shape in SHAPES.get(name, []) for part in ("--shape", shape)]
    program = str(binaries / "onnx-mipp")
    result = {"name": name, "nodes": len(onnx.load(model, load_external_data=False).graph.node)}

    used = cpu_seconds()
    seconds, done = run([program, "inspect", str(model), "--json", *shapes])
    result["inspect_seconds"] = seconds
    result["inspect_cpu"] = cpu_seconds() - used
    if done.returncode != 0:
        return {**result, "failure": f"inspect: {last_line(done.stderr)}"}
    found = json.loads(done.stdout)
    result["groups"] = len(found["groups"])
    result["prunable"] = found["prunable_macs"]
    result["frozen"] = frozen(found)
    result["inside"] = inside(onnx.load(model, load_external_data=False).graph)

    masked = [str(binaries / "examples" / "masked"), str(model), *shapes]
    command = [program, str(model), str(out), "--samples", str(SAMPLES), "--quiet"]
    command += ["--report", str(report)]
    if quick:
        _, done = run([*masked, "--macs", str(MACS), "--plan-out", str(plan)])
        if done.returncode != 0:
            return {**result, "failure": f"masked: {last_line(done.stderr)}"}
        compared = json.loads(last_line(done.stdout))
        command += ["--plan", str(plan), "--repair", repair]
    else:
        command += ["--macs", str(MACS), "--best-effort", "--no-combine", "--plan-out", str(plan)]
    result["widths"] = "equal shares" if quick else "--macs"
    if quick and repair == "none":
        result["widths"] += ", no repair"
    failure = prune([*command, *shapes], report, result)
    if not failure and not quick and missed(result):
        # Layers of few channels have too few widths in multiples of 8.
        result["widths"] = "--macs, --align 1"
        failure = prune([*command, "--align", "1", *shapes], report, result)
    if failure:
        return {**result, "failure": f"prune: {failure}"}
    before, after = is_valid(model), is_valid(out)
    result["checker"] = after if not before else ""
    result["checker_before"] = before
    if quick and result["macs"] < 1.0:
        result["masked"] = compared
    elif result["macs"] < 1.0:
        _, done = run([*masked, "--plan", str(plan)])
        if done.returncode != 0:
            return {**result, "failure": f"masked: {last_line(done.stderr)}"}
        result["masked"] = json.loads(last_line(done.stdout))
    out.unlink(missing_ok=True)
    return result


def prune(command: list[str], report: Path, result: dict) -> str:
    """Adds what the report of the run tells to the result; what went wrong, or nothing."""
    result["seconds"], done = run(command)
    if done.returncode != 0:
        return last_line(done.stderr) or f"exit status {done.returncode}"
    told = json.loads(report.read_text())
    for key in ("macs", "parameters"):
        before, after = told[key]["before"], told[key]["after"]
        result[key] = after / before if before else 1.0
    result["cosine"] = (told["comparison"] or {}).get("cosine")
    return ""


def missed(result: dict) -> bool:
    return result.get("macs", 1.0) > MACS + 0.005


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
    if "failure" in result:
        return f"fails: {result['failure']}"
    if result.get("checker"):
        return f"checker: {result['checker']}"
    masked = result.get("masked")
    if masked is None:
        return "unchanged"
    if masked.get("scale", 1.0) < TOLERANCE:
        return f"says nothing: no output is beyond {masked['scale']:.0e} on noise"
    if masked["error"] > TOLERANCE:
        return f"differs from the masked model by {masked['error']:.0e}"
    if masked["effect_of_cut"] < 10 * TOLERANCE or masked["effect_of_input"] < 10 * TOLERANCE:
        return "equal, but the output hardly moves"
    return "equal"


def row(result: dict) -> str:
    number = lambda key, form="{:.2f}": form.format(result[key]) if result.get(key) is not None else "-"
    cells = [
        result["name"], str(result["nodes"]), number("groups", "{}"), number("prunable"),
        result.get("widths", "-"), number("macs"), number("parameters"), number("cosine", "{:.3f}"),
        number("inspect_seconds", "{:.1f}"), number("inspect_cpu", "{:.1f}"),
        number("seconds", "{:.0f}"), verdict(result),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def page(results: list[dict], missing: list[str]) -> str:
    reached = [r for r in results if not missed(r)]
    lines = [
        "# The zoo",
        "",
        f"Real graphs, pruned to {MACS} of their MACs with `--samples {SAMPLES}`, synthetic inputs and,",
        "unless said, repair. `make zoo` fetches and exports the models (`fixtures/zoo.py`, which pins where each comes",
        "from), prunes them and writes this page. The models are judged on structure here, not on accuracy:",
        "eight samples of noise are no calibration, and most exports have random weights.",
        "",
        f"{len(reached)} of {len(results)} reach {MACS}.",
        *([f"Not run yet: {', '.join(missing)}."] if missing else []),
        "",
        "- *prunable*: share of the MACs that leaves when every free group shrinks to nothing.",
        "- *widths*: chosen by `--macs`, with `--align 1` where widths in multiples of 8 do not reach the",
        "  budget; or (`bench/zoo.py --quick`) the same share of every free group. Without repair",
        "  (`--unrepaired`) the cosine says little.",
        "- *MACs*, *parameters*: share that is left. *cosine*: between the outputs of the pruned and the",
        "  original model.",
        "- *inspect*: seconds of `onnx-mipp inspect`, *CPU*: its CPU time; *seconds* of the whole run. Two",
        "  cores, which other work used as well.",
        f"- *masked*: whether the cut without repair equals the dense model whose removed channels are set",
        f"  to zero where they are read, to {TOLERANCE:g} of the output's scale. A model whose output hardly",
        "  moves with its input or with the cut proves little. Every result passed the full check of",
        "  `onnx.checker` unless said.",
        "",
        "| model | nodes | groups | prunable | widths | MACs | parameters | cosine | inspect | CPU | seconds | masked |",
        "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|---|",
        *map(row, results),
        "",
        "## What is frozen",
        "",
        "Reasons by the share of the MACs in nodes that read or make the frozen channels (nodes count",
        "once for each group that they touch), without those that every model has: its outputs, and the",
        "softmax before them. Layers in the bodies of If, Loop and Scan are not followed. Of several nodes with one reason, the one with the largest share is named.",
        "",
    ]
    for result in results:
        held = [r for r in result.get("frozen", []) if r[1] >= 0.005 and "is an output" not in r[0]]
        if held or result.get("inside"):
            lines.append(f"- **{result['name']}**")
            if result.get("inside"):
                lines.append(f"  - {result['inside']} layers in the bodies of control flow")
            for reason, share, count in held[:5]:
                others = f", and {count - 1} more" if count > 1 else ""
                lines.append(f"  - {share:.2f}: {reason}{others}")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="models to run again")
    parser.add_argument("--bin", type=Path, default=ROOT / "target" / "release")
    parser.add_argument("--quick", action="store_true", help="equal shares instead of --macs")
    parser.add_argument("--unrepaired", action="store_true", help="with --quick: no repair")
    parser.add_argument("--write", action="store_true", help="only write the page")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "zoo.md")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    names = sorted(path.stem for path in ZOO.glob("*.onnx"))
    bad = 0
    for name in [] if arguments.write else names:
        kept = OUT / f"{name}.json"
        if kept.exists() and name not in arguments.names or arguments.names and name not in arguments.names:
            continue
        repair = "none" if arguments.unrepaired else "once"
        result = examine(name, arguments.bin, arguments.quick, repair)
        kept.write_text(json.dumps(result, indent=1))
        print(row(result), flush=True)
    kept = [OUT / f"{name}.json" for name in names]
    results = [json.loads(path.read_text()) for path in kept if path.exists()]
    missing = [path.stem for path in kept if not path.exists()]
    arguments.page.write_text(page(results, missing))
    bad = [r["name"] for r in results if "failure" in r or r.get("checker")]
    if bad:
        print(f"failed: {', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
