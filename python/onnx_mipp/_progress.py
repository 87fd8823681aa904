"""How a run tells what it does."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

_log = logging.getLogger("onnx_mipp")


@runtime_checkable
class Progress(Protocol):
    """Hears how far a run is."""

    def stage(self, name: str, total: int | None, what: str | None) -> None:
        """A stage begins. Where it counts, so many of these will come, such as 448 and "samples"."""
        ...

    def advance(self, count: int) -> None:
        """So many more are done."""
        ...

    def note(self, text: str) -> None:
        """Something that the user should know; a warning starts with "WARNING: "."""
        ...


@contextlib.contextmanager
def listening(progress: bool | Callable[[str], None] | Progress | None) -> Iterator[Progress]:
    """What hears of a run, by what its caller asked for."""
    if progress is True:
        bars = _Bars()
        try:
            yield bars
        finally:
            bars.close()
    elif progress is None or progress is False:
        yield _Log()
    elif isinstance(progress, Progress):
        yield progress
    elif callable(progress):
        yield _Lines(progress)
    else:
        raise TypeError(f"progress: expected True, a function or a Progress, found {type(progress).__name__}")


class _Lines:
    """Gives a function a line for each stage and note."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def stage(self, name: str, total: int | None, what: str | None) -> None:
        self._tell(name if total is None else f"{name} ({total} {what})")

    def advance(self, count: int) -> None:
        pass

    def note(self, text: str) -> None:
        self._tell(text)


class _Log(_Lines):
    """Logs stages and notes; warnings are Python's."""

    def __init__(self) -> None:
        super().__init__(_log.info)

    def note(self, text: str) -> None:
        if text.startswith("WARNING: "):
            # Of whoever called the package's function, which called this.
            warnings.warn(text.removeprefix("WARNING: "), stacklevel=3)
        else:
            super().note(text)


class _Bars:
    """Shows a bar of tqdm for each stage, with the time that is left where it counts."""

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise ImportError("progress=True needs the package tqdm: pip install tqdm") from error
        self._tqdm: Any = tqdm
        self._bar: Any = None

    def stage(self, name: str, total: int | None, what: str | None) -> None:
        self.close()
        form = "{desc}" if total is None else None
        self._bar = self._tqdm(total=total, desc=name, unit=f" {what}", bar_format=form, leave=False)

    def advance(self, count: int) -> None:
        if self._bar is not None:
            self._bar.update(count)

    def note(self, text: str) -> None:
        self._tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
