"""Keeping a canonicalizer: config.json and model.safetensors in a folder, or a repository on the Hugging Face Hub.

Nothing is ever unpickled. config.json holds the checksum of the weights, so that a mixture of two saves is noticed.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from ._files import write
from ._optional import optional
from .canonicalizers.base import Canonicalizer
from .canonicalizers.table import CANONICALIZERS
from .geometry import kinds
from .second_opinion import Opinion

FORMAT_VERSION = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
OPINION = "opinion.weight"
KINDS, NUMBERS = ("inputs", "outputs"), ("top_k", "coverage")  # settings of the wrapper, beside the opinion
READY = Path(__file__).with_name("ready")  # fitted adapters that come with the package, a folder each


def save(folder: str | Path, canonicalizer: Canonicalizer, settings: Mapping[str, Any]) -> None:
    """Write a canonicalizer and the settings of its wrapper: inputs, outputs, top_k, coverage and opinion.

    Each file is written beside its place, then renamed.
    """
    config = {"format": "equiform", "format_version": FORMAT_VERSION, **_described(canonicalizer)}
    config |= {name: kinds.to_json(settings[name]) for name in KINDS} | {name: settings[name] for name in NUMBERS}
    # cloned, since safetensors refuses weights that share memory
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in canonicalizer.state_dict().items()}
    if settings.get("opinion") is not None:
        weights[OPINION] = settings["opinion"].weight.contiguous()
    data = safetensors.torch.save(weights)
    config["sha256"] = hashlib.sha256(data).hexdigest()
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; save needs a folder")
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / WEIGHTS, data)
    write(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def _described(canonicalizer: Canonicalizer) -> dict[str, Any]:
    """What builds a canonicalizer again, but for its weights."""
    if CANONICALIZERS.get(canonicalizer.name) is not type(canonicalizer):
        raise ValueError(f"{type(canonicalizer).__name__} is not in the table of canonicalizers and cannot be saved")
    return {
        "canonicalizer": canonicalizer.name,
        "arguments": canonicalizer.config(),
        "network": canonicalizer.given_network,
        "parts": {name: _described(part) for name, part in canonicalizer.parts.items()},
    }


def _built(described: Mapping[str, Any], networks: list[nn.Module], predictor: Callable[..., Any]) -> Canonicalizer:
    """The canonicalizer that was described; takes the networks of the caller's own from the list."""
    cls = CANONICALIZERS[described["canonicalizer"]]
    arguments = dict(described["arguments"])
    arguments |= {name: _built(part, networks, predictor) for name, part in described.get("parts", {}).items()}
    if cls.needs_predictor:
        arguments["predictor"] = predictor
    if described["network"] is not None:
        arguments["network"] = networks.pop(0)
    return cls(**arguments)


def _given_networks(described: Mapping[str, Any]) -> list[str]:
    """The classes of the networks of the caller's own, in the order in which they are asked for."""
    inner = [name for part in described.get("parts", {}).values() for name in _given_networks(part)]
    return inner + ([] if described["network"] is None else [str(described["network"])])


def push(repo_id: str, canonicalizer: Canonicalizer, settings: Mapping[str, Any], **options: Any) -> str:
    """Upload a save to the Hub, creating the repository where needed. Returns its address."""
    hub = optional("huggingface_hub", "all")
    with tempfile.TemporaryDirectory() as folder:
        save(folder, canonicalizer, settings)
        api = hub.HfApi(token=options.pop("token", None))
        url = api.create_repo(repo_id, exist_ok=True, **options)
        api.upload_folder(repo_id=repo_id, folder_path=folder)
    return str(url)


def read(path_or_repo: str | Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The config and the weights of a save, checked. Raises FileNotFoundError or ValueError naming what is wrong.

    The name of a ready-made adapter comes first, whatever folder one happens to be in; a folder of that name is a `Path`, or
    begins with "./".
    """
    folder = READY / path_or_repo if path_or_repo in ready_made() else Path(path_or_repo)
    if not folder.is_dir():
        folder = _download(str(path_or_repo))
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no saved canonicalizer: it has no {name}")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / CONFIG} is damaged: {error}") from None
    if not isinstance(config, dict) or config.get("format") != "equiform":
        raise ValueError(f"{folder / CONFIG} was not written by equiform")
    if config.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{folder / CONFIG} has format version {config.get('format_version')!r}, this release reads {FORMAT_VERSION}: "
            "upgrade equiform"
        )
    data = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(data).hexdigest() != config.get("sha256"):
        raise ValueError(f"{folder / WEIGHTS} is damaged or belongs to another save: its checksum is not the one in {CONFIG}")
    try:
        return config, safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged: {error}") from None


def ready_made() -> list[str]:
    """The names of the adapters that come with the package."""
    return sorted(path.name for path in READY.iterdir())


def _download(repo: str) -> Path:
    if repo.count("/") != 1 or repo.startswith((".", "/", "~")):
        raise FileNotFoundError(
            f"no folder {repo}, and not the name of a repository (owner/name) or of a ready-made adapter "
            f"({', '.join(ready_made())})"
        )
    hub = optional("huggingface_hub", "all")
    try:
        return Path(hub.snapshot_download(repo, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:
        raise FileNotFoundError(f"no folder {repo}, and the Hub has not given it: {error}") from error


def restore(
    path_or_repo: str | Path, predictor: Callable[..., Any], network: nn.Module | Sequence[nn.Module] | None
) -> tuple[Canonicalizer, dict[str, Any]]:
    """The saved canonicalizer, in eval mode, and the other settings of the wrapper."""
    config, weights = read(path_or_repo)
    networks = [network] if isinstance(network, nn.Module) else list(network or [])
    try:
        settings = {name: kinds.from_json(config[name]) for name in KINDS}
        settings |= {name: config[name] for name in NUMBERS}
        names = _given_networks(config)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path_or_repo}: config.json is damaged: {error}") from None
    if len(names) != len(networks):
        has = "networks of its own" if len(names) > 1 else "a network of its own"
        way_out = f"has {has}, a {' and a '.join(names)}: pass network=" if names else "takes no network="
        raise ValueError(f"the canonicalizer in {path_or_repo} {way_out}")
    if OPINION in weights:
        settings["opinion"] = Opinion(weights.pop(OPINION))
    try:
        canonicalizer = _built(config, networks, predictor)
        canonicalizer.load_state_dict(weights)
    except KeyError as error:
        raise ValueError(f"{path_or_repo}: config.json is damaged: {error}") from None
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path_or_repo} does not fit this canonicalizer: {str(error).strip()}") from None
    return canonicalizer.eval(), settings
