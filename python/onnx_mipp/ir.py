"""Pruning as a pass of ir-py; needs the package ``onnx-ir``.

    import onnx_ir as ir
    from onnx_mipp.ir import PrunePass

    passes = ir.passes.Sequential(PrunePass(loader, macs=0.5), ir.passes.common.RemoveUnusedNodesPass())
    model = passes(ir.load("in.onnx")).model
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import onnx_ir

from . import Result, prune

if TYPE_CHECKING:
    from ._call import Calibration

__all__ = ["PrunePass"]


class PrunePass(onnx_ir.passes.FunctionalPass):
    """Prunes a model as :func:`onnx_mipp.prune` does, whose arguments it takes. The given model stays as it is; what
    ir-py does not write into files, such as ``meta``, is not in the new one."""

    #: What the last run found out; None before.
    result: Result | None

    def __init__(self, calibration: Calibration = None, **options: Any) -> None:
        # Says at once what is no option.
        inspect.signature(prune).bind(None, calibration, **options)
        self._calibration = calibration
        self._options = options
        self.result = None

    def call(self, model: onnx_ir.Model) -> onnx_ir.passes.PassResult:
        self.result = prune(model, self._calibration, **self._options)
        widths = [group["channels"] for group in self.result.report["groups"]]
        is_modified = any(width["after"] < width["before"] for width in widths)
        return onnx_ir.passes.PassResult(self.result.ir_model, is_modified)
