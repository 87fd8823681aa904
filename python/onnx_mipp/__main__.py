"""The ``onnx-mipp`` command."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    from . import _call, _native

    # The program's own places come after the library that was installed with it.
    library = _call.library()
    if library is not None:
        os.environ["ORT_DYLIB_PATH"] = library
    # Python would only hear of Ctrl-C when the program is done.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(_native.main(["onnx-mipp", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
