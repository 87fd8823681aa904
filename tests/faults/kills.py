"""Kills the program at every system call that changes a folder, and 200 times at random.

    python tests/faults/kills.py --bin target/release/onnx-mipp

Needs strace and a Python with the packages of requirements-test.txt. After every kill the target must open in
ONNX Runtime and compute what the old or the new model computes, bit for bit; the next run must name what lies
around and get to the same files. The same with a disk that is full at every such call, and with two runs at once.
"""

import argparse
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime

FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures"
# All calls by which a folder or a file's length changes.
CALLS = "openat,rename,renameat,renameat2,unlink,unlinkat,link,linkat,mkdir,mkdirat,ftruncate,fsync,write"
CHANGES = re.compile(
    r"^\d*\s*(?:\[pid +\d+\] )?(rename|renameat|renameat2|unlink|unlinkat|link|linkat|mkdir|mkdirat|fsync|write)\(|"
    r"(openat)\(.*O_(?:CREAT|TMPFILE)"
)


class Problems(list):
    """Told as soon as they are found."""

    def append(self, problem):
        print(problem, flush=True)
        super().append(problem)


class Bench:
    def __init__(self, program, folder, kind):
        self.program, self.folder = program, pathlib.Path(folder)
        self.model = self.folder / "in.onnx"
        model = onnx.load(FIXTURES / "resnet_bn_torchscript.onnx")
        if kind == "external":
            onnx.save(model, self.model, save_as_external_data=True, location="weights", size_threshold=0)
        else:
            onnx.save(model, self.model)
        self.work = self.folder / "work"
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()
        self.images = np.load(FIXTURES / "calib.npz")["input"][:4]
        self.clean()
        self.run(self.command(old=True), check=True)
        self.old = self.state()
        self.old_output = self.output()
        self.clean()
        self.run(self.command(), check=True)
        self.new, self.new_output = self.state(), self.output()
        assert not np.array_equal(self.old_output, self.new_output)

    def command(self, old=False):
        files = [self.work / name for name in ("out.onnx", "plan.json", "report.json", "sums.stats")]
        words = [self.program, self.model, files[0], "--plan-out", files[1], "--report", files[2]]
        words += ["--stats-out", files[3], "--calib", FIXTURES / "calib.npz", "--samples", "16"]
        words += ["--threads", "1", "--repair", "once", "--macs", "0.5", "-q"]
        return [str(word) for word in words + (["--exclude", "/stem/**"] if old else [])]

    def run(self, command, check=False):
        environment = dict(os.environ, TMPDIR=str(self.temporary), RAYON_NUM_THREADS="1")
        run = subprocess.run(command, capture_output=True, text=True, env=environment)
        if check and run.returncode:
            sys.exit(f"{command}: {run.stderr}")
        return run

    def start(self, command):
        environment = dict(os.environ, TMPDIR=str(self.temporary), RAYON_NUM_THREADS="1")
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)

    def clean(self):
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        for path in self.temporary.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def put_old(self):
        self.clean()
        for name, content in self.old.items():
            (self.work / name).write_bytes(content)

    def state(self):
        """Names and contents, less the report's measured times."""
        files = {path.name: path.read_bytes() for path in self.work.iterdir() if ".tmp" not in path.name}
        return files

    def output(self):
        session = onnxruntime.InferenceSession(self.work / "out.onnx", providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return np.concatenate([session.run(None, {name: image[None]})[0] for image in self.images])

    def judge(self, what, problems):
        """Each file is the old or the new one; the model computes what one of both computes."""
        try:
            output = self.output()
        except Exception as error:
            problems.append(f"{what}: the target does not open: {str(error)[:200]}")
            return
        if not any(np.array_equal(output, other) for other in (self.old_output, self.new_output)):
            problems.append(f"{what}: the target computes neither the old nor the new")
        found = self.state()
        for name in ("out.onnx", "plan.json", "sums.stats"):
            if found.get(name) not in (self.old[name], self.new[name]):
                problems.append(f"{what}: {name} is neither the old nor the new")

    def recover(self, what, problems):
        """The next run names what lies around, and ends with the new files."""
        left = [path.name for path in self.work.iterdir() if path.name.endswith(".tmp")]
        words = [word for word in self.command() if word != "-q"]
        run = self.run(words)
        if run.returncode:
            problems.append(f"{what}: the next run fails: {run.stderr[-300:]}")
        if left and "a run that was killed left" not in run.stderr:
            problems.append(f"{what}: the next run does not name {left}")
        for name in left:
            (self.work / name).unlink()
        found = self.state()
        for name in self.new:
            if name not in ("report.json",) and found.get(name) != self.new[name]:
                problems.append(f"{what}: after the next run {name} is not the new one")

    def calls(self):
        """Which of each kind of system call change a folder that matters, as (call, its number)."""
        self.put_old()
        trace = self.folder / "trace"
        strace = ["strace", "-f", "-qq", "-y", "-e", f"trace={CALLS}", "-o", str(trace)]
        self.run(strace + self.command(), check=True)
        counts, found = {}, []
        for line in trace.read_text().splitlines():
            name = re.match(r"\d+\s+(\w+)\(", line)
            if not name:
                continue
            name = name.group(1)
            counts[name] = counts.get(name, 0) + 1
            # What is written may name the folder too; where it goes is what counts.
            place = line.split(", ")[0] if name == "write" else line
            if CHANGES.search(line) and str(self.folder) in place:
                found.append((name, counts[name], line))
        return found


def injected(bench, action, judge, never=()):
    calls = [call for call in bench.calls() if call[0] not in never]
    for name, number, _ in calls:
        bench.put_old()
        strace = ["strace", "-f", "-qq", "-e", f"trace={name}", "-e", f"inject={name}:{action}:when={number}"]
        run = bench.run(strace + ["-o", "/dev/null"] + bench.command())
        judge(f"{action} at {name} {number}", run)
    return len(calls)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--random", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    problems = Problems()
    for kind in ("inline", "external"):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(os.path.abspath(options.bin), folder, kind)

            def killed(what, run):
                bench.judge(f"{kind}: {what}", problems)
                bench.recover(f"{kind}: {what}", problems)

            def full(what, run):
                left = [path.name for path in bench.work.iterdir() if path.name.endswith(".tmp")]
                bench.judge(f"{kind}: {what}", problems)
                if left:
                    problems.append(f"{kind}: {what}: {left} lie around")
                if run.returncode not in (0, 1):
                    problems.append(f"{kind}: {what}: exit code {run.returncode}")
                if run.returncode == 1:
                    found = bench.state()
                    for name, content in bench.old.items():
                        if found.get(name) != content:
                            problems.append(f"{kind}: {what}: the run failed and {name} changed")

            count = injected(bench, "signal=KILL", killed)
            print(f"{kind}: killed at each of {count} calls; {len(problems)} problems so far", flush=True)
            count = injected(bench, "error=ENOSPC", full, never=("unlink", "unlinkat"))
            print(f"{kind}: no room at each of {count} calls; {len(problems)} problems so far", flush=True)

            begin = time.time()
            bench.put_old()
            bench.run(bench.command(), check=True)
            whole = time.time() - begin
            random.seed(options.seed)
            for number in range(options.random // 2):
                bench.put_old()
                run = bench.start(bench.command())
                # Half of them near the end, where files change.
                start = 0.0 if number % 2 else 0.8
                time.sleep(random.uniform(start, 1.05) * whole)
                run.kill()
                run.wait()
                bench.judge(f"{kind}: random kill {number}", problems)
                if number % 10 == 0:
                    bench.recover(f"{kind}: random kill {number}", problems)
            print(f"{kind}: {options.random // 2} random kills; {len(problems)} problems so far", flush=True)

            for number in range(10):
                bench.put_old()
                runs = [bench.start(bench.command(old)) for old in (False, True)]
                if any(run.wait() for run in runs):
                    problems.append(f"{kind}: two runs {number}: one failed")
                bench.judge(f"{kind}: two runs {number}", problems)
            print(f"{kind}: 10 pairs of runs at once; {len(problems)} problems so far", flush=True)
    print(f"{len(problems)} problems")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
