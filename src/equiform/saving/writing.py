"""Saves are written whole or not at all, and replace nothing but saves."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch

from .._files import write
from ..canonicalizers.base import Canonicalizer
from ..canonicalizers.table import CANONICALIZERS
from ..geometry import kinds
from .reading import (
    CHECKSUM,
    CONFIG,
    FORMAT,
    FORMAT_VERSION,
    KINDS,
    NUMBERS,
    OPINION,
    WEIGHTS,
    check_numbers,
    checksum_of,
    header_of,
    json_of,
    text_of,
)


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
    check_numbers(weights, type(canonicalizer).__name__)
    if (card := canonicalizer.card if card is None else card) is not None:
        config["card"] = dict(card)
    text = text_of(config)
    data = safetensors.torch.save(weights, {FORMAT: text})
    data = _in_order(safetensors.torch.save(weights, {FORMAT: text, CHECKSUM: checksum_of(text, data)}))
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; save needs a folder")
    check_ours(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / WEIGHTS, data)
    write(folder / CONFIG, (text_of(config | {CHECKSUM: hashlib.sha256(text.encode()).hexdigest()}) + "\n").encode())


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
    return json_of(path, path.read_bytes()).get("format") == FORMAT


def _are_our_weights(path: Path) -> bool:
    with path.open("rb") as file:
        return FORMAT in header_of(path, file)[2]


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


def _in_order(data: bytes) -> bytes:
    """A safetensors file with its metadata in order, which safetensors leaves to chance: equal saves are equal files."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]


def push(repo_id: str, canonicalizer: Canonicalizer, settings: Mapping[str, Any], **options: Any) -> str:
    """Upload a save to the Hub, creating the repository where needed. Returns its address."""
    import huggingface_hub as hub

    with tempfile.TemporaryDirectory() as folder:
        save(folder, canonicalizer, settings)
        api = hub.HfApi(token=options.pop("token", None))
        url = api.create_repo(repo_id, exist_ok=True, **options)
        api.upload_folder(repo_id=repo_id, folder_path=folder)
    return str(url)
