"""Keeping a canonicalizer: model.safetensors and config.json in a folder, or a repository on the Hugging Face Hub.

model.safetensors holds everything, the config and one checksum of all of it as well, and is replaced by one rename: what is
loaded is always one save, whole. config.json is a copy of the config to read. Nothing is ever unpickled, and nothing is
allocated before the names, shapes and types of the tensors are those of the canonicalizer that the config describes.
"""

from .building import restore
from .reading import CONFIG, WEIGHTS, fingerprint, read
from .writing import check_ours, push, save

__all__ = [
    "CONFIG",
    "WEIGHTS",
    "check_ours",
    "fingerprint",
    "push",
    "read",
    "restore",
    "save",
]
