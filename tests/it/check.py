"""Checks pruned models against their originals: check.py ORIGINAL PRUNED [ORIGINAL PRUNED ...]."""

import sys

import numpy as np
import onnx
import onnxruntime

onnxruntime.disable_telemetry_events()


def signature(session):
    """Names, types and shapes of the inputs and outputs."""
    return [
        [(value.name, value.type, value.shape) for value in values]
        for values in (session.get_inputs(), session.get_outputs())
    ]


def check(original, pruned):
    onnx.checker.check_model(pruned, full_check=True)
    before, after = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for path in (original, pruned)
    )
    if signature(before) != signature(after):
        sys.exit(f"{pruned}: expected {signature(before)}, found {signature(after)}")
    image = np.random.default_rng(0).standard_normal((4, 1, 28, 28)).astype(np.float32)
    outputs = after.run(None, {after.get_inputs()[0].name: image})
    if [output.shape for output in outputs] != [(4, 10)]:
        sys.exit(f"{pruned}: outputs of shapes {[output.shape for output in outputs]}")
    if not all(np.isfinite(output).all() for output in outputs):
        sys.exit(f"{pruned}: outputs that are not finite")
    print("good", pruned)


paths = sys.argv[1:]
for pair in zip(paths[::2], paths[1::2], strict=True):
    check(*pair)
