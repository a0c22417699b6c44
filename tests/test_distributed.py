"""Fitting in two processes: the data is shared out, every process ends with one and the same canonicalizer."""

import json

import pytest

from asserting import ran

SCRIPT = """
import hashlib, json, os, sys
import torch
from torch.utils.data import Dataset
from equiform import OrbitCanonicalizer, adapt, fit

class Images(Dataset):
    def __init__(self):
        self.images = torch.rand(20, 3, 24, 24, generator=torch.Generator().manual_seed(0))
        self.images[:, :, :12] += 1
        self.seen = []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        self.seen.append(i)
        return self.images[i]

def predictor(x):
    raise AssertionError("the predictor must not run")

def main(strategy):
    torch.manual_seed(0)
    model = adapt(predictor, "C4", outputs="logits", canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    data = Images()
    result = {"seen": data.seen, "before": digest(model.canonicalizer)}
    result["history"] = fit(
        model, data, epochs=2, batch_size=5, seed=1, accelerator="cpu", devices=2, strategy=strategy
    ).history
    result["after"] = digest(model.canonicalizer)
    print(json.dumps(result) + "\\n", end="", flush=True)

def digest(module):
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in module.state_dict().values())).hexdigest()

if __name__ == "__main__":
    main(sys.argv[1])
"""


@pytest.mark.slow
def test_two_processes_agree(tmp_path):
    """By a script that is started twice (ddp), and by processes that are spawned and whose work must come back (ddp_spawn)."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    both = (ran("-W", "ignore", script, strategy) for strategy in ("ddp", "ddp_spawn"))
    (first, second), (spawned,) = ([json.loads(line) for line in out.splitlines() if line.startswith("{")] for out in both)
    assert first["after"] == second["after"] == spawned["after"]
    assert spawned["after"] != spawned["before"] == first["before"]
    assert first["history"] == second["history"] == spawned["history"]
    assert [epoch["epoch"] for epoch in spawned["history"]] == [1, 2]
    for one, other in ((first["seen"][:10], second["seen"][:10]), (first["seen"][10:], second["seen"][10:])):
        assert sorted(one + other) == list(range(20)), "each epoch shares all images out"
    assert set(first["seen"][:10]) != set(first["seen"][10:]), "differently in each epoch"
