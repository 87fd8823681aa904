"""A pass for Olive that prunes ONNX models, before its quantization for one.

    python -m onnx_mipp.olive > packages.json
    olive run --config workflow.json --package-config packages.json

Olive knows passes by a list of packages: the first command writes its own list with this pass added. In a
workflow, the pass is ``{"type": "OnnxMippPruning", "macs": 0.5, "data_config": "calibration"}``.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Literal, Union

from olive.common.config_utils import ParamCategory
from olive.data.config import DataConfig
from olive.hardware.accelerator import AcceleratorSpec
from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.package_config import OlivePackageConfig
from olive.passes import Pass
from olive.passes.onnx.common import get_external_data_file_names
from olive.passes.onnx.quantization import get_calibration_dataloader
from olive.passes.pass_config import BasePassConfig, PassConfigParam
from olive.resource_path import LocalFile, LocalFolder

import onnx_mipp

__all__ = ["OnnxMippPruning", "package_config"]

# Below Olive's logger, so that a workflow's settings hold for it.
_log = logging.getLogger("olive.onnx_mipp")

_SEVERAL = Union[str, list[str]]

# The options of `onnx_mipp.prune` that a workflow can give. None is what is not given.
_OPTIONS: dict[str, tuple[Any, str]] = {
    "macs": (float, "Keep this fraction of the multiply-accumulates."),
    "params": (float, "Keep this fraction of the parameters."),
    "latency": (Union[float, str], "Keep this fraction of the latency, or so many milliseconds (12ms)."),
    "latency_command": (str, "A command that prints the milliseconds of a run of {model}."),
    "ratio": (float, "Remove this fraction of the channels of every group."),
    "mi": (float, "Keep this share of every layer's mutual information."),
    "agreement": (float, "Classifiers: answer this share of samples as the original does."),
    "max_change": (float, "Change the outputs by at most this share of their variance."),
    "max_drop": (float, "Let the metric get worse by no more than this."),
    "metric": (str, "A command that prints a number for {model}, larger for better models."),
    "metric_lower": (bool, "Smaller is better."),
    "metric_timeout": (int, "Seconds that a command may take for one model."),
    "align": (int, "Widths are multiples of this where channels leave."),
    "min_channels": (int, "No group gets narrower than this."),
    "best_effort": (bool, "Take what can be reached when the budget cannot."),
    "exclude": (_SEVERAL, "Nodes whose output channels may not change, as patterns."),
    "only": (_SEVERAL, "Nodes whose output channels alone may change, as patterns."),
    "heads": (Literal["best", "whole", "inside"], "What leaves of an attention."),
    "repair": (Literal["none", "once", "sequential", "tuned"], "How the weights that stay are fitted."),
    "samples": (int, "Use at most this many samples."),
    "seed": (int, "Seed of everything random."),
    "device": (str, "Where models run: auto, cpu, cuda or cuda:ID."),
    "threads": (int, "Threads of ONNX Runtime."),
    "memory": (int, "Megabytes that a sequential repair keeps in memory."),
    "memory_limit": (int, "Megabytes that the run may take."),
}


class OnnxMippPruning(Pass):  # type: ignore[misc]
    """Removes channels of an ONNX model and fits the weights that stay, without retraining."""

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        return {
            "data_config": PassConfigParam(
                type_=Union[DataConfig, dict],
                description="Unlabelled samples. Without any, inputs are made up.",
            ),
            "calibration": PassConfigParam(
                type_=str,
                category=ParamCategory.PATH,
                description="Samples as a file or folder in place of data_config.",
            ),
            **{name: PassConfigParam(type_=kind, description=text) for name, (kind, text) in _OPTIONS.items()},
        }

    def _run_for_config(
        self, model: ONNXModelHandler, config: BasePassConfig, output_model_path: str
    ) -> ONNXModelHandler:
        if config.data_config and config.calibration:
            raise ValueError("OnnxMippPruning: expected data_config or calibration, found both; remove one")
        samples = config.calibration
        if config.data_config:
            samples = get_calibration_dataloader(config, model.model_path, model.io_config)
        given = {name: getattr(config, name) for name in _OPTIONS if getattr(config, name) is not None}
        result = onnx_mipp.prune(model.model_path, samples, **given)
        _log.info("%s", result)

        path = Path(resolve_onnx_path(output_model_path, Path(model.model_path).name))
        result.save(path)
        # Weights in files of their own are part of the model: then it is its folder.
        if get_external_data_file_names(path):
            return ONNXModelHandler(LocalFolder({"path": path.parent}), onnx_file_name=path.name)
        return ONNXModelHandler(LocalFile({"path": path}))


def package_config() -> dict[str, Any]:
    """The list of Olive's passes with this one added."""
    known: dict[str, Any] = json.loads(Path(OlivePackageConfig.get_default_config_path()).read_text())
    known["passes"][OnnxMippPruning.__name__] = {
        "module_path": f"onnx_mipp.olive.{OnnxMippPruning.__name__}",
        "supported_providers": ["*"],
        "supported_accelerators": ["*"],
        "supported_precisions": ["*"],
        "module_dependencies": ["onnx-mipp"],
        "dataset": "dataset_optional",
    }
    return known


if __name__ == "__main__":
    print(json.dumps(package_config(), indent=1))
