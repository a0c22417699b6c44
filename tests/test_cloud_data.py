"""Charged particles obey their laws; published HDF5 files are read as they are laid out."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from asserting import refused
from cloud_data import (
    GREATEST_FORCE,
    TIME_STEP,
    charged_particles,
    force,
    read_modelnet40,
    read_shapenet_part,
    simulate_charges,
)


def test_forces_by_hand_and_turned():
    x = torch.tensor([[[0.0, 0, 0], [2, 0, 0], [0, 0.001, 0]]]).double()
    strength = torch.tensor([[[1.0, -1, 0], [-1, 1, 0], [0, 0, 1]]]).double()
    expected = torch.tensor([[0.25, 0, 0], [-0.25, 0, 0], [0, 0, 0]]).double()
    assert torch.allclose(force(x, strength)[0], expected), "unlike charges attract with 1 / r^2, and nothing else acts"
    close = torch.tensor([[[0.0, 0, 0], [0, 0.001, 0]]]).double()
    assert float(force(close, torch.ones(1, 2, 2).double())[0, 1, 1]) == GREATEST_FORCE, "capped; like charges repel"
    # forces on turned particles are turned forces: the task is equivariant.
    from equiform import O3

    x, strength = torch.randn(8, 5, 3).double(), torch.ones(8, 5, 5).double()
    r = O3().nearest(O3().random(8).double())[:, :3, :3]
    assert torch.allclose(force(x @ r.mT, strength), force(x, strength) @ r.mT, atol=1e-9)


def test_momentum_and_energy_are_kept():
    particles, steps = simulate_charges(64, torch.Generator().manual_seed(0), 200, 700), 500
    x, v, charge = particles.x.double(), particles.v.double(), particles.charge.double()
    centre = x.mean(1) + steps * TIME_STEP * v.mean(1)
    astray = (particles.target.double().mean(1) - centre).abs().amax(1)
    # but for the few whose forces were capped, each component by itself
    assert float(astray.quantile(0.8)) < 1e-5, "the centre moves straight on"
    assert float((particles.target.double().mean(1) - x.mean(1)).abs().amax(1).median()) > 0.05, "control"
    assert set(charge.flatten().tolist()) == {-1.0, 1.0}

    def energy(x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        pairs = torch.triu_indices(5, 5, 1)
        apart = (x[:, pairs[0]] - x[:, pairs[1]]).norm(dim=-1)
        return v.square().sum((1, 2)) / 2 + (charge[:, pairs[0]] * charge[:, pairs[1]] / apart).sum(-1)

    # the velocity of the leapfrog is half a step off; near encounters, where the force is capped, lose some
    later = simulate_charges(64, torch.Generator().manual_seed(0), 700, 701)
    before, after = energy(x, v), energy(later.x.double(), later.v.double())
    assert float((after - before).abs().median()) < 0.01
    assert float((energy(later.x.double(), v) - before).abs().median()) > 0.05, "control: positions alone are not enough"


def test_parts_are_kept_and_differ(tmp_path, monkeypatch):
    monkeypatch.setattr("cloud_data.PARTS", {"train": 5, "val": 4, "test": 3})
    monkeypatch.setattr("cloud_data.simulate_charges", lambda b, g: simulate_charges(b, g, 2, 5))
    train, test = charged_particles("train", tmp_path), charged_particles("test", tmp_path)
    assert (train.x.shape, test.target.shape) == ((5, 5, 3), (3, 5, 3))
    assert not torch.equal(train.x[:3], test.x)
    assert not torch.equal(charged_particles("test", tmp_path, seed=1).x, test.x)
    monkeypatch.setattr("cloud_data.simulate_charges", None)
    assert torch.equal(charged_particles("train", tmp_path).x, train.x), "read, not simulated again"
    refused(ValueError, "unknown part 'all'; known: train, val, test", lambda: charged_particles("all", tmp_path))


# ------------------------------------------------------------------------------------------------------ HDF5 files
def h5(path, **columns):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, value in columns.items():
            file.create_dataset(name, data=value.numpy())


def test_modelnet40(tmp_path):
    x = torch.randn(2, 4, 2048, 3)
    for i in range(2):
        labels = torch.tensor([[0], [1], [39], [i]], dtype=torch.uint8)
        h5(tmp_path / f"ply_data_train{i}.h5", data=x[i], label=labels, normal=x[i])
    lines = [f"data/modelnet40_ply_hdf5_2048/ply_data_train{i}.h5" for i in range(2)]
    (tmp_path / "train_files.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "shape_names.txt").write_text("airplane\nbathtub\n")
    shapes = read_modelnet40(tmp_path)
    assert torch.equal(shapes.points, x.flatten(0, 1))
    assert shapes.labels.tolist() == [0, 1, 39, 0, 0, 1, 39, 1]
    assert (shapes.classes, shapes.parts) == (["airplane", "bathtub"], None)
    refused(FileNotFoundError, r"test_files.txt is absent", lambda: read_modelnet40(tmp_path, "test"))
    (tmp_path / "train_files.txt").write_text("data/elsewhere.h5")
    refused(FileNotFoundError, r"elsewhere.h5 is absent, and train_files.txt lists it", lambda: read_modelnet40(tmp_path))


def test_shapenet_part(tmp_path):
    x, parts = torch.randn(3, 2048, 3), torch.randint(50, (3, 2048), dtype=torch.uint8)
    h5(tmp_path / "ply_data_val0.h5", data=x, label=torch.tensor([[0], [15], [3]], dtype=torch.uint8), pid=parts)
    (tmp_path / "val_hdf5_file_list.txt").write_text("ply_data_val0.h5\n")
    (tmp_path / "all_object_categories.txt").write_text("Airplane\t02691156\nBag\t02773838\n")
    shapes = read_shapenet_part(tmp_path, "val")
    assert torch.equal(shapes.points, x)
    assert torch.equal(shapes.parts, parts.long())
    assert (shapes.labels.tolist(), shapes.classes) == ([0, 15, 3], ["Airplane", "Bag"])
    h5(tmp_path / "ply_data_val0.h5", data=x, label=torch.zeros(3, 1))
    refused(ValueError, r"ply_data_val0.h5 has no 'pid'; it has data, label", lambda: read_shapenet_part(tmp_path, "val"))
