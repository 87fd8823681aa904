"""The Python package: what it gives, and that it behaves in a process of Python."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import inspect
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import onnx
import onnx_mipp
import onnxruntime
import pytest
from onnxruntime.quantization import CalibrationDataReader

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "fixtures/resnet_bn_torchscript.onnx"
DATA = ROOT / "fixtures/calib.npz"
FEW = dict(repair="once", threads=1)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    data = np.load(DATA)
    return data[data.files[0]][:16]


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command that the package installs."""
    command = Path(sys.executable).with_name("onnx-mipp")
    return subprocess.run([command, *map(str, arguments)], capture_output=True, text=True)


def run(model: bytes, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model)
    return session.run(None, {session.get_inputs()[0].name: images})[0]


@pytest.fixture(scope="module")
def result(images: np.ndarray) -> onnx_mipp.Result:
    return onnx_mipp.prune(MODEL, images, ratio=0.5, **FEW)


def test_the_working_folder_has_no_say_in_the_library(tmp_path):
    planted = tmp_path / "onnxruntime"
    (planted / "capi").mkdir(parents=True)
    (planted / "__init__.py").write_text("")
    (planted / "capi/libonnxruntime.so.9.9.9").write_text("planted")
    ask = "import sys; del sys.path[0]; import onnx_mipp; sys.path[:0] = sys.argv[1:]; print(onnx_mipp._call.library())"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DYLIB_PATH"}
    for place in ("", ".", str(tmp_path)):
        told = subprocess.run(
            [sys.executable, "-c", ask, place],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
        )
        assert told.stdout.strip() == str(Path(onnxruntime.__file__).parent / "capi")


def test_the_result_has_model_plan_and_report(result, images, tmp_path):
    onnx.checker.check_model(result.model)
    assert len(result.model_bytes) < 0.8 * MODEL.stat().st_size
    report = result.report
    assert report["input"] == str(MODEL) and report["calibration"]["source"] == ["data in memory"]
    assert report["trade_off"], "the page has no curve"
    assert report["macs"]["after"] <= 0.6 * report["macs"]["before"]
    kept = {group["name"]: len(group["kept"]) for group in result.plan["groups"]}
    assert kept == {group["name"]: group["channels"]["after"] for group in report["groups"]}
    assert "asked --ratio 0.5" in str(result) and result.html.startswith("<!DOCTYPE html>")
    result.save(tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == result.model_bytes
    # The report's agreement is about that of ONNX Runtime on other images.
    data = np.load(DATA)
    unseen = data[data.files[0]][16:80]
    agreed = run(MODEL.read_bytes(), unseen).argmax(1) == run(result.model_bytes, unseen).argmax(1)
    assert agreed.mean() > 0.5


def test_a_result_goes_to_other_processes_and_into_notebooks(result, tmp_path):
    again = pickle.loads(pickle.dumps(result))
    assert again.model_bytes == result.model_bytes and str(again) == str(result)
    assert (again.plan, again.report, again.html) == (result.plan, result.report, result.html)
    again.save(tmp_path / "again.onnx")
    result.save(tmp_path / "first.onnx")
    written = [tmp_path / name for name in ("again.onnx", "first.onnx")]
    assert written[0].read_bytes() == written[1].read_bytes()
    assert written[0].stat().st_mode == written[1].stat().st_mode
    assert sorted(tmp_path.iterdir()) == written
    # A frame of its own, so that the styles of page and notebook leave each other alone.
    frames = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: frames.append((tag, dict(attributes)["srcdoc"]))
    parser.feed(again._repr_html_())
    assert frames == [("iframe", result.html)]
    assert onnx_mipp.__version__ == importlib.metadata.version("onnx-mipp")


def test_every_kind_of_data_gives_the_same_model(result, images):
    class Reader(CalibrationDataReader):
        """As onnxruntime.quantization wants it."""

        def __init__(self) -> None:
            self.left = [{"input": image[None]} for image in images]

        def get_next(self):
            return self.left.pop(0) if self.left else None

    class Bare:
        """The same of another family."""

        def __init__(self) -> None:
            self.get_next = Reader().get_next

    class Tensor:
        """As much of a torch tensor as is used."""

        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        detach = cpu = lambda self: self

        def numpy(self) -> np.ndarray:
            return self.array

    name = onnxruntime.InferenceSession(MODEL).get_inputs()[0].name
    assert name == "input"
    halves = [images[:10], images[10:]]
    kinds = {
        "arrays": halves,
        "a generator of dicts": ({name: half} for half in halves),
        "batches with labels": [[Tensor(half), Tensor(np.zeros(len(half)))] for half in halves],
        "inputs by name before labels": [({name: half}, np.zeros(len(half))) for half in halves],
        "single samples with labels": [(image, 3) for image in images],
        "single samples by name, as lists": ({name: image.tolist(), "text": "a"} for image in images),
        "onnxruntime's reader": Reader(),
        "get_next": Bare(),
    }
    for kind, data in kinds.items():
        again = onnx_mipp.prune(MODEL, data, ratio=0.5, **FEW)
        assert again.model_bytes == result.model_bytes, kind


def test_every_kind_of_model_gives_the_same_model(result, images):
    loaded = onnx.load(MODEL)
    for model in [str(MODEL), MODEL.read_bytes(), loaded]:
        again = onnx_mipp.prune(model, images, ratio=0.5, **FEW)
        assert again.model_bytes == result.model_bytes, type(model)


def test_the_command_gives_the_same_model(result, images, tmp_path):
    np.save(tmp_path / "calib.npy", images)
    output = tmp_path / "out.onnx"
    options = ["--calib", tmp_path / "calib.npy", "--ratio", 0.5, "--repair", "once", "--threads", 1]
    done = program(MODEL, output, *options, "--json")
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == result.model_bytes
    assert json.loads(done.stdout)["asked"] == "--ratio 0.5"
    assert program("--version").stdout.startswith("onnx-mipp ")
    failed = program("no-such.onnx", output)
    assert failed.returncode == 1 and "onnx-mipp: error: " in failed.stderr


def test_errors_have_the_text_of_the_program(images, tmp_path):
    np.save(tmp_path / "calib.npy", images)
    cases = [
        (dict(macs=0.001), ["--macs", 0.001]),
        (dict(exclude=["/stem/stem.0/Cnv"]), ["--exclude", "/stem/stem.0/Cnv"]),
    ]
    for options, words in cases:
        with pytest.raises(onnx_mipp.Error) as caught:
            onnx_mipp.prune(MODEL, images, **FEW, **options)
        end = ["--calib", tmp_path / "calib.npy", "--repair", "once", "--dry-run"]
        assert f"error: {caught.value}\n" in program(MODEL, *words, *end).stderr
    with pytest.raises(onnx_mipp.Error, match="up to 1"):
        onnx_mipp.prune(MODEL, images, macs=2.0)
    with pytest.raises(onnx_mipp.Error, match="cannot be used with"):
        onnx_mipp.prune(MODEL, images, macs=0.5, ratio=0.5)
    for options, words in [
        (dict(align=0), "align: expected a whole number from 1 to .*, found 0"),
        (dict(align=-8), "align: expected a whole number"),
        (dict(samples=10**30), "samples: expected a whole number"),
        (dict(memory_limit=1), "memory_limit: expected a whole number from 256"),
        (dict(estimator="mean"), "estimator: expected gaussian or copula, found mean"),
        (dict(device="tpu"), "tpu"),
        (dict(exclude="[a"), "exclude: .*glob"),
        (dict(exclude="no-such"), "--exclude 'no-such' matches no node"),
        (dict(plan={"groups": 3}), "plan: "),
        (dict(plan={"groups": []}, macs=0.5), "plan cannot be used with macs"),
        (dict(size="5 apples"), "size: expected a number above 0 and up to 1, or .* such as 3.5MB, found 5 apples"),
        (dict(target="gpu"), "target: expected one of onnxruntime-cpu, .*, found 'gpu'"),
        (dict(target="tensorrt-fp16", align=8), "target cannot be used with align"),
        (dict(profile="nowhere.json"), "nowhere.json: cannot read the profile"),
        (dict(latency="fast"), "latency: expected a number above 0 and up to 1, or .* such as 12ms, found fast"),
        (dict(latency="3ms", latency_command=lambda path: -1.0, **FEW), "the original measures -1, expected milliseconds"),
        (dict(max_drop=0.5), "--max-drop needs a --metric"),
        (dict(metric="echo 1", max_drop=1), "expected a command with {model}"),
        (dict(metric="echo {model}", max_drop=1, metric_timeout=0), "metric_timeout: expected a whole number from 1"),
        (dict(metric=lambda path: 1 / 0, max_drop=1, **FEW), "metric failed: ZeroDivisionError"),
        (dict(metric=lambda path: "good", max_drop=1, **FEW), "metric failed: TypeError"),
        (dict(stats="a", stats_out="b"), "stats_out cannot be used with stats"),
    ]:
        with pytest.raises(onnx_mipp.Error, match=words):
            onnx_mipp.prune(MODEL, images, **options)
    with pytest.raises(onnx_mipp.Error, match="no-such.onnx"):
        onnx_mipp.prune("no-such.onnx", images)
    with pytest.raises(onnx_mipp.Error):
        onnx_mipp.prune(b"no model", images)


def test_data_that_do_not_fit_are_refused(images):
    for data, error, words in [
        (3, TypeError, "get_next"),
        ([], ValueError, "no sample"),
        ([np.array([None])], ValueError, "[Oo]bject"),
        ([{"other": images, "more": images}], onnx_mipp.Error, "input 'input'.*other"),
        ([images, images[:, :, :4]], onnx_mipp.Error, "batch-000001.npz.*'input'"),
        ([images.astype(np.float64) * np.nan], onnx_mipp.Error, "NaN"),
    ]:
        with pytest.raises(error, match=words):
            onnx_mipp.prune(MODEL, data, ratio=0.5, **FEW)
    with pytest.raises(TypeError, match="ModelProto"):
        onnx_mipp.prune(5, images)


def test_a_metric_of_python_decides(images):
    held = np.load(ROOT / "fixtures/eval.npz")

    def right(path: Path) -> float:
        scores = run(path.read_bytes(), held["input"])
        return float((scores.argmax(1) == held["labels"]).mean())

    found = onnx_mipp.prune(MODEL, images, metric=right, max_drop=0.02, **FEW)
    before, after = (found.report["metric"][when] for when in ("before", "after"))
    assert before == right(MODEL) and before - after <= 0.02
    assert found.report["macs"]["after"] < 0.9 * found.report["macs"]["before"]
    # The same turned round, and with a bound on the size beside it.
    wrong = onnx_mipp.prune(
        MODEL, images, metric=lambda path: 1 - right(path), metric_lower=True, max_drop=0.02, params=0.8, **FEW
    )
    assert wrong.report["metric"]["after"] - wrong.report["metric"]["before"] <= 0.02
    assert wrong.report["parameters"]["after"] <= 0.8 * wrong.report["parameters"]["before"]


def test_a_plan_is_applied(result, images):
    again = onnx_mipp.prune(MODEL, images, plan=result.plan, **FEW)
    assert again.model_bytes == result.model_bytes


def test_inspect_is_that_of_the_command():
    found = onnx_mipp.inspect(MODEL, exclude="/stem/**")
    asked = ["inspect", MODEL, "--exclude", "/stem/**"]
    assert found.report == json.loads(program(*asked, "--json").stdout)
    assert str(found) == program(*asked).stdout
    # Nothing is lost on the way to the types.
    typed = json.loads(json.dumps(dataclasses.asdict(found)))
    assert {name: typed[name] for name in found.report} == found.report
    assert found.groups[0].frozen and found.groups[0].places[0].positions == 1
    assert found != onnx_mipp.inspect(MODEL)


def test_every_option_of_the_command_is_there():
    outside = "calib dry-run plan-out out-dir report json config quiet verbose help version".split()
    for command, least in [("prune", 30), ("sweep", 25), ("compare", 15), ("inspect", 8)]:
        asked = ["--help"] if command == "prune" else [command, "--help"]
        known = set(inspect.signature(getattr(onnx_mipp, command)).parameters)
        options = re.findall(r"^ +(?:-\w, |    )--([\w-]+)", program(*asked).stdout, re.MULTILINE)
        options = {option.replace("-", "_") for option in set(options) - set(outside)}
        assert len(options) > least and options <= known, (command, options - known)


def test_no_data_is_a_warning():
    with pytest.warns(UserWarning, match="inputs are made up") as warned:
        onnx_mipp.prune(MODEL, ratio=0.25, **FEW)
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lines: list[str] = []
        onnx_mipp.prune(MODEL, ratio=0.25, progress=lines.append, **FEW)
    assert "repairing" in lines and any(line.startswith("WARNING") for line in lines)


def test_other_threads_run_meanwhile(images):
    ticks = 0
    done = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.is_set():
            ticks += 1
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.monotonic()
    onnx_mipp.prune(MODEL, images, ratio=0.5, **FEW)
    seconds = time.monotonic() - begin
    done.set()
    thread.join()
    assert ticks > 20 * seconds, f"{ticks} ticks in {seconds} s"


def test_an_error_in_the_callback_ends_the_work(images):
    def fail(line: str) -> None:
        raise LookupError(line)

    with pytest.raises(LookupError, match="reading the model"):
        onnx_mipp.prune(MODEL, images, macs=0.5, progress=fail)


def test_ctrl_c_stops(images):
    # Far more passes than the test waits for.
    many = (images for _ in range(200))

    def interrupt(line: str) -> None:
        if line.startswith("calibrating"):
            threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()

    begin = time.monotonic()
    # A shell starts what runs in the background with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            onnx_mipp.prune(MODEL, many, macs=0.5, progress=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - begin < 60
    # And the process goes on.
    assert onnx_mipp.inspect(MODEL).groups


def test_ctrl_c_ends_the_command(tmp_path):
    command = [Path(sys.executable).with_name("onnx-mipp"), MODEL, tmp_path / "out.onnx"]
    running = subprocess.Popen([*command, "--calib", DATA], stderr=subprocess.PIPE, text=True)
    for line in running.stderr:
        if line.startswith("calibrating"):
            break
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 128 + signal.SIGINT
    assert not (tmp_path / "out.onnx").exists()


def test_the_stubs_are_those_of_the_module():
    def names(arguments: ast.arguments) -> list[str]:
        return [argument.arg for argument in arguments.args]

    stubs = Path(onnx_mipp.__file__).with_name("_native.pyi").read_text()
    found = {"Error"}
    for node in ast.parse(stubs).body:
        if isinstance(node, ast.FunctionDef):
            real = inspect.signature(getattr(onnx_mipp._native, node.name))
            assert names(node.args) == list(real.parameters), node.name
            found.add(node.name)
        elif isinstance(node, ast.ClassDef) and node.name != "Error":
            methods = {method.name for method in node.body}
            real = getattr(onnx_mipp._native, node.name)
            assert methods == {name for name in vars(real) if not name.startswith("_")}
            found.add(node.name)
    assert found == {name for name in vars(onnx_mipp._native) if not name.startswith("_")}


def test_the_wheel_holds_this_and_nothing_else():
    package = importlib.metadata.distribution("onnx-mipp")
    added = ("INSTALLER", "REQUESTED", "direct_url.json", ".pyc", "bin/onnx-mipp")
    files = [str(file) for file in package.files if not str(file).endswith(added)]
    about = f"onnx_mipp-{package.version}.dist-info"
    assert sorted(files) == sorted([
        "onnx_mipp/__init__.py",
        "onnx_mipp/__main__.py",
        "onnx_mipp/_call.py",
        "onnx_mipp/_data.py",
        "onnx_mipp/_native.abi3.so",
        "onnx_mipp/_native.pyi",
        "onnx_mipp/_progress.py",
        "onnx_mipp/_results.py",
        "onnx_mipp/ir.py",
        "onnx_mipp/_torch_layers.py",
        "onnx_mipp/_torch_names.py",
        "onnx_mipp/_torch_weights.py",
        "onnx_mipp/olive.py",
        "onnx_mipp/py.typed",
        "onnx_mipp/torch.py",
        f"{about}/METADATA",
        f"{about}/RECORD",
        f"{about}/WHEEL",
        f"{about}/entry_points.txt",
        f"{about}/licenses/LICENSE-APACHE",
        f"{about}/licenses/LICENSE-MIT",
        f"{about}/sboms/onnx-mipp-python.cyclonedx.json",
    ])
    needed = [need for need in package.requires if "extra" not in need]
    assert any(need.startswith("onnxruntime") for need in needed)
    cuda = [need for need in package.requires if "cuda" in need]
    assert len(cuda) == 1 and cuda[0].startswith("onnxruntime-gpu")
