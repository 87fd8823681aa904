"""Plans cut into torchvision's models, against the pruned ONNX file that the program wrote."""

from __future__ import annotations

import copy
import functools
import io
import json
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from torch import nn

import onnx_mipp
import onnx_mipp.torch

SIZE = 64
EXPORTERS = {"torchscript": False, "dynamo": True}


def network(name: str, **options) -> nn.Module:
    return getattr(torchvision.models, name)(weights=None, num_classes=10, **options)


def small_vgg() -> nn.Module:
    """VGG's layers with a small head, which reads several positions of a channel."""
    module = network("vgg11_bn")
    module.avgpool = nn.Identity()
    module.classifier = nn.Sequential(nn.Linear(512 * 4, 64), nn.ReLU(), nn.Linear(64, 10))
    return module


def small_densenet() -> nn.Module:
    return torchvision.models.DenseNet(16, (3, 4, 3), 32, num_classes=10)


NETWORKS = {
    "resnet18": lambda: network("resnet18"),
    "vgg": small_vgg,
    "mobilenet_v2": lambda: network("mobilenet_v2"),
    "densenet": small_densenet,
    "efficientnet_b0": lambda: network("efficientnet_b0"),
    "regnet_y_400mf": lambda: network("regnet_y_400mf"),
    "convnext_tiny": lambda: network("convnext_tiny"),
    "googlenet": lambda: network("googlenet", aux_logits=False, init_weights=True),
    "shufflenet_v2_x0_5": lambda: network("shufflenet_v2_x0_5"),
}


def randomized(module: nn.Module) -> nn.Module:
    """No two parameters alike, and norms that do something."""
    random = torch.Generator().manual_seed(1)
    for inner in module.modules():
        if isinstance(inner, nn.modules.batchnorm._BatchNorm):
            inner.running_mean.normal_(0, 0.1, generator=random)
            inner.running_var.uniform_(0.5, 1.5, generator=random)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1 or parameter.std() == 0:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=random))
    return module.eval()


def export(module: nn.Module, dynamo: bool, inputs: torch.Tensor) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            batch = {0: torch.export.Dim.DYNAMIC}
            program = torch.onnx.export(module, (inputs,), dynamo=True, dynamic_shapes=(batch,), verbose=False)
            program.save(file)
        else:
            axes = {"x": {0: "batch"}}
            torch.onnx.export(module, (inputs,), file, dynamo=False, input_names=["x"], dynamic_axes=axes)
    return file.getvalue()


@functools.cache
def pictures(size: int = SIZE) -> torch.Tensor:
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(2))


@functools.cache
def exported(name: str, exporter: str) -> tuple[nn.Module, bytes]:
    torch.manual_seed(0)
    module = randomized(NETWORKS[name]())
    return module, export(module, EXPORTERS[exporter], pictures())


def prune(model: bytes, size: int = SIZE, **options) -> onnx_mipp.Result:
    """By a plan that keeps some channels of every group, unless the options have a budget."""
    if not options.keys() & {"macs", "ratio", "plan"}:
        options["plan"] = planned(model)
    options = {"repair": "none", "no_combine": True, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return onnx_mipp.prune(model, pictures(size).numpy(), **options)


def planned(model: bytes) -> dict:
    random = np.random.default_rng(3)
    groups = []
    for group in onnx_mipp.inspect(model).groups:
        count = group.channels
        left = count if group.frozen else random.integers(count // 2, count) if count > 1 else 1
        kept = np.sort(random.permutation(count)[:left]).tolist()
        groups.append({"name": group.name, "channels": count, "kept": kept})
    return {"groups": groups}


def outputs(result: onnx_mipp.Result, inputs: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(result.model_bytes, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: inputs.numpy()})[0]


def assert_alike(module: nn.Module, result: onnx_mipp.Result, size: int = SIZE) -> None:
    with torch.no_grad():
        found = module(pictures(size)).numpy()
    wanted = outputs(result, pictures(size))
    scale = np.abs(wanted).max()
    assert scale > 1e-3
    np.testing.assert_allclose(found / scale, wanted / scale, atol=2e-5)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_narrowed_module_gives_what_the_pruned_file_gives(name, exporter):
    module, model = exported(name, exporter)
    before = copy.deepcopy(module.state_dict())
    # ShuffleNet halves its channels wherever they are: not every plan leaves halves.
    result = prune(model, macs=0.7) if name.startswith("shufflenet") else prune(model)
    smaller = onnx_mipp.torch.apply(result.plan, module)
    assert parameters(smaller) < 0.95 * parameters(module)
    assert_alike(smaller, result)
    # The module itself is as it was.
    assert before.keys() == module.state_dict().keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", ["resnet18", "densenet", "mobilenet_v2", "efficientnet_b0", "convnext_tiny"])
def test_repaired_weights_are_taken_over(name, exporter):
    module, model = exported(name, exporter)
    result = prune(model, repair="once")
    sliced = onnx_mipp.torch.apply(result, module)
    smaller = onnx_mipp.torch.apply(result, module, weights=result)
    assert_alike(smaller, result)
    # The repair did something, and merged norms keep a meaning of their own.
    inputs = pictures()
    with torch.no_grad():
        assert not torch.allclose(sliced(inputs), smaller(inputs), rtol=1e-2)
    for name, norm in smaller.named_modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            assert torch.equal(norm.running_var, sliced.get_submodule(name).running_var)


def test_weights_of_combinations_are_taken_over(tmp_path):
    torch.manual_seed(0)
    blocks = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2]]
    module = randomized(network("mobilenet_v2", inverted_residual_setting=blocks))
    model = export(module, False, pictures())
    result = prune(model, repair="once", no_combine=False, ratio=0.3)
    assert any(group.get("combined") for group in result.plan["groups"])
    with pytest.raises(onnx_mipp.Error, match="combinations.*weights=.*no_combine"):
        onnx_mipp.torch.apply(result.plan, module)
    result.save(tmp_path / "out.onnx")
    for weights in (tmp_path / "out.onnx", result.model_bytes, result.model):
        assert_alike(onnx_mipp.torch.apply(result.plan, module, weights=weights), result)
    with pytest.raises(onnx_mipp.Error, match="shape.*pruned by this plan"):
        onnx_mipp.torch.apply(result.plan, module, weights=prune(model))


def test_a_narrowed_module_trains_and_its_state_loads(tmp_path):
    module, model = exported("resnet18", "torchscript")
    result = prune(model)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(result.plan))
    smaller = onnx_mipp.torch.apply(plan, module.train())
    assert smaller.training and all(inner.training for inner in smaller.modules())
    optimizer = torch.optim.SGD(smaller.parameters(), lr=0.01)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(smaller(pictures()), torch.arange(4))
        loss.backward()
        assert all(parameter.grad is not None for parameter in smaller.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    fresh = onnx_mipp.torch.apply(plan, module.eval())
    fresh.load_state_dict(smaller.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(pictures()), smaller.eval()(pictures()))
    # And back to a file, which is as small as the program's.
    again = export(fresh, False, pictures())
    assert len(again) <= 1.02 * len(result.model_bytes)
    session = onnxruntime.InferenceSession(again, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(
        session.run(None, {"x": pictures().numpy()})[0], fresh(pictures()).detach().numpy(), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("other", ["resnet34", "squeezenet1_1", "resnet50"])
def test_another_module_is_refused(other):
    _, model = exported("resnet18", "torchscript")
    wrong = network(other)
    with pytest.raises(onnx_mipp.Error, match="that the ONNX file was exported from"):
        onnx_mipp.torch.apply(prune(model), wrong)


def test_attention_keeps_its_heads():
    torch.manual_seed(0)
    module = randomized(
        torchvision.models.VisionTransformer(
            image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=10
        )
    )
    model = export(module, False, pictures(32))
    heads = prune(model, 32, only="*self_attention*", ratio=0.5, heads="whole")
    with pytest.raises(onnx_mipp.Error, match="MultiheadAttention 'encoder.layers.encoder_layer_0.self_attention'"):
        onnx_mipp.torch.apply(heads, module)
    inner = prune(model, 32, exclude="*self_attention*", ratio=0.3)
    smaller = onnx_mipp.torch.apply(inner, module)
    assert parameters(smaller) < parameters(module)
    assert_alike(smaller, inner, 32)


class Kinds(nn.Module):
    """Layers that torchvision's classifiers do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), nn.PReLU(24), nn.InstanceNorm2d(24, affine=True))
        self.grouped = nn.Sequential(nn.Conv2d(24, 32, 1, bias=False), nn.ReLU(), nn.Conv2d(32, 32, 3, groups=4))
        self.up = nn.Sequential(nn.ConvTranspose2d(32, 16, 2, stride=2), nn.BatchNorm2d(16), nn.ReLU())
        self.scale = nn.Parameter(torch.ones(16, 1, 1))
        self.line = nn.Sequential(nn.Conv1d(16, 20, 3), nn.BatchNorm1d(20), nn.ReLU())
        self.head = nn.Linear(20, 10, bias=False)

    def forward(self, x):
        x = self.up(self.grouped(self.first(x))) * self.scale
        return self.head(self.line(x.mean(3)).mean(2))


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("repair", ["none", "once"])
def test_other_kinds_of_layers(exporter, repair):
    torch.manual_seed(0)
    module = randomized(Kinds())
    model = export(module, EXPORTERS[exporter], pictures(16))
    result = prune(model, 16, ratio=0.5, repair=repair)
    smaller = onnx_mipp.torch.apply(result, module, weights=None if repair == "none" else result)
    assert smaller.up[0].out_channels < 16 and smaller.scale.shape[0] == smaller.up[0].out_channels
    assert smaller.first[1].num_parameters == smaller.first[2].num_features == smaller.first[0].out_channels < 24
    assert_alike(smaller, result, 16)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 32)
        self.place = nn.Parameter(torch.randn(1, 6, 32))
        self.mix = nn.Linear(32, 48)
        self.out = nn.Linear(48, 5)

    def forward(self, ids):
        return self.out(self.mix(self.words(ids) + self.place).relu())


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_embeddings_and_plain_parameters(exporter):
    torch.manual_seed(0)
    module = randomized(Tokens())
    ids = torch.randint(0, 50, (4, 6))
    model = export(module, EXPORTERS[exporter], ids)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = onnx_mipp.prune(model, ids.numpy(), ratio=0.5, repair="none", no_combine=True)
    smaller = onnx_mipp.torch.apply(result, module)
    assert smaller.words.embedding_dim == smaller.place.shape[2] == smaller.mix.in_features == 16
    np.testing.assert_allclose(smaller(ids).detach().numpy(), outputs(result, ids), atol=1e-5)


class Fixed(nn.Module):
    """A forward with a number of channels in it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.second = nn.Conv2d(3, 32, 3), nn.Conv2d(16, 8, 3)

    def forward(self, x):
        x = self.first(x).relu()
        x = x[:, :16] + x[:, 16:] if self.how == "slice" else x.reshape(-1, 2, 16, 14, 14).sum(1)
        return self.second(x).mean((2, 3))


@pytest.mark.parametrize("how", ["slice", "reshape"])
def test_a_forward_with_fixed_widths_is_named(how):
    torch.manual_seed(0)
    module = randomized(Fixed(how))
    result = prune(export(module, False, pictures(16)), 16, ratio=0.5)
    assert result.plan["tensors"]
    with pytest.raises(onnx_mipp.Error, match="forward"):
        onnx_mipp.torch.apply(result, module)


def test_halves_that_are_no_halves_are_refused():
    module, model = exported("shufflenet_v2_x0_5", "torchscript")
    with pytest.raises(onnx_mipp.Error, match="'stage2.1.*forward.*exclude="):
        onnx_mipp.torch.apply(prune(model), module)


def test_what_is_not_run_is_told():
    torch.manual_seed(0)
    module = randomized(network("googlenet", aux_logits=True, init_weights=True))
    result = prune(export(module, False, pictures()))
    with pytest.warns(UserWarning, match="left whole: aux1.conv.conv"):
        smaller = onnx_mipp.torch.apply(result, module)
    assert_alike(smaller, result)


def test_plans_and_inputs_that_do_not_do():
    module, model = exported("resnet18", "torchscript")
    plan = prune(model).plan
    with pytest.raises(onnx_mipp.Error, match="'tensors'.*--plan-out"):
        onnx_mipp.torch.apply({"groups": plan["groups"]}, module)
    with pytest.raises(onnx_mipp.Error, match="'groups'"):
        onnx_mipp.torch.apply({}, module)
    with pytest.raises(onnx_mipp.Error, match="inputs="):
        onnx_mipp.torch.apply(plan, module, torch.zeros(1, 5, 64, 64))
    assert_alike(onnx_mipp.torch.apply(plan, module, {"x": pictures()}), prune(model, plan=plan))
    normed = copy.deepcopy(module)
    torch.nn.utils.parametrizations.weight_norm(normed.layer1[0].conv1)
    with pytest.raises(onnx_mipp.Error, match="'layer1.0.conv1'.*parametrization"):
        onnx_mipp.torch.apply(plan, normed)
