"""Every row of the table for timm, on small networks with random weights."""

from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any

import pytest
import torch
from torch import nn

timm = pytest.importorskip("timm", reason="timm is tested in an environment of its own: make test")

from laws import check

from asserting import refused
from equiform import adapt
from equiform.predictors import known_kinds
from equiform.predictors.timm import ADAPTERS


def made(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False, **options).eval()


def headless() -> nn.Module:
    """Without its last layer, though it still knows a number of classes."""
    model = made("resnet18")()
    model.fc = nn.Identity()
    return model


TRANSFORMER = {"patch_size": 8, "embed_dim": 16, "num_heads": 2, "depth": 4, "dynamic_img_size": True}
SWIN = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4, "img_size": 64, "strict_img_size": False}
TINY = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
CASES: dict[str, tuple[Callable[[], nn.Module], str | None]] = {
    "resnet": (made("resnet18", num_classes=5), "logits"),
    "resnet, pooled": (made("resnet18", num_classes=0), "invariant"),
    "resnet, maps": (made("resnet18", num_classes=0, global_pool=""), "image"),
    "resnet, without its last layer": (headless, "invariant"),
    "resnet, features": (made("resnet18", features_only=True), "image"),
    "convnext": (made("convnext_atto", num_classes=5, **TINY), "logits"),
    "convnext, pooled": (made("convnext_atto", num_classes=0, **TINY), "invariant"),
    "convnext, maps": (made("convnext_atto", num_classes=0, global_pool="", **TINY), "image"),
    "convnext, scores of places": (made("convnext_atto", num_classes=5, global_pool="", **TINY), "image"),
    "mobilenet": (made("mobilenetv3_small_050", num_classes=5), "logits"),
    "mobilenet, features": (made("mobilenetv3_small_050", features_only=True), "image"),
    "vit": (made("vit_tiny_patch16_224", num_classes=5, **TRANSFORMER), "logits"),
    "vit, pooled": (made("vit_tiny_patch16_224", num_classes=0, **TRANSFORMER), "invariant"),
    "vit, features": (made("vit_tiny_patch16_224", features_only=True, **TRANSFORMER), "image"),
    "vit, tokens": (made("vit_tiny_patch16_224", num_classes=0, global_pool="", **TRANSFORMER), None),
    "swin": (made("swin_tiny_patch4_window7_224", num_classes=5, **SWIN), "logits"),
    "swin, features that end with their channels": (made("swin_tiny_patch4_window7_224", features_only=True, **SWIN), None),
    "swin, maps that end in channels": (made("swin_tiny_patch4_window7_224", num_classes=0, global_pool="", **SWIN), None),
}


@pytest.mark.parametrize("name", [name for name, (_, outputs) in CASES.items() if outputs is not None])
def test_known_predictors_are_equivariant_to_the_bit(name):
    make, outputs = CASES[name]
    assert check(make(), torch.rand(4, 3, 40, 64)).outputs.name == outputs


@pytest.mark.parametrize("name", [name for name, (_, outputs) in CASES.items() if outputs is None])
def test_answers_that_nobody_can_tell_are_asked_for(name):
    refused(ValueError, "pass outputs=", lambda: adapt(CASES[name][0](), "C4"))


def test_blocks_are_not_taken_for_classifiers():
    assert known_kinds(made("resnet18")().layer1[0])[1] is None


def test_every_row_of_the_table_has_a_case():
    names = [f"{type(make()).__module__}.{type(make()).__qualname__}" for make, _ in CASES.values()]
    found = {next(adapter.classes for adapter in ADAPTERS if fnmatch(name, adapter.classes)) for name in names}
    assert found == {adapter.classes for adapter in ADAPTERS}
