"""A metric for `onnx-mipp --metric 'python examples/right.py {model} fixtures/eval.npz'`: how many of the labelled
samples a classifier gets right, in percent. The file has `labels` and one array for each input of the model.
"""

import sys

import numpy as np
import onnxruntime

model, data = sys.argv[1], dict(np.load(sys.argv[2]))
labels = data.pop("labels")
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
scores = session.run(None, {source.name: data[source.name] for source in session.get_inputs()})[0]
# The last line of the output is what counts.
print(100 * (scores.argmax(1) == labels).mean())
