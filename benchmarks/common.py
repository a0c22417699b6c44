"""What the benchmark scripts share: where the data is, how it is read, and how figures are kept."""

import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from equiform import act
from equiform.batching.chosen import choose
from equiform.canonicalizers.poses import Pose
from equiform.geometry import Kind, inverse
from equiform.geometry.nested import first_logits
from equiform.images.files import Normalisation, find_images, normalised, open_image, read_labels, to_tensor
from equiform.predictors.efficientnet_lite import LITE0
from equiform.predictors.references import load_reference, normalisation

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("EQUIFORM_DATA", HERE.parent.parent / "shared"))
RESULTS = HERE / "results"
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
# the folders of Imagenette and their ImageNet classes
IMAGENETTE = {"n01440764": 0, "n02102040": 217, "n02979186": 482, "n03000684": 491, "n03028079": 497}
IMAGENETTE |= {"n03394916": 566, "n03417042": 569, "n03425413": 571, "n03445777": 574, "n03888257": 701}
DATA_HELP = "FILE.npz (train_images, test_images: uint8 (n, h, w, 3); ..._labels), or a folder with train/CLASS/, test/CLASS/"
LABELS_HELP = "JSON: name of a subfolder -> class index; without it Imagenette's names are known, others count alphabetically"

# allocators that give memory back at every step make networks up to three times slower, and not all of them alike
MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


def keep_memory(**environment: str) -> None:
    """Start the script again with an allocator that keeps its memory, unless it has one: times are then of computing alone."""
    if any(os.environ.get(name) != value for name, value in MEMORY.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MEMORY | environment)


def shared(name: str) -> Path:
    """A path of the data beside the project; leaves with one line where it is absent."""
    path = DATA / name
    if not path.exists():
        sys.exit(f"{path} is absent: name your own data and predictor (see --help), or set EQUIFORM_DATA")
    return path


class Normalised(nn.Module):
    """Logits of RGB in [0, 1], by a classifier that wants them less a mean and over a deviation."""

    def __init__(self, classifier: nn.Module, wanted: Normalisation):
        super().__init__()
        self.classifier, self.wanted = classifier, wanted

    def forward(self, x: Tensor) -> Tensor:
        logits = first_logits(self.classifier(normalised(x, self.wanted)))
        if logits is None:
            raise TypeError(f"{type(self.classifier).__name__} gives no logits")
        return logits


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, for RGB in [0, 1], from the package index."""
    return predictor(LITE0).eval()


def predictor(reference: str) -> Any:
    """A predictor of RGB in [0, 1] by reference; a bare name is EfficientNet-Lite0's, or a network's beside the project."""
    if ":" in reference or reference == LITE0:
        loaded = load_reference(reference)
        wanted = normalisation(reference, loaded)
        return loaded if wanted is None else Normalised(loaded, wanted)
    shared("predictors")
    if str(DATA) not in sys.path:
        sys.path.insert(0, str(DATA))
    import predictors

    return predictors.load(reference).to(memory_format=torch.channels_last)


def answered(predictor: Any, x: Tensor, pose: Pose, kind: Kind, coverage: float | None = None) -> Tensor:
    """Class probabilities (b, classes) of images brought back by poses that are known already: what `Equivariant` answers.

    `kind` says how they are brought back. Many classifiers and settings then share what one canonicalizer costs.
    """
    chosen = choose(pose.scores, coverage=coverage)
    g = pose.candidates[chosen.row, chosen.index]
    shares = predictor(act(inverse(g), x[chosen.row], kind)).softmax(1) * chosen.weight[:, None].to(x)
    return torch.zeros(len(x), shares.shape[1]).index_add_(0, chosen.row, shares)


def photos(folder: Path, size: int | None = None, limit: int | None = None) -> tuple[Tensor, list[str]]:
    """The photos below a folder, or `limit` of them, as uint8 (n, 3, h, w), and the name of the subfolder of each."""
    from PIL.Image import Resampling

    images, names = [], []
    paths = find_images(folder)
    num = min(limit or len(paths), len(paths))
    for path in (paths[i * len(paths) // num] for i in range(num)):
        image = open_image(path)
        if size is not None and image.size != (size, size):
            image = image.resize((size, size), Resampling.BICUBIC)
        images.append(to_tensor(image))
        names.append(path.parent.name)
    return torch.stack(images), names


def class_indices(folders: list[str], labels: Path | None) -> Tensor:
    """The class index of each photo, from the name of its subfolder."""
    names = sorted(set(folders))
    if labels is not None:
        index = read_labels(labels, names)
    elif all(name in IMAGENETTE for name in names):
        index = IMAGENETTE
    else:
        index = {name: i for i, name in enumerate(names)}
    return torch.tensor([index[name] for name in folders])


def arrays(source: Path, size: int, labels: Path | None = None) -> dict[str, np.ndarray]:
    """ARRAYS of an .npz (images uint8 (n, h, w, 3)), or of a folder with train/CLASS/ and test/CLASS/ (or val/CLASS/)."""
    if source.is_dir():
        test = next((source / name for name in ("test", "val") if (source / name).is_dir()), None)
        if test is None or not (source / "train").is_dir():
            sys.exit(f"{source} should hold train/ and test/ (or val/), with a subfolder for each class")
        found: dict[str, np.ndarray] = {}
        for part, folder in (("train", source / "train"), ("test", test)):
            images, folders = photos(folder, size)
            found[f"{part}_images"] = images.permute(0, 2, 3, 1).numpy()
            found[f"{part}_labels"] = class_indices(folders, labels).numpy()
        return found
    if not source.is_file():
        sys.exit(f"no file or folder {source}")
    with np.load(source) as file:
        if missing := [name for name in ARRAYS if name not in file]:
            sys.exit(f"{source} has no {', '.join(missing)}")
        return {name: file[name] for name in ARRAYS}


class Photos(torch.utils.data.Dataset):
    """Labelled photos in [0, 1], converted one by one: a data set of floats would not fit everywhere."""

    def __init__(self, images: Tensor, labels: Tensor):
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.images[i].float() / 255, self.labels[i]


class PhotoFiles(torch.utils.data.Dataset):
    """Photos in [0, 1] with what `target` reads of the other half of each pair, one by one."""

    def __init__(self, pairs: list[tuple[Path, Any]], target: Callable[[Any], Any]):
        self.pairs, self.target = pairs, target

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> tuple[Tensor, Any]:
        photo, described = self.pairs[i]
        return to_tensor(open_image(photo)).float() / 255, self.target(described)


def images_below(folder: Path) -> dict[str, Path]:
    """The files of a labelled set by their names without endings."""
    return {path.stem: path for path in (folder / "images").rglob("*")}


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "processor": platform.machine()}


def results(name: str, out: Path | None) -> Path:
    """Where figures go."""
    path = out or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def keep(name: str, figures: dict[str, Any], out: Path | None) -> Path:
    """Write figures as JSON, whole or not at all."""
    from equiform._files import write

    path = results(name, out)
    write(path, (json.dumps({"machine": machine(), **figures}, indent=1, ensure_ascii=False) + "\n").encode())
    return path
