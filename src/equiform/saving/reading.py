"""A save as it lies in a folder or a repository, read and checked; nothing is built of it here."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from .. import ready
from .._checks import reason
from .._files import is_folder

FORMAT, FORMAT_VERSION = "equiform", 2
CONFIG, WEIGHTS = "config.json", "model.safetensors"
CHECKSUM = "sha256"
OPINION = "opinion.weight"
KINDS, NUMBERS = ("inputs", "outputs"), ("top_k", "coverage")  # settings of the wrapper, beside the prior and the opinion
MAX_CONFIG, MAX_HEADER = 1 << 20, 1 << 24  # bytes; real ones have a thousand, and a hundred for each tensor
FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
DTYPES = FLOATS | {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}
DTYPES |= {"BOOL": torch.bool}


class Saved(NamedTuple):
    """A save of which only the header was read: the config, and the type and shape of every tensor.

    The file stays open, since another save may replace it.
    """

    path: Path
    file: BinaryIO
    size: int  # in bytes, as the header has it
    config: dict[str, Any]
    text: str
    checksum: str
    tensors: dict[str, tuple[str, tuple[int, ...]]]

    def weights(self) -> dict[str, Tensor]:
        """The tensors. Raises ValueError where they, or the config, are not those that were saved."""
        self.file.seek(0)
        data = self.file.read(self.size + 1)
        try:
            weights = safetensors.torch.load(data)
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{self.path} is damaged: {reason(error)}") from None
        if checksum_of(self.text, data) != self.checksum:
            raise ValueError(f"{self.path} is damaged: its checksum is another")
        check_numbers(weights, str(self.path))
        return weights


def read(path_or_repo: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the weights of a save, checked. Raises FileNotFoundError or ValueError naming what is wrong.

    The name of a ready-made adapter comes first, whatever folder one happens to be in; a folder of that name is a `Path`, or
    begins with "./".
    """
    with opened(path_or_repo) as saved:
        return saved.config, saved.weights()


def fingerprint(path_or_repo: str | Path) -> str:
    """The checksum of a save, by which another one of the same name is known."""
    with opened(path_or_repo) as saved:
        return saved.checksum


@contextlib.contextmanager
def opened(path_or_repo: str | Path) -> Iterator[Saved]:
    if not isinstance(path_or_repo, (str, os.PathLike)):
        known = "a folder, the name of a repository (owner/name) or of a ready-made adapter, such as photos-c4"
        raise TypeError(f"what was saved has a name: {known}; got {path_or_repo!r}")
    known = ready.meant(path_or_repo)
    folder = Path(path_or_repo) if known is None else ready.FOLDER / known
    if not is_folder(folder):
        folder = _download(str(path_or_repo))
    path = folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no saved canonicalizer: it has no {WEIGHTS}")
    with path.open("rb") as file:
        saved = _head(path, file)
        _check_copy(folder / CONFIG)
        yield saved


def header_of(path: Path, file: BinaryIO) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """The header of a safetensors file: its size, which is bounded, what it says of tensors, and its metadata."""
    size = int.from_bytes(file.read(8), "little")
    if size > MAX_HEADER:
        raise ValueError(f"{path} is damaged: its header has {size} bytes, more than {MAX_HEADER}")
    header = json_of(path, file.read(size))
    metadata = header.pop("__metadata__", None)
    return size, header, metadata if isinstance(metadata, dict) else {}


def _head(path: Path, file: BinaryIO) -> Saved:
    size, header, metadata = header_of(path, file)
    if FORMAT not in metadata:
        early = "a release before format 2 saved it" if (path.parent / CONFIG).is_file() else "equiform did not write it"
        raise ValueError(f"{path} holds no config: {early}; save it anew with this release")
    try:
        tensors = {name: (str(entry["dtype"]), tuple(int(n) for n in entry["shape"])) for name, entry in header.items()}
        end = 8 + size + max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (KeyError, TypeError, ValueError, IndexError):
        raise ValueError(f"{path} is damaged: its header does not describe tensors") from None
    text = str(metadata[FORMAT])
    if len(text) > MAX_CONFIG:
        raise ValueError(f"{path} is damaged: its config has {len(text)} characters, more than {MAX_CONFIG}")
    config = json_of(path, text.encode())
    version = config.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise ValueError(f"{path} has format version {version!r}, this release reads {FORMAT_VERSION}: upgrade equiform")
    return Saved(path, file, max(end, 0), config, text, str(metadata.get(CHECKSUM)), tensors)


def json_of(path: Path, data: bytes) -> dict[str, Any]:
    """A JSON object of bounded size. Raises ValueError."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    try:
        value = json.loads(data.decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {reason(error)}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: it holds a {type(value).__name__} where an object is expected")
    return value


def _check_copy(path: Path) -> None:
    """Raise ValueError where config.json was edited. A whole one of an earlier save passes: a save may be interrupted."""
    if not path.is_file():
        return
    too_large = path.stat().st_size > MAX_CONFIG
    copy = {} if too_large else json_of(path, path.read_bytes())
    checksum = copy.pop(CHECKSUM, None)
    if too_large or checksum != hashlib.sha256(text_of(copy).encode()).hexdigest():
        raise ValueError(f"{path} was edited, and is only a copy of the config in {WEIGHTS}: delete it, or save again")


def _download(repo: str) -> Path:
    name = repo if len(repo) <= 200 else f"{repo[:200]}... ({len(repo)} characters)"
    name = name if name.isprintable() else repr(name)
    if repo.count("/") != 1 or repo.startswith((".", "/", "~")):
        raise FileNotFoundError(
            f"no folder {name}, and not the name of a repository (owner/name) or of a ready-made adapter "
            f"({', '.join(ready.names())})"
        )
    import huggingface_hub as hub

    try:
        return Path(hub.snapshot_download(repo, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:
        raise FileNotFoundError(f"no folder {name}, and the Hub has not given it: {reason(error)[:300]}") from error


def text_of(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=2, allow_nan=False)


def checksum_of(text: str, data: bytes) -> str:
    """The checksum of the config, the names, shapes and types of the tensors, and their numbers."""
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {name: entry for name, entry in json.loads(data[8:start]).items() if name != "__metadata__"}
    checksum = hashlib.sha256(json.dumps([text, tensors], sort_keys=True).encode())
    checksum.update(memoryview(data)[start:])
    return checksum.hexdigest()


def check_numbers(weights: Mapping[str, Tensor], what: str) -> None:
    for name, tensor in weights.items():
        if tensor.dtype not in DTYPES.values():
            raise ValueError(f"{what}: the tensor {name!r} is of {tensor.dtype}; weights are real numbers")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{what}: the tensor {name!r} holds values that are no finite numbers")
