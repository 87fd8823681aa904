#!/usr/bin/env python3
"""Retrains a pruned ONNX model without labels: it learns to answer as the dense model does.

    onnx-mipp dense.onnx pruned.onnx --calib calib.npz --macs 0.25
    python examples/retrain.py dense.onnx pruned.onnx retrained.onnx --calib calib.npz --mirror

Both models are taken into PyTorch (onnx2torch); the pruned one is fitted to the outputs of the dense one on
the calibration samples, and exported to ONNX again. An eighth of the samples is held back: the weights that
are kept are those of the epoch that did best on them, so what does not help is undone.
Needs the packages of bench/peers/requirements.txt. Models with one input and one output.
"""

import argparse
import copy
import io
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx2torch import convert

HELD_BACK = 8  # one sample in so many
BATCH = 64


def read_samples(path):
    data = np.load(path)
    if isinstance(data, np.ndarray):
        return torch.from_numpy(data)
    assert len(data.files) == 1, f"{path} holds {data.files}: a file with one array is needed"
    return torch.from_numpy(data[data.files[0]])


def outputs(model, samples):
    with torch.no_grad():
        return torch.cat([model(part) for part in samples.split(BATCH)])


def relative_error(found, wanted):
    """Squared error over the variance of what is wanted: 1 is what a constant reaches."""
    return (found - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum()


def varied(x, options):
    """The batch, mirrored and mixed with itself as asked; the dense model says what the right answers are."""
    if options.mirror:
        x = torch.where(torch.rand(len(x), *[1] * (x.ndim - 1)) < 0.5, x.flip(-1), x)
    if options.mix:
        share = torch.rand(len(x), *[1] * (x.ndim - 1))
        x = share * x + (1 - share) * x[torch.randperm(len(x))]
    return x


def distil(dense, pruned, samples, options):
    """Adam with one cycle. Both stay in eval mode: BatchNorm statistics of few samples would only add noise."""
    torch.manual_seed(options.seed)
    held_back = samples[::HELD_BACK]
    keep = torch.ones(len(samples), dtype=torch.bool)
    keep[::HELD_BACK] = False
    samples = samples[keep]
    wanted = outputs(dense, held_back)
    error = relative_error(outputs(pruned, held_back), wanted).item()
    best = error, 0, copy.deepcopy(pruned.state_dict())
    print(f"relative error on {len(held_back)} samples held back: {error:.4f} before", flush=True)
    optimizer = torch.optim.Adam(pruned.parameters(), lr=options.rate)
    steps = options.epochs * -(-len(samples) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, total_steps=steps, pct_start=0.2)
    for epoch in range(1, options.epochs + 1):
        for chosen in torch.randperm(len(samples)).split(BATCH):
            x = varied(samples[chosen], options)
            with torch.no_grad():
                target = dense(x)
            loss = relative_error(pruned(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        error = relative_error(outputs(pruned, held_back), wanted).item()
        if error < best[0]:
            best = error, epoch, copy.deepcopy(pruned.state_dict())
    print(f"{best[0]:.4f} after epoch {best[1]} of {options.epochs}", flush=True)
    pruned.load_state_dict(best[2])
    return pruned


def export(model, like, samples, path):
    """Writes ONNX with the names and the opset of `like`, and compares it with PyTorch."""
    source, target = like.graph.input[0].name, like.graph.output[0].name
    opset = max(next(o.version for o in like.opset_import if o.domain in ("", "ai.onnx")), 13)
    dynamic = {source: {0: "batch"}, target: {0: "batch"}}
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (samples[:2],), str(path), dynamo=False, opset_version=min(opset, 20),
            input_names=[source], output_names=[target], dynamic_axes=dynamic,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    found = session.run(None, {source: samples[:BATCH].numpy()})[0]
    expected = outputs(model, samples[:BATCH]).numpy()
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    assert difference < 1e-3, f"{path} differs from PyTorch by {difference:.1e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dense", type=Path)
    parser.add_argument("pruned", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--calib", type=Path, required=True, help=".npy, or .npz with one array")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--mirror", action="store_true", help="samples are images that may be mirrored")
    parser.add_argument("--mix", action="store_true", help="also blends of two samples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    samples = read_samples(options.calib)
    dense, like = convert(onnx.load(options.dense)).eval(), onnx.load(options.pruned)
    pruned = convert(like).eval()
    export(distil(dense, pruned, samples, options), like, samples, options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
