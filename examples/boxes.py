"""A metric for a detector, `onnx-mipp --metric 'python examples/boxes.py {model} pictures.npz'`: the F1 of its boxes,
in percent, at an overlap of a half. The file has the pictures under the name of the model's input and their true
`boxes` (left, top, right, bottom), with rows of not-a-number after the last of a picture. The model is a YOLOX: offsets
on three grids, a score of being an object, and scores of classes.
"""

import sys

import numpy as np

STRIDES = (8, 16, 32)
LEAST_SCORE, MOST_OVERLAP, HIT = 0.3, 0.45, 0.5


def overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of one box and others."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    return common / (np.prod(box[2:] - box[:2]) + areas - common)


def found(output: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """The boxes of one picture of that height and width: the best of those that overlap."""
    grids = []
    for stride in STRIDES:
        down, across = np.meshgrid(*(np.arange(side // stride) for side in sides), indexing="ij")
        grids.append(np.stack([across, down, np.full_like(down, stride)], -1).reshape(-1, 3))
    grid = np.concatenate(grids)
    centre = (output[:, :2] + grid[:, :2]) * grid[:, 2:]
    half = np.exp(np.clip(output[:, 2:4], -20, 20)) * grid[:, 2:] / 2
    scores = output[:, 4] * output[:, 5:].max(1)
    boxes = np.concatenate([centre - half, centre + half], 1)
    kept = np.zeros((0, 4))
    for index in np.argsort(-scores):
        if scores[index] < LEAST_SCORE:
            break
        if overlaps(boxes[index], kept).max(initial=0) < MOST_OVERLAP:
            kept = np.vstack([kept, boxes[index]])
    return kept


def counts(seen: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    """Boxes hit, boxes seen, boxes there are."""
    return sum(overlaps(box, seen).max(initial=0) > HIT for box in truth), len(seen), len(truth)


def f1(marks: np.ndarray) -> float:
    """Of the counts of all pictures, in percent."""
    return 200 * float(marks[:, 0].sum() / marks[:, 1:].sum())


def main() -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    data, name = np.load(sys.argv[2]), session.get_inputs()[0].name
    marks = []
    for picture, truth in zip(data[name], data["boxes"]):
        seen = found(session.run(None, {name: picture[None]})[0][0], picture.shape[1:])
        marks.append(counts(seen, truth[~np.isnan(truth[:, 0])]))
    print(f1(np.array(marks)))


if __name__ == "__main__":
    main()
