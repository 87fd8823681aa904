"""A metric for a detector of speech, `onnx-mipp --metric 'python examples/speech.py {model} clips.npz'`: how many windows
it rightly calls speech or not, in percent. The file has `windows`, clip after clip, their `truth`, and the `ends` of the
clips among them. The model takes the windows of a clip and two states (Silero's, by sequences), which begin at 0.
"""

import sys

import numpy as np

STATE = (1, 1, 128)
LEAST_SCORE = 0.5


def right(session, windows: np.ndarray, truth: np.ndarray) -> int:
    """How many of a clip's windows."""
    rest = np.zeros(STATE, np.float32)
    scores = session.run(None, {"input": windows, "h": rest, "c": rest})[0]
    return int(((scores > LEAST_SCORE) == truth).sum())


def main() -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    data = np.load(sys.argv[2])
    ends = data["ends"][:-1]
    clips = zip(np.split(data["windows"], ends), np.split(data["truth"], ends))
    print(100 * sum(right(session, *clip) for clip in clips) / len(data["truth"]))


if __name__ == "__main__":
    main()
