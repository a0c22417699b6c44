"""From a save to the canonicalizer that was saved, and the settings of its wrapper."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import ready
from .._checks import reason
from ..canonicalizers.base import Canonicalizer
from ..canonicalizers.table import CANONICALIZERS
from ..geometry import kinds
from ..second_opinion import Opinion
from .reading import DTYPES, FLOATS, KINDS, NUMBERS, OPINION, Saved, opened


def restore(
    path_or_repo: str | Path, predictor: Callable[..., Any], network: nn.Module | Sequence[nn.Module] | None
) -> tuple[Canonicalizer, dict[str, Any]]:
    """The saved canonicalizer, in eval mode, and the other settings of the wrapper."""
    with opened(path_or_repo) as saved:
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
