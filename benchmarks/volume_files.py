"""Real volumes that packages ship: equal to the bit, and the orientation found by an adapter of another data set.

The files are those of nibabel's tests (brains, whole and in part, of several contrasts and resolutions). The adapter is fitted
on templates alone, such as the MNI152 maps in nilearn's wheel (T1, grey and white matter): three volumes, not a cohort. Others
are downloads (scikit-image's cells3d), or are none (SciPy and scikit-learn have no volumes).
"""

import argparse
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from torch import Tensor

import common
from equiform import Equivariant, adapt, fit
from equiform.canonicalizers import VolumeCanonicalizer
from equiform.learning import VolumeAugmentation
from volumes import KINDS, Everything, count

SHIPPED = Path(nibabel.__file__).parent / "tests" / "data"
BRAINS = ("small.mnc", "scaled+tlrc.HEAD", "example4d.nii.gz", "anatomical.nii", "reoriented_anat_moved.nii")
OTHERS = ("phantom_EPI_asc_CLEAR_2_1.PAR", "functional.nii")
COPIES = 16  # of each template in an epoch, each augmented on its own
WIDE = VolumeAugmentation(length=(0.5, 1.0), degrees=8.0)


def upright(path: Path) -> Tensor:
    """The first volume of a file, (1, 1, d, h, w) in its own dtype, its axes turned to R, A, S as the header tells."""
    image: Any = nibabel.as_closest_canonical(nibabel.load(path))
    array = np.asarray(image.dataobj)
    array = array[..., 0] if array.ndim == 4 else array
    array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(array.transpose(2, 1, 0).copy())[None, None]


class Scaled(Everything):
    """The same network on numbers of any range."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return super().forward(x.float() / 1000)


def exactness() -> dict[str, Any]:
    """Per file the leaves equal to the bit over the 24 rotations, and all of them; of the bare network too.

    Not over the 48 symmetries: small.mnc is its own mirror image, two of whose poses are equally likely.
    """
    found: dict[str, Any] = {}
    for name in (*BRAINS, *OTHERS):
        torch.manual_seed(0)
        x, predictor, canonicalizer = upright(SHIPPED / name), Scaled().eval(), VolumeCanonicalizer("O", resolution=12).eval()
        canonicalizer.fitted = True  # random weights are as exact
        adapted = adapt(predictor, "O", inputs="volume", outputs=KINDS, canonicalizer=canonicalizer)
        found[name] = {"shape": list(x.shape[2:]), "dtype": str(x.dtype), "bare": count(predictor, x, "O")}
        found[name] |= {"adapted": count(adapted, x, "O")}
        print(name, found[name], flush=True)
    return found


def of_templates(paths: list[Path], epochs: int) -> Equivariant:
    """A model of the 24 rotations whose canonicalizer was fitted on templates alone."""
    torch.manual_seed(0)
    model = adapt(lambda x: x, "O", inputs="volume", outputs="volume", canonicalizer=VolumeCanonicalizer("O"))
    volumes = [upright(path)[0].float() for path in paths] * COPIES
    fit(model, volumes, epochs=epochs, lr=2e-3, batch_size=8, augmentation=WIDE, enable_progress_bar=False)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, nargs="*", default=[], help="NIfTI files that the adapter is fitted on")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    if args.templates:
        model = of_templates(args.templates, args.epochs)
        figures |= {"templates": [path.name for path in args.templates], "copies": COPIES, "epochs": args.epochs, "found": {}}
        for name in BRAINS:
            with torch.no_grad():
                pose = model.pose(upright(SHIPPED / name).float())
            right = model.group.label(pose.g[0]) == "0°"
            figures["found"][name] = {
                "right": right,
                "pose": model.group.label(pose.g[0]),
                "confidence": float(pose.confidence[0]),
            }
            print(name, figures["found"][name], flush=True)
    with torch.no_grad():
        figures["equal_of_total"] = exactness()
    print("figures in", common.keep("volume_files", figures, args.out))


if __name__ == "__main__":
    main()
