"""The data path of one square canvas is tensors alone: it is exported and compiled whole, with the same answers to the bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import equiform
from equiform import OrbitCanonicalizer


class Features(nn.Module):
    """A map, or its mean, of what is no sum of pixels."""

    def __init__(self, pooled: bool):
        super().__init__()
        self.conv, self.pooled = nn.Conv2d(3, 5, 3, padding=1), pooled

    def forward(self, x):
        y = self.conv(x)
        return y.mean((2, 3)) if self.pooled else y


@pytest.fixture(params=[("C4", "logits"), ("D4", "image"), ("C2", "image")], ids="-".join)
def model(request, unchecked):
    name, outputs = request.param
    canonicalizer = OrbitCanonicalizer(name, resolution=16)
    return equiform.adapt(
        Features(outputs == "logits").eval(), name, inputs="image", outputs=outputs, canonicalizer=canonicalizer
    ).eval()


@torch.no_grad()
def test_it_is_exported(model):
    x = torch.rand(4, 3, 24, 24)
    exported = torch.export.export(model, (x,), strict=False).module()
    turned = equiform.act(equiform.group("C4").elements, x)  # poses that the example had not
    assert torch.equal(exported(x), model(x))
    assert torch.equal(exported(turned), model(turned))


PROGRAM = """
import torch, equiform
from equiform import OrbitCanonicalizer
from equiform.canonicalizers.ring import RingCanonicalizer

class Map(torch.nn.Conv2d):
    pass

with torch.no_grad():
    for name in ("C4", "D4", "C8", "SO2"):
        canonicalizer = RingCanonicalizer(name, resolution=32) if name == "SO2" else OrbitCanonicalizer(name, resolution=16)
        canonicalizer.fitted = True
        predictor = Map(3, 5, 3, padding=1).eval()
        model = equiform.adapt(predictor, name, inputs="image", outputs="image", canonicalizer=canonicalizer)
        compiled = torch.compile(model.eval(), fullgraph=True, backend="eager", dynamic=True)
        for b in (4, 7):
            x = equiform.act(equiform.group("C4").random(b), torch.rand(b, 3, 24, 24))
            print(name, bool((compiled(x) - model(x)).abs().max() < 1e-4))
"""


@pytest.mark.slow
def test_it_is_compiled_without_a_break():
    """In an interpreter of its own: the checks of shapes in the tests are no part of the graph."""
    source = str(Path(equiform.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": source}, check=False
    )
    expected = [word for name in ("C4", "D4", "C8", "SO2") for word in 2 * (name, "True")]
    assert done.stdout.split() == expected, done.stderr[-2000:]
