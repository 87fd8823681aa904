"""Runs the program on one skeleton and checks what it writes."""

import hashlib
import json
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import oracle
from design import Command
from net import Skeleton, session

# Outputs of two ways to compute the same may differ by rounding, relative to the largest output.
ROUNDING = 1e-4
# A repair may lose to another by this share of what the cut has lost, before it counts.
NOISE = 0.05
LIMIT_SECONDS = 300
COMPARED = 16
# Budgets that the program can refuse, and what it says then.
REFUSED = "cannot be reached"


@dataclass
class Failure:
    skeleton: str
    command: str
    check: str
    message: str

    def __str__(self) -> str:
        return f"{self.skeleton}: {self.check}\n    {self.command}\n    {self.message}"


@dataclass
class Result:
    """What was found out about one skeleton."""

    name: str
    nodes: int = 0
    runs: int = 0
    # Shares that are left, by budget.
    left: dict[str, float] = field(default_factory=dict)
    # How far the outputs move without repair, with one pass, and layer by layer, for one plan.
    errors: dict[str, float] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    # CPU time of building, of all runs and checks.
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)


class Bench:
    """One skeleton in a folder, with the program to run on it."""

    def __init__(self, skeleton: Skeleton, program: Path, folder: Path, environment: dict[str, str]):
        self.skeleton, self.program, self.folder, self.environment = skeleton, program, folder, environment
        self.result = Result(skeleton.name)
        self.dense, self.data = skeleton.build()
        self.result.nodes = len(self.dense.graph.node)
        self.model, self.calibration = folder / f"{skeleton.name}.onnx", folder / f"{skeleton.name}.npz"
        self.out = folder / f"{skeleton.name}.out.onnx"
        onnx.save(self.dense, self.model)
        np.savez(self.calibration, **self.data)
        self.batch = skeleton.settings.get("batch") or 0
        self.truth = self.outputs(self.dense, all_samples=True)
        self.first = self.outputs(self.dense)
        optimised = self.outputs(self.dense, optimised=True)
        # Two models that run as they are.
        self.rounding = max(ROUNDING, skeleton.coarse)
        # What ONNX Runtime itself rounds differently when it optimises: in few bits that depends on the
        # instructions that the processor has.
        self.optimising = max(self.rounding, 10 * distance(self.first, optimised))
        self.has_told = False
        # Of each group, the positions that a channel has along the weights that have the fewest of them.
        self.positions: dict[str, int] = {}
        # Groups that can get narrower.
        self.free = 0
        # Plans of runs without repair, by the share of MACs that they leave.
        self.plans: list[tuple[float, Path, float]] = []

    def feeds(self, all_samples: bool) -> list[dict[str, np.ndarray]]:
        size = self.batch or (10**6 if all_samples else COMPARED)
        count = next(iter(self.data.values())).shape[0]
        firsts = range(0, count - (count % size if self.batch else 0), size)
        firsts = firsts if all_samples else list(firsts)[: max(1, COMPARED // size)]
        return [{name: array[first : first + size] for name, array in self.data.items()} for first in firsts]

    def outputs(self, model: onnx.ModelProto, optimised: bool = False, all_samples: bool = False) -> list[np.ndarray]:
        """The outputs of floats."""
        running = session(model, optimised)
        parts = [running.run(None, feeds) for feeds in self.feeds(all_samples)]
        kept = [[a.astype(np.float64) for a in part if a.dtype.kind == "f"] for part in parts]
        return [np.concatenate([a.reshape(1, *a.shape) if self.batch else a for a in column]) for column in zip(*kept)]

    def fail(self, command: list[str], check: str, message: str) -> None:
        shown = shlex.join(["onnx-mipp", *command])
        message = message[max(0, message.find("onnx-mipp: error")) :]
        self.result.failures.append(Failure(self.skeleton.name, shown, check, message))

    def run(self, arguments: list[str]) -> tuple[int, str]:
        self.out.unlink(missing_ok=True)
        self.result.runs += 1
        try:
            done = subprocess.run([str(self.program), *arguments], capture_output=True, text=True,
                                  timeout=LIMIT_SECONDS, env=self.environment)  # fmt: skip
        except subprocess.TimeoutExpired:
            return 124, f"no end after {LIMIT_SECONDS} s"
        return done.returncode, (done.stdout if done.returncode == 0 else done.stdout + done.stderr).strip()

    def command(self, options: list[str], report: Path) -> list[str]:
        files = [str(self.model), str(self.out), "--calib", str(self.calibration)]
        return [*files, *options, "--threads", "1", "--quiet", "--report", str(report)]

    def inspect(self) -> None:
        """What the program says of the groups of channels before it prunes."""
        arguments = ["inspect", str(self.model), "--json", "--threads", "1"]
        code, said = self.run(arguments)
        if code != 0:
            self.fail(arguments, f"exit code {code}", said[-1200:])
            return
        stored = set(oracle.parameters(self.dense))
        for group in json.loads(said)["groups"]:
            counts = [place["positions"] for place in group["places"] if place["tensor"] in stored]
            self.positions[group["name"]] = min(counts, default=1)
            self.free += not group["frozen"] and group["channels"] > 1

    def prune(self, command: Command) -> None:
        """One run of the program with all checks of its result."""
        report, plan = self.folder / f"{self.skeleton.name}.json", None
        options = list(command.options)
        if command.repair == "none":
            plan = self.folder / f"{self.skeleton.name}.{command.name}.plan"
            options += ["--no-combine", "--plan-out", str(plan)]
        arguments = self.command(options, report)
        code, said = self.run(arguments)
        refused = code == 1 and command.share is not None and REFUSED in said
        if refused:
            self.result.refused.append(command.name)
            if command.aligns_to_one and command.share >= 0.7 and not self.skeleton.held:
                self.fail(arguments, "budget", f"out of reach, which nothing here explains: {said}")
            arguments = [*arguments, "--best-effort"]
            code, said = self.run(arguments)
        if code != 0:
            self.fail(arguments, f"exit code {code}", said[-1200:])
            return
        try:
            cut = onnx.load(self.out)
            told = json.loads(report.read_text())
        except Exception as error:
            self.fail(arguments, "files", f"{error!r}")
            return
        self.check_budget(arguments, command, told, cut, refused)
        if not self.check_file(arguments, cut):
            return
        if plan:
            self.check_masked(arguments, cut, told, plan)

    def check_budget(self, arguments, command: Command, told: dict, cut: onnx.ModelProto, refused: bool) -> None:
        share = {key: told[key]["after"] / max(1, told[key]["before"]) for key in ("macs", "parameters")}
        if command.budget:
            self.result.left[command.budget] = share["parameters" if command.kind == "params" else "macs"]
        key = {"macs": "macs", "params": "parameters"}.get(command.kind)
        is_met = refused or (self.skeleton.held and self.free == 0)
        if key and not is_met and share[key] > command.share + 1e-9:
            self.fail(arguments, "budget", f"the report has {share[key]:.4f} of the {key}")
        if key == "parameters" and not is_met:
            before, after = oracle.parameters(self.dense), oracle.parameters(cut)
            added = sum(size for name, size in after.items() if name not in before)
            allowed = (command.share + 0.01) * sum(before.values()) + added
            if sum(after.values()) > allowed:
                self.fail(arguments, "budget", f"the file has {sum(after.values())} of {sum(before.values())} parameters")
        if key == "macs":
            one = self.feeds(False)[0]
            one = one if self.batch else {name: array[:1] for name, array in one.items()}
            before, after = oracle.macs(self.dense, one), oracle.macs(cut, one)
            if before and after and abs(after / before - share["macs"]) > 1e-3:
                found = f"the layers have {after / before:.4f} of the MACs, {share['macs']:.4f} says the report"
                self.fail(arguments, "MACs", found)
        self.check_groups(arguments, command, told)

    def check_groups(self, arguments, command: Command, told: dict) -> None:
        for group in told["groups"]:
            before, after = group["channels"]["before"], group["channels"]["after"]
            found = f"{group['name']} keeps {after} of {before}"
            if after == before:
                continue
            if group["frozen"]:
                self.fail(arguments, "frozen", found)
            if command.kind == "mi" and group["score"]["mi_interval"]["low"] < command.share - 1e-9:
                self.fail(arguments, "budget", f"{found}: {group['score']}")
            step = self.step(group["name"], before, command.align)
            if after % step != 0:
                self.fail(arguments, "align", found)
            if command.kind == "ratio" and abs(after - before * (1 - command.share)) > max(1, step):
                self.fail(arguments, "budget", found)

    def step(self, group: str, width: int, align: int) -> int:
        """What the widths of a group are multiples of: a channel of several positions brings a part of the alignment."""
        positions = self.positions.get(group, 1)
        step = align // max(part for part in range(1, align + 1) if align % part == 0 and positions % part == 0)
        return step if width % step == 0 else 1

    def check_file(self, arguments, cut: onnx.ModelProto) -> bool:
        """Whether the file holds a model like the one before, which runs."""
        try:
            onnx.checker.check_model(cut, full_check=True)
        except Exception as error:
            self.fail(arguments, "onnx.checker", str(error)[:600])
        if self.out.stat().st_size > self.model.stat().st_size:
            self.fail(arguments, "size", f"{self.out.stat().st_size} bytes, {self.model.stat().st_size} before")
        constant = {tensor.name for tensor in self.dense.graph.initializer}
        for side in ("input", "output"):
            old, new = ([v for v in getattr(m.graph, side) if v.name not in constant] for m in (self.dense, cut))
            if old != new:
                self.fail(arguments, "interface", f"the {side}s are {[v.name for v in new]}, or have other types or shapes")
        try:
            plain, optimised = self.outputs(cut), self.outputs(cut, optimised=True)
        except Exception as error:
            self.fail(arguments, "ONNX Runtime", str(error)[:600])
            return False
        if not all(np.isfinite(a).all() for a in plain):
            self.fail(arguments, "ONNX Runtime", "an output is not finite")
            return False
        error = distance(plain, optimised)
        if error > self.optimising:
            self.fail(arguments, "ONNX Runtime", f"with optimisation the outputs differ by {error:.1e}")
        return True

    def check_masked(self, arguments, cut: onnx.ModelProto, told: dict, plan: Path) -> None:
        planned = {group["name"]: group for group in json.loads(plan.read_text())["groups"]}
        gone = sum(group["channels"] - len(group["kept"]) for group in planned.values())
        if gone == 0:
            return
        try:
            masked, stays = oracle.masked(self.dense, cut)
            truth = self.outputs(masked)
        except oracle.Mismatch as error:
            self.fail(arguments, "masked", str(error))
            return
        ours = self.outputs(cut)
        error, effect = distance(truth, ours), distance(self.first, truth)
        if error > self.rounding:
            self.fail(arguments, "masked", f"differs by {error:.1e} from the masked dense model (the cut moves it by {effect:.1e})")
        self.has_told |= effect > (3 if self.skeleton.coarse else 10) * self.rounding
        for name, group in planned.items():
            kept = stays.get(name)
            dense = len(kept) - len(group["kept"]) if kept else 1
            if kept and dense == 0 and kept != group["kept"]:
                self.fail(arguments, "plan", f"{name} keeps {kept}, planned are {group['kept']}")
        share = told["macs"]["after"] / max(1, told["macs"]["before"])
        self.plans.append((abs(share - 0.65), plan, loss(self.truth, self.outputs(cut, all_samples=True))))

    def has_cut(self) -> bool:
        """Whether a run without repair moves the outputs and leaves 0.4 to 0.9 of the MACs: what a repair can mend."""
        return self.has_told and min(self.plans)[0] < 0.25

    def compare_repairs(self) -> None:
        """Repairs of one plan: each has to come nearer to the dense model on the data that it fits."""
        if not self.plans:
            return
        _, plan, bare = min(self.plans)
        self.result.errors["none"] = bare
        for repair in ("once", "sequential"):
            arguments = self.command(["--plan", str(plan), "--repair", repair], self.folder / f"{self.skeleton.name}.json")
            code, said = self.run(arguments)
            if code != 0:
                self.fail(arguments, f"exit code {code}", said[-1200:])
                continue
            cut = onnx.load(self.out)
            if not self.check_file(arguments, cut):
                continue
            error = loss(self.truth, self.outputs(cut, all_samples=True))
            self.result.errors[repair] = error
            if not error < bare and not self.skeleton.unrepaired:
                self.fail(arguments, "repair", f"loses {error:.4f} on its own data, {bare:.4f} without repair")
            once = self.result.errors.get("once")
            if repair == "sequential" and once is not None and error > once * (1 + NOISE) + NOISE * 0.02:
                self.fail(arguments, "repair", f"layer by layer loses {error:.4f} on its own data, {once:.4f} in one pass")

    def repeat(self, command: Command) -> None:
        """The command that ran last once more: the same bytes."""
        if not self.out.exists():
            return
        first = hashlib.sha256(self.out.read_bytes()).hexdigest()
        arguments = self.command(list(command.options), self.folder / f"{self.skeleton.name}.json")
        code, said = self.run(arguments)
        if code != 0:
            self.fail(arguments, f"exit code {code}", said[-1200:])
        elif hashlib.sha256(self.out.read_bytes()).hexdigest() != first:
            self.fail(arguments, "same bytes", "two runs of one command wrote different files")

    def finish(self) -> Result:
        if self.plans and not self.has_told:
            self.fail([], "masked", "no cut moves the outputs, so that nothing is tested")
        if not self.plans and not self.skeleton.held and not self.result.failures:
            self.fail([], "held", "no run without repair removed a channel, which nothing here explains")
        return self.result


def distance(left: list[np.ndarray], right: list[np.ndarray]) -> float:
    """The largest difference, relative to the largest value of each output."""
    worst = 0.0
    for a, b in zip(left, right, strict=True):
        if a.shape != b.shape:
            return float("inf")
        worst = max(worst, float(np.abs(a - b).max()) / (float(np.abs(a).max()) + 1e-30))
    return worst


def loss(truth: list[np.ndarray], other: list[np.ndarray]) -> float:
    """The mean squared difference relative to the variance over the samples, mean over the outputs."""
    shares = []
    for a, b in zip(truth, other, strict=True):
        spread = ((a - a.mean(0)) ** 2).sum()
        shares.append(float(((a - b) ** 2).sum() / (spread + 1e-30)))
    return float(np.mean(shares))
