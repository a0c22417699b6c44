"""Segment a NIfTI file whichever way its axes lie: the orientation is found in the content, and the header is not believed.

    python recipes/orient_volume.py scan.nii.gz --adapter adapter/ --segmenter mine.py:network --out mask.nii.gz

The adapter is a model fitted on volumes in the orientation that the segmenter knows: `equiform.fit`, then `model.save`. The
segmenter takes a float32 tensor (1, 1, d, h, w) and answers with labels (1, d, h, w) or scores (1, k, d, h, w); a second
parameter called `spacing` is given the size of a voxel along x, y, z. Axes i, j, k of the file are x, y, z here: w, h, d. The
mask comes back in the file's own frame, with its affine.
"""

import argparse
import gzip
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import equiform
from equiform import Equivariant, adapt
from equiform._files import write
from equiform._optional import optional
from equiform.batching.calls import parameter_names
from equiform.canonicalizers import Pose, VolumeCanonicalizer
from equiform.predictors.references import load_reference

TILT = 0.1  # degrees that an axis may be off before the affine counts as oblique


def read(path: Path, oblique: bool = False) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """The image of nibabel, its volume (1, 1, d, h, w) in float32, and its spacing (1, 3).

    Raises ValueError for a file that is no single volume of real numbers, and for an oblique affine unless `oblique`.
    """
    image = optional("nibabel", "volumes").load(path)
    if np.dtype(image.get_data_dtype()).kind not in "biuf":
        raise ValueError(f"{path}: voxels are real numbers; got {image.get_data_dtype()}: write one channel, or the magnitude")
    if len(image.shape) != 3 or 0 in image.shape:
        raise ValueError(
            f"{path}: one volume of three axes is expected; got the shape {image.shape}: write one of "
            "its volumes, image.slicer[..., 0]"
        )
    sizes = np.linalg.norm(image.affine[:3, :3], axis=0)  # the zooms of a header may say otherwise
    if not np.isfinite(image.affine).all() or not sizes.all():
        raise ValueError(
            f"{path}: the affine has an axis without a direction; got {image.affine[:3, :3].tolist()}: mend the header"
        )
    if not oblique and (tilt := tilt_of(image.affine)) > TILT:
        raise ValueError(
            f"{path}: the affine is oblique, its axes are {tilt:.1f} degrees off those of the scanner; a signed permutation "
            "times the spacing is expected: resample it (nibabel.processing.resample_to_output), or take it as it lies with "
            "--oblique"
        )
    data = torch.from_numpy(np.asarray(image.dataobj, dtype=np.float32).transpose(2, 1, 0).copy())
    return image, data[None, None], torch.from_numpy(sizes)[None].float()


def tilt_of(affine: np.ndarray) -> float:
    """The angle in degrees by which the axes of a file are off the nearest ones of the scanner, at most."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.degrees(np.arccos(np.clip(np.abs(axes).max(0), 0, 1))).max())


def oriented(segmenter: Callable[..., Any], adapter: str | Path) -> Equivariant:
    """The segmenter with the canonicalizer of an adapter folder. Raises ValueError for an adapter of something else."""
    known, _ = equiform.saving.restore(adapter, segmenter, None)
    if not isinstance(known, VolumeCanonicalizer):
        raise ValueError(f"{adapter} is an adapter of {known.name!r}; one of volumes is expected: adapt(..., inputs='volume')")
    names = parameter_names(segmenter, ())
    inputs = {names[0]: "volume"} | ({"spacing": "spacing"} if "spacing" in names[1:] else {})
    return adapt(segmenter, known.group, inputs=inputs, outputs="volume_mask", canonicalizer=known)


def segmented(model: Equivariant, volume: torch.Tensor, spacing: torch.Tensor) -> tuple[np.ndarray, Pose]:
    """Labels in the axes of the file, and the pose. Raises ValueError for an answer that is no map of the volume."""
    with torch.no_grad():
        output, pose = model.predict(volume, spacing) if len(model.inputs) > 1 else model.predict(volume)
    output = torch.as_tensor(output)
    scores = output.dtype.is_floating_point and output.ndim == 5
    if (scores and output.shape[1] == 1) or (output.dtype.is_floating_point and not scores and bool((output % 1 != 0).any())):
        came = f"{tuple(output.shape)} of {output.dtype}"
        raise ValueError(f"scores of one class are no labels; got {came}: answer with (scores > threshold).long()")
    labels = (output.argmax(1) if scores else output).flatten(0, -4)
    if labels.shape != volume.shape[1:]:
        expected = f"labels (1, d, h, w) or scores (1, k, d, h, w) of {tuple(volume.shape[2:])}"
        raise ValueError(f"{expected} are expected of the segmenter; got {tuple(output.shape)}")
    found = labels[0].numpy().transpose(2, 1, 0)
    small = found.size == 0 or (found.min() >= 0 and found.max() <= 255)
    return found.astype(np.uint8 if small else np.int32), pose  # atlases have labels above 255


def content_codes(pose: Pose, canonical: str) -> str:
    """Which way axes i, j, k of the file point in the body, such as LPS; those of upright volumes point to `canonical`."""
    opposite = dict(zip("RLAPSI", "LRPAIS", strict=True))
    codes = []
    for row in pose.g[0, :3, :3].round().long().tolist():  # row: axis i of the file is this axis of the upright volume
        axis = [abs(n) for n in row].index(1)
        codes.append(canonical[axis] if row[axis] > 0 else opposite[canonical[axis]])
    return "".join(codes)


def mask_image(mask: np.ndarray, image: Any) -> Any:
    """The mask as a NIfTI image in the frame of another, with the codes and units of its header."""
    of_mask = optional("nibabel", "volumes").Nifti1Image(mask, image.affine, image.header)
    of_mask.set_data_dtype(mask.dtype)
    of_mask.header.set_slope_inter(1, 0)
    of_mask.header["cal_min"] = of_mask.header["cal_max"] = 0  # the window that the scan is shown in
    return of_mask


def says(image: Any) -> str:
    """What a header says about its axes, such as RAS; empty where a NIfTI file says that it does not know."""
    unknown = "sform_code" in image.header and not (image.header["sform_code"] or image.header["qform_code"])
    return "" if unknown else "".join(optional("nibabel", "volumes").aff2axcodes(image.affine))


def axes(text: str) -> str:
    """Three letters, one of R and L, one of A and P, one of S and I."""
    if sorted(text.translate(str.maketrans("LPI", "RAS"))) != ["A", "R", "S"]:
        raise argparse.ArgumentTypeError(f"three axes such as RAS or LPS are expected; got {text!r}")
    return text


def out_file(text: str) -> Path:
    """A path that a NIfTI file can be written to."""
    path = Path(text)
    if not path.name.endswith((".nii", ".nii.gz")) or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"a file .nii or .nii.gz in a folder that exists is expected; got {text!r}")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--adapter", type=Path, required=True, help="folder that Equivariant.save wrote")
    parser.add_argument("--segmenter", required=True, help="FILE.py:FUNCTION, which returns the segmenter")
    parser.add_argument("--out", type=out_file, required=True, help="NIfTI file of the mask")
    parser.add_argument(
        "--canonical", type=axes, default="RAS", help="where x, y, z of the adapter's upright volumes point (RAS)"
    )
    parser.add_argument("--oblique", action="store_true", help="take an oblique file as its voxels lie")
    args = parser.parse_args()
    nibabel = optional("nibabel", "volumes")
    unreadable = (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError, EOFError, zlib.error)
    try:
        image, volume, spacing = read(args.file, args.oblique)
        mask, pose = segmented(oriented(load_reference(args.segmenter), args.adapter), volume, spacing)
    except unreadable as error:
        sys.exit(f"{args.file}: {' '.join(str(error).split())}")
    except (ValueError, OSError, TypeError, ModuleNotFoundError) as error:
        sys.exit(f"{' '.join(str(error).split())}")
    data = mask_image(mask, image).to_bytes()
    write(args.out, gzip.compress(data) if args.out.suffix == ".gz" else data)
    said, found = says(image), content_codes(pose, args.canonical)
    agree = "as the header says" if said == found else f"the header says {said or 'nothing'}"
    print(f"{args.file}: {found}, {agree} (confidence {float(pose.confidence[0]):.2f}); mask in {args.out}")


if __name__ == "__main__":
    main()
