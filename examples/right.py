"""A metric for `onnx-mipp --metric 'python examples/right.py {model} fixtures/eval.npz'`: how many of the labelled
samples a classifier gets right, in percent. The file has `labels` and one array for each input of the model.
"""

import sys

import numpy as np
import onnxruntime

# So many samples run at once.
BATCH = 50

model, data = sys.argv[1], dict(np.load(sys.argv[2]))
labels = data.pop("labels")
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
names = [source.name for source in session.get_inputs()]
right = 0
for first in range(0, len(labels), BATCH):
    part = slice(first, first + BATCH)
    scores = session.run(None, {name: data[name][part] for name in names})[0]
    right += int((scores.argmax(1) == labels[part]).sum())
# The last line of the output is what counts.
print(100 * right / len(labels))
