"""Keeping a canonicalizer: model.safetensors and config.json in a folder, or a repository on the Hugging Face Hub.

model.safetensors holds everything, the config and one checksum of all of it as well, and is replaced by one rename: what is
loaded is always one save, whole. config.json is a copy of the config to read. Nothing is ever unpickled, and nothing is
allocated before the names, shapes and types of the tensors are those of the canonicalizer that the config describes.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from . import ready
from ._checks import reason
from ._files import is_folder, write
from .canonicalizers.base import Canonicalizer
from .canonicalizers.table import CANONICALIZERS
from .geometry import kinds
from .second_opinion import Opinion

FORMAT, FORMAT_VERSION = "equiform", 2
CONFIG, WEIGHTS = "config.json", "model.safetensors"
CHECKSUM = "sha256"
OPINION = "opinion.weight"
KINDS, NUMBERS = ("inputs", "outputs"), ("top_k", "coverage")  # settings of the wrapper, beside the prior and the opinion
MAX_CONFIG, MAX_HEADER = 1 << 20, 1 << 24  # bytes; real ones have a thousand, and a hundred for each tensor
FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
DTYPES = FLOATS | {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}
DTYPES |= {"BOOL": torch.bool}


# ------------------------------------------------------------------------------------------------------------- writing


def save(
    folder: str | Path, canonicalizer: Canonicalizer, settings: Mapping[str, Any], card: Mapping[str, Any] | None = None
) -> None:
    """Write a canonicalizer and the settings of its wrapper: inputs, outputs, top_k, coverage, prior and opinion.

    `card`: a model card in plain JSON values: data, licences, figures, limits; else that of the canonicalizer.

    Raises ValueError for what could not be loaded: a class that is not in the table, weights that are not finite;
    FileExistsError where files of the same names are not of a save.
    """
    config = {"format": FORMAT, "format_version": FORMAT_VERSION, **_described(canonicalizer)}
    config |= {name: kinds.to_json(settings[name]) for name in KINDS} | {name: settings[name] for name in NUMBERS}
    config["prior"] = settings.get("prior")
    # cloned, since safetensors refuses weights that share memory
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in canonicalizer.state_dict().items()}
    if settings.get("opinion") is not None:
        weights[OPINION] = settings["opinion"].weight.contiguous()
    _check_numbers(weights, type(canonicalizer).__name__)
    if (card := canonicalizer.card if card is None else card) is not None:
        config["card"] = dict(card)
    text = _text(config)
    data = safetensors.torch.save(weights, {FORMAT: text})
    data = _in_order(safetensors.torch.save(weights, {FORMAT: text, CHECKSUM: _checksum(text, data)}))
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; save needs a folder")
    check_ours(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / WEIGHTS, data)
    write(folder / CONFIG, (_text(config | {CHECKSUM: hashlib.sha256(text.encode()).hexdigest()}) + "\n").encode())


def check_ours(folder: Path) -> None:
    """Raise FileExistsError where files of the same names are not of a save, but of a model of transformers, say."""
    for path, is_ours in ((folder / CONFIG, _is_our_config), (folder / WEIGHTS, _are_our_weights)):
        try:
            ours = is_ours(path)
        except (OSError, ValueError):  # not there, or damaged: nothing that anyone could load is lost
            continue
        if not ours:
            raise FileExistsError(f"{path} is there already, and equiform did not write it: save in a folder of its own")


def _is_our_config(path: Path) -> bool:
    return _json(path, path.read_bytes()).get("format") == FORMAT


def _are_our_weights(path: Path) -> bool:
    with path.open("rb") as file:
        return FORMAT in _header(path, file)[2]


def _described(canonicalizer: Canonicalizer) -> dict[str, Any]:
    """All that builds a canonicalizer again, except its weights."""
    if CANONICALIZERS.get(canonicalizer.name) is not type(canonicalizer):
        raise ValueError(f"{type(canonicalizer).__name__} is not in the table of canonicalizers and cannot be saved")
    return {
        "canonicalizer": canonicalizer.name,
        "arguments": canonicalizer.config(),
        "network": canonicalizer.given_network,
        "parts": {name: _described(part) for name, part in canonicalizer.parts.items()},
        **({} if canonicalizer.fitted else {"fitted": False}),
    }


def _text(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=2, allow_nan=False)


def _in_order(data: bytes) -> bytes:
    """A safetensors file with its metadata in order, which safetensors leaves to chance: equal saves are equal files."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]


def _checksum(text: str, data: bytes) -> str:
    """The checksum of the config, the names, shapes and types of the tensors, and their numbers."""
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {name: entry for name, entry in json.loads(data[8:start]).items() if name != "__metadata__"}
    checksum = hashlib.sha256(json.dumps([text, tensors], sort_keys=True).encode())
    checksum.update(memoryview(data)[start:])
    return checksum.hexdigest()


def _check_numbers(weights: Mapping[str, Tensor], what: str) -> None:
    for name, tensor in weights.items():
        if tensor.dtype not in DTYPES.values():
            raise ValueError(f"{what}: the tensor {name!r} is of {tensor.dtype}; weights are real numbers")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{what}: the tensor {name!r} holds values that are no finite numbers")


def push(repo_id: str, canonicalizer: Canonicalizer, settings: Mapping[str, Any], **options: Any) -> str:
    """Upload a save to the Hub, creating the repository where needed. Returns its address."""
    import huggingface_hub as hub

    with tempfile.TemporaryDirectory() as folder:
        save(folder, canonicalizer, settings)
        api = hub.HfApi(token=options.pop("token", None))
        url = api.create_repo(repo_id, exist_ok=True, **options)
        api.upload_folder(repo_id=repo_id, folder_path=folder)
    return str(url)


# ------------------------------------------------------------------------------------------------------------- reading


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
        if _checksum(self.text, data) != self.checksum:
            raise ValueError(f"{self.path} is damaged: its checksum is another")
        _check_numbers(weights, str(self.path))
        return weights


def read(path_or_repo: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the weights of a save, checked. Raises FileNotFoundError or ValueError naming what is wrong.

    The name of a ready-made adapter comes first, whatever folder one happens to be in; a folder of that name is a `Path`, or
    begins with "./".
    """
    with _opened(path_or_repo) as saved:
        return saved.config, saved.weights()


def fingerprint(path_or_repo: str | Path) -> str:
    """The checksum of a save, by which another one of the same name is known."""
    with _opened(path_or_repo) as saved:
        return saved.checksum


@contextlib.contextmanager
def _opened(path_or_repo: str | Path) -> Iterator[Saved]:
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


def _header(path: Path, file: BinaryIO) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """The header of a safetensors file: its size, which is bounded, what it says of tensors, and its metadata."""
    size = int.from_bytes(file.read(8), "little")
    if size > MAX_HEADER:
        raise ValueError(f"{path} is damaged: its header has {size} bytes, more than {MAX_HEADER}")
    header = _json(path, file.read(size))
    metadata = header.pop("__metadata__", None)
    return size, header, metadata if isinstance(metadata, dict) else {}


def _head(path: Path, file: BinaryIO) -> Saved:
    size, header, metadata = _header(path, file)
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
    config = _json(path, text.encode())
    version = config.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise ValueError(f"{path} has format version {version!r}, this release reads {FORMAT_VERSION}: upgrade equiform")
    return Saved(path, file, max(end, 0), config, text, str(metadata.get(CHECKSUM)), tensors)


def _json(path: Path, data: bytes) -> dict[str, Any]:
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
    copy = {} if too_large else _json(path, path.read_bytes())
    checksum = copy.pop(CHECKSUM, None)
    if too_large or checksum != hashlib.sha256(_text(copy).encode()).hexdigest():
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


# ------------------------------------------------------------------------------------------------------------ building


def restore(
    path_or_repo: str | Path, predictor: Callable[..., Any], network: nn.Module | Sequence[nn.Module] | None
) -> tuple[Canonicalizer, dict[str, Any]]:
    """The saved canonicalizer, in eval mode, and the other settings of the wrapper."""
    with _opened(path_or_repo) as saved:
        networks = [network] if isinstance(network, nn.Module) else list(network or [])
        _check_networks(saved, networks, path_or_repo)
        settings = _settings(saved)
        with torch.device("meta"):
            _checked(saved, networks, predictor)
        weights = saved.weights()
    if OPINION in weights:
        settings["opinion"] = Opinion(weights.pop(OPINION))
    canonicalizer = _checked(saved, networks, predictor)
    dtype = _one_float(saved)
    # saved in bfloat16 it comes back so; float16 is a form to store alone, since few processors compute in it
    if dtype is not None and dtype != torch.float16:
        canonicalizer = canonicalizer.to(dtype=dtype)
    canonicalizer.load_state_dict(weights)
    canonicalizer.card = saved.config.get("card")
    canonicalizer.fitted_on = _fitted_on(path_or_repo, saved)
    return canonicalizer.eval(), settings


def _fitted_on(name: str | Path, saved: Saved) -> str:
    """What a ready-made canonicalizer for photos was fitted on, as its card has it; nothing of any other."""
    if (known := ready.meant(name)) is None or not known.startswith("photos"):
        return ""
    number = (saved.config.get("card") or {}).get("photos")
    photos = f"{number:,} photos" if isinstance(number, int) else "photos"
    return f"{known} was fitted on {photos} in colour (3 channels), and grey ones (1 channel) are fine"


def _settings(saved: Saved) -> dict[str, Any]:
    with _damaged_config(saved):
        settings = {name: kinds.from_json(saved.config[name]) for name in KINDS}
        # what was saved before there were priors has none
        return settings | {name: saved.config[name] for name in NUMBERS} | {"prior": saved.config.get("prior")}


def _check_networks(saved: Saved, networks: Sequence[nn.Module], where: str | Path) -> None:
    """Raise ValueError unless `network` has as many modules as the canonicalizer was given."""
    with _damaged_config(saved):
        names = _given_networks(saved.config)
    if len(names) != len(networks):
        has = "networks of its own" if len(names) > 1 else "a network of its own"
        way_out = f"has {has}, a {' and a '.join(names)}: pass network=" if names else "takes no network="
        raise ValueError(f"the canonicalizer in {where} {way_out}")


@contextlib.contextmanager
def _damaged_config(saved: Saved) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{saved.path}: its config is damaged: {reason(error)}") from None


def _checked(saved: Saved, networks: Sequence[nn.Module], predictor: Callable[..., Any]) -> Canonicalizer:
    """The canonicalizer of the config, with the caller's networks.

    Raises ValueError unless the tensors of the save are those that it has.
    """
    try:
        canonicalizer = _built(saved.config, list(networks), predictor)
    except KeyError as error:
        raise ValueError(f"{saved.path}: its config is damaged: {error}") from None
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{saved.path} does not fit this canonicalizer: {reason(error)}") from None
    _check_tensors(saved, {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in canonicalizer.state_dict().items()})
    return canonicalizer


def _check_tensors(saved: Saved, expected: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> None:
    """Raise ValueError unless the tensors have those names and shapes, and their types: all floating ones may share another."""
    unfit = f"{saved.path} does not fit this canonicalizer: the tensor"
    for name, (dtype, shape) in saved.tensors.items():
        if name == OPINION:
            right, wanted = dtype in FLOATS and len(shape) == 1, "one number for each class"
        elif name not in expected:
            right, wanted = False, "no such tensor"
        else:
            alike = expected[name][0].is_floating_point and _one_float(saved) is not None and dtype in FLOATS
            right = shape == expected[name][1] and (alike or DTYPES.get(dtype) == expected[name][0])
            wanted = f"{expected[name][0]} of shape {expected[name][1]}"
        if not right:
            raise ValueError(f"{unfit} {name!r} is {dtype} of shape {shape}; expected {wanted}")
    if missing := sorted(expected.keys() - saved.tensors.keys()):
        raise ValueError(f"{unfit} {missing[0]!r} is missing")


def _one_float(saved: Saved) -> torch.dtype | None:
    """The precision that all of the canonicalizer was saved in."""
    floats = {FLOATS[dtype] for name, (dtype, _) in saved.tensors.items() if dtype in FLOATS and name != OPINION}
    return floats.pop() if len(floats) == 1 else None


def _built(described: Mapping[str, Any], networks: list[nn.Module], predictor: Callable[..., Any]) -> Canonicalizer:
    """The canonicalizer of the config; takes the caller's networks from the list."""
    cls = CANONICALIZERS[described["canonicalizer"]]
    arguments = dict(described["arguments"])
    arguments |= {name: _built(part, networks, predictor) for name, part in described["parts"].items()}
    if cls.needs_predictor:
        arguments["predictor"] = predictor
    if described["network"] is not None:
        arguments["network"] = networks.pop(0)
    canonicalizer = cls(**arguments)
    canonicalizer.fitted = described.get("fitted", True) is True
    return canonicalizer


def _given_networks(described: Mapping[str, Any]) -> list[str]:
    """The class names of the caller's networks, in the order of `network`."""
    inner = [name for part in described["parts"].values() for name in _given_networks(part)]
    name = described["network"]
    if name is not None and not (isinstance(name, str) and name.isprintable()):
        raise ValueError(f"network is the name of a class; got {name!r}")
    return inner if name is None else [*inner, name]
