"""Keeping a canonicalizer: config.json and model.safetensors in a folder, or a repository on the Hugging Face Hub.

Nothing is ever unpickled. config.json holds the checksum of the weights, so that a mixture of two saves is noticed.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import nn

from ._optional import optional
from .canonicalizers.base import Canonicalizer
from .canonicalizers.cascade import CascadeCanonicalizer
from .canonicalizers.energy import EnergyCanonicalizer
from .canonicalizers.orbit import OrbitCanonicalizer
from .canonicalizers.table import CANONICALIZERS
from .geometry import kinds
from .second_opinion import Opinion

if TYPE_CHECKING:
    from .equivariant import Equivariant
from ._files import write

FORMAT_VERSION = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
OPINION = "opinion.weight"
PARTS = ("quick", "thorough")  # of a cascade
READY = Path(__file__).with_name("ready")  # fitted adapters that come with the package, a folder each


def save(model: "Equivariant", folder: str | Path) -> None:
    """Write the canonicalizer, the kinds and the doubt settings. Each file is written beside its place, then renamed."""
    canonicalizer = model.canonicalizer
    if CANONICALIZERS.get(canonicalizer.name) is not type(canonicalizer):
        raise ValueError(f"{type(canonicalizer).__name__} is not in the table of canonicalizers and cannot be saved")
    # cloned, since safetensors refuses weights that share memory
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in canonicalizer.state_dict().items()}
    if model.opinion is not None:
        weights[OPINION] = model.opinion.weight.contiguous()
    data = safetensors.torch.save(weights)
    config = {
        "format": "equiform",
        "format_version": FORMAT_VERSION,
        **_described(canonicalizer),
        "inputs": kinds.to_json(model.inputs),
        "outputs": kinds.to_json(model.outputs),
        "top_k": model.top_k,
        "coverage": model.coverage,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; save needs a folder")
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / WEIGHTS, data)
    write(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def _described(canonicalizer: Canonicalizer) -> dict[str, Any]:
    """What builds a canonicalizer again, but for its weights; a cascade is described with its parts."""
    own = getattr(canonicalizer, "own_network", True)
    described = {
        "canonicalizer": canonicalizer.name,
        "arguments": canonicalizer.config(),
        "network": None if own else type(canonicalizer.network).__qualname__,
    }
    if isinstance(canonicalizer, CascadeCanonicalizer):
        described["parts"] = {name: _described(getattr(canonicalizer, name)) for name in PARTS}
    return described


def _built(described: dict[str, Any], networks: list[nn.Module], predictor: Callable[..., Any]) -> Canonicalizer:
    """The canonicalizer that was described; takes the networks of the caller's own from the list."""
    cls, arguments = CANONICALIZERS[described["canonicalizer"]], dict(described["arguments"])
    if issubclass(cls, CascadeCanonicalizer):
        arguments |= {name: _built(described["parts"][name], networks, predictor) for name in PARTS}
    if issubclass(cls, EnergyCanonicalizer):
        arguments["predictor"] = predictor
    if described["network"] is not None and issubclass(cls, OrbitCanonicalizer):
        arguments["network"] = networks.pop(0)
    return cls(**arguments)


def _own_networks(described: dict[str, Any]) -> list[str]:
    """The names of the networks of the caller's own."""
    is_cascade = issubclass(CANONICALIZERS[described["canonicalizer"]], CascadeCanonicalizer)
    inner = [name for part in PARTS for name in _own_networks(described["parts"][part])] if is_cascade else []
    return inner + ([] if described["network"] is None else [str(described["network"])])


def push(model: "Equivariant", repo_id: str, **options: Any) -> str:
    """Upload a save to the Hub, creating the repository where needed. Returns its address."""
    hub = optional("huggingface_hub", "all")
    with tempfile.TemporaryDirectory() as folder:
        save(model, folder)
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
        settings = {name: kinds.from_json(config[name]) for name in ("inputs", "outputs")}
        settings |= {name: config[name] for name in ("top_k", "coverage")}
        names = _own_networks(config)
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
