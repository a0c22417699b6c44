"""Data sets of clouds: charged particles, simulated here; ModelNet40 and ShapeNet-Part, read from their HDF5 files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from equiform._files import write
from equiform._optional import optional

PARTS = {"train": 3000, "val": 2000, "test": 2000}
NUM_PARTICLES = 5
TIME_STEP, START, END = 0.001, 3000, 4000  # the task: from the state after 3,000 steps to the positions 1,000 later
GREATEST_FORCE = 0.1 / TIME_STEP


class Particles(NamedTuple):
    """Charged particles: where they are and how fast, their charges of -1 or 1, and where they are later."""

    x: Float[Tensor, "b n 3"]
    v: Float[Tensor, "b n 3"]
    charge: Float[Tensor, "b n"]
    target: Float[Tensor, "b n 3"]


def simulate_charges(b: int, generator: torch.Generator, start: int = START, end: int = END) -> Particles:
    """b systems of five particles that attract and repel each other by Coulomb's law, free in space; float32.

    The protocol of Satorras et al. 2021, arXiv 2102.09844, sec. 5.1, after Kipf et al. 2018, arXiv 1802.04687: normal
    positions, velocities of length 0.5, unit masses, force components capped at 100, leapfrog steps of 0.001.
    The published code keeps every 100th step but writes step 100 over frame 0, so that its frames 30 and 40 are the steps
    3,100 and 4,100; here they are 3,000 and 4,000, as many steps apart.
    """
    x = torch.randn(b, NUM_PARTICLES, 3, dtype=torch.float64, generator=generator)
    v = torch.randn(b, NUM_PARTICLES, 3, dtype=torch.float64, generator=generator)
    v = 0.5 * v / v.norm(dim=-1, keepdim=True)
    charge = torch.randint(2, (b, NUM_PARTICLES), generator=generator).double() * 2 - 1
    strength = charge[:, :, None] * charge[:, None]
    first = x, v
    for step in range(end):
        if step == start:
            first = x, v
        v = v + TIME_STEP * force(x, strength)
        x = x + TIME_STEP * v
    return Particles(first[0].float(), first[1].float(), charge.float(), x.float())


def force(x: Float[Tensor, "b n 3"], strength: Float[Tensor, "b n n"]) -> Float[Tensor, "b n 3"]:
    """What acts on every particle: the sum over the others of strength r / |r|^3, each component capped."""
    apart = x[:, :, None] - x[:, None]
    squared = apart.square().sum(-1) + torch.eye(x.shape[1], dtype=x.dtype)  # nothing acts on itself
    pull = (strength * squared**-1.5)[:, :, None] @ apart
    return pull[:, :, 0].clamp(-GREATEST_FORCE, GREATEST_FORCE)


def charged_particles(part: str, folder: str | Path, *, seed: int = 0) -> Particles:
    """The "train" (3,000), "val" (2,000) or "test" (2,000) systems of a seed, from a file in the folder or simulated into it.

    Raises ValueError for another part.
    """
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}; known: {', '.join(PARTS)}")
    path = Path(folder) / f"charged-v0.5-{part}-{seed}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(1000 * seed + list(PARTS).index(part))
        made = simulate_charges(PARTS[part], generator)
        write(path, safetensors.torch.save(made._asdict()))
    return Particles(**safetensors.torch.load_file(path))


# ------------------------------------------------------------------------------------------------- published HDF5 files


class Shapes(NamedTuple):
    """Labelled clouds, and per point the part it belongs to (of ShapeNet-Part)."""

    points: Float[Tensor, "b n 3"]
    labels: Tensor
    classes: list[str]
    parts: Tensor | None = None


def read_modelnet40(folder: str | Path, part: str = "train") -> Shapes:
    """ModelNet40 as in modelnet40_ply_hdf5_2048.zip (Qi et al. 2017): PART_files.txt, the files it lists, shape_names.txt."""
    folder = Path(folder)
    data, labels = _read(folder, f"{part}_files.txt", ("data", "label"))
    return Shapes(data, labels.long().flatten(), _lines(folder / "shape_names.txt"))


def read_shapenet_part(folder: str | Path, part: str = "train") -> Shapes:
    """ShapeNet-Part as in shapenet_part_seg_hdf5_data.zip: PART_hdf5_file_list.txt, its files, all_object_categories.txt."""
    folder = Path(folder)
    data, labels, parts = _read(folder, f"{part}_hdf5_file_list.txt", ("data", "label", "pid"))
    classes = [line.split()[0] for line in _lines(folder / "all_object_categories.txt")]
    return Shapes(data, labels.long().flatten(), classes, parts.long())


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is absent: the folder is not the published one")
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _read(folder: Path, listing: str, names: Sequence[str]) -> list[Tensor]:
    h5py: Any = optional("h5py", "clouds")
    columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for line in _lines(folder / listing):
        path = folder / Path(line).name  # the lists name the folder of their makers
        if not path.is_file():
            raise FileNotFoundError(f"{path} is absent, and {listing} lists it")
        with h5py.File(path, "r") as file:
            for name in names:
                if name not in file:
                    raise ValueError(f"{path} has no {name!r}; it has {', '.join(file)}")
                columns[name].append(np.asarray(file[name]))
    return [torch.from_numpy(np.concatenate(columns[name])) for name in names]
