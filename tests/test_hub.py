"""Saving and loading: a round trip for every canonicalizer, nothing unpickled, every damage named, no half-written save."""

import hashlib
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

import equiform
from equiform import (
    Boxes,
    Canonicalizer,
    CascadeCanonicalizer,
    EnergyCanonicalizer,
    Equivariant,
    Image,
    OrbitCanonicalizer,
    Rows,
    UniformCanonicalizer,
    adapt,
    saving,
)
from equiform.geometry.kinds import as_kinds
from small_canonicalizers import CLOUDS, IMAGES, Classifier, CloudClassifier

FILES = ["config.json", "model.safetensors"]


class Own(nn.Module):
    """A network of one's own."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, 2), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 1, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).mean((1, 2, 3))


def orbit(group: str = "D4", network: nn.Module | None = None, channels: int = 3) -> OrbitCanonicalizer:
    return OrbitCanonicalizer(group, network, resolution=16, channels=channels)


# beside one of every row of the table: other groups, other channels, networks of one's own, a cascade of such
MORE: dict[str, Callable[[], Canonicalizer]] = {
    "any angle, grey": lambda: orbit("C8", channels=1),
    "a network of one's own": lambda: orbit(network=Own()),
    "a cascade of two": lambda: CascadeCanonicalizer(orbit(network=Own()), orbit(network=Own(6)), doubt=0.1),
    "energy of sigmoids": lambda: EnergyCanonicalizer("C4", Classifier(), confidence="negative_entropy", sigmoid=True),
}
EVERY = {name: lambda make=make: make("D2") for name, make in IMAGES.items()} | MORE
EVERY |= {name: lambda make=make: make("SO3") for name, make in CLOUDS.items()}


def trained(canonicalizer: Canonicalizer, **options: Any) -> Equivariant:
    """A model whose weights and running statistics are not those of a fresh one."""
    with torch.no_grad():
        for tensor in canonicalizer.state_dict().values():
            if tensor.dtype.is_floating_point:
                tensor.add_(0.3 * torch.rand_like(tensor))
    predictor = Classifier().eval() if canonicalizer.group.dim == 2 else CloudClassifier()
    predictor = canonicalizer._predictor[0] if isinstance(canonicalizer, EnergyCanonicalizer) else predictor
    return adapt(predictor, canonicalizer.group, outputs="logits", canonicalizer=canonicalizer, **options)


def networks_of(canonicalizer: Canonicalizer) -> list[nn.Module]:
    """Fresh ones, of the widths of the canonicalizer's own."""
    return [Own(module.layers[0].out_channels) for module in canonicalizer.modules() if isinstance(module, Own)]


@pytest.fixture
def saved(tmp_path) -> tuple[Equivariant, Path]:
    model = trained(orbit())
    model.save(tmp_path / "adapter")
    return model, tmp_path / "adapter"


# ---------------------------------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize("name", EVERY)
def test_round_trip(name, tmp_path):
    model = trained(EVERY[name]())
    canonicalizer = model.canonicalizer
    folder = tmp_path / "deep" / "adapter"
    model.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    fresh = equiform.load(folder, model.predictor, network=networks_of(canonicalizer))
    assert type(fresh.canonicalizer) is type(canonicalizer)
    assert fresh.predictor is model.predictor
    assert not any(module.training for module in fresh.canonicalizer.modules())
    weights = canonicalizer.state_dict()
    assert list(weights) == list(fresh.canonicalizer.state_dict())
    assert all(torch.equal(weights[k], v) for k, v in fresh.canonicalizer.state_dict().items())
    assert fresh.canonicalizer.config() == canonicalizer.config()
    if getattr(canonicalizer, "channels", 3) == 3:
        x = torch.rand(4, 3, 12, 12) if canonicalizer.group.dim == 2 else torch.randn(4, 9, 3)
        before, after = model.predict(x), fresh.predict(x)
        assert torch.equal(before.pose.scores, after.pose.scores)
        assert torch.equal(before.output, after.output)
    if weights:  # control: a fresh canonicalizer is another one
        other = EVERY[name]().state_dict()
        assert not all(torch.equal(weights[k], v) for k, v in other.items())


def test_only_the_canonicalizer_is_saved(saved):
    model, folder = saved
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    assert set(weights) == set(model.canonicalizer.state_dict())
    assert not any(key.startswith(("body", "head", "predictor")) for key in weights)
    other = equiform.load(folder, Classifier().eval())
    x = torch.rand(2, 3, 12, 12)
    assert torch.equal(other.predict(x).pose.scores, model.predict(x).pose.scores)
    assert not torch.equal(other(x), model(x))


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"coverage": 0.7}], ids=str)
def test_kinds_and_doubt_settings_come_back(options, tmp_path):
    kinds = {"inputs": {"x": Image("nearest", "edge")}, "outputs": {"a": "mask", "b": [Boxes("cxcywh", True), Rows("points")]}}
    model = adapt(Classifier(), "C4", canonicalizer=UniformCanonicalizer("C4"), **kinds, **options)
    model.save(tmp_path)
    fresh = equiform.load(tmp_path, model.predictor)
    assert (fresh.inputs, fresh.outputs) == (as_kinds(kinds["inputs"]), as_kinds(kinds["outputs"]))
    assert (fresh.top_k, fresh.coverage, fresh.group) == (model.top_k, model.coverage, model.group)


def test_saving_again_replaces_the_save(saved):
    folder = saved[1]
    other = trained(IMAGES["group-conv"]("D2"))
    other.save(folder)
    assert equiform.load(folder, other.predictor).canonicalizer.name == "group-conv"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o600 == 0o600


def test_the_config_is_plain_json_with_a_version(saved):
    config = json.loads((saved[1] / "config.json").read_text())
    assert (config["format"], config["format_version"], config["canonicalizer"]) == ("equiform", 1, "orbit")
    assert config["sha256"] == hashlib.sha256((saved[1] / "model.safetensors").read_bytes()).hexdigest()


def test_a_model_keeps_its_mode_and_is_not_touched_by_saving(saved):
    model, folder = saved
    model.canonicalizer.train()
    before = {k: v.clone() for k, v in model.canonicalizer.state_dict().items()}
    model.save(folder)
    assert model.canonicalizer.training
    assert all(torch.equal(before[k], v) for k, v in model.canonicalizer.state_dict().items())


# ------------------------------------------------------------------------------------------------------------- damages


def edit(**changes: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({k: v for k, v in (config | changes).items() if v != "remove"}))

    return change


def replace(name: str, data: bytes, *, sign: bool = False) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(data)
        if sign:
            edit(sha256=hashlib.sha256(data).hexdigest())(folder)

    return change


def truncate(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def mixture(folder: Path) -> None:
    """The weights of another save beside this config."""
    trained(orbit()).save(folder / "other")
    (folder / "other" / "model.safetensors").replace(folder / "model.safetensors")


def other_tensors(folder: Path) -> None:
    replace("model.safetensors", safetensors.torch.save({"a": torch.zeros(2)}), sign=True)(folder)


OTHER_WIDTH = {"group": "D4", "resolution": 16, "channels": 1}
DAMAGES = {
    "no config": (lambda folder: (folder / "config.json").unlink(), FileNotFoundError, "it has no config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), FileNotFoundError, "it has no model.safetensors"),
    "empty config": (replace("config.json", b""), ValueError, "config.json is damaged"),
    "binary config": (replace("config.json", b"\xff\xfe\x00"), ValueError, "config.json is damaged"),
    "config of a list": (replace("config.json", b"[1, 2]"), ValueError, "config.json was not written by equiform"),
    "foreign": (replace("config.json", b'{"model_type": "bert"}'), ValueError, "config.json was not written by equiform"),
    "newer": (edit(format_version=2), ValueError, "format version 2, this release reads 1: upgrade equiform"),
    "no version": (edit(format_version="remove"), ValueError, "format version None"),
    "truncated": (truncate, ValueError, "model.safetensors is damaged or belongs to another save"),
    "mixture": (mixture, ValueError, "model.safetensors is damaged or belongs to another save"),
    "no checksum": (edit(sha256="remove"), ValueError, "model.safetensors is damaged or belongs to another save"),
    "garbage, signed": (replace("model.safetensors", b"garbage", sign=True), ValueError, "model.safetensors is damaged"),
    "other tensors": (other_tensors, ValueError, "does not fit this canonicalizer"),
    "unknown canonicalizer": (edit(canonicalizer="magic"), ValueError, "config.json is damaged: 'magic'"),
    "unhashable canonicalizer": (edit(canonicalizer=[1]), ValueError, "does not fit this canonicalizer: unhashable"),
    "no arguments": (edit(arguments="remove"), ValueError, "config.json is damaged: 'arguments'"),
    "wrong arguments": (edit(arguments={"group": "D4", "typo": 1}), ValueError, "does not fit this canonicalizer.*typo"),
    "unknown group": (edit(arguments={"group": "Q8"}), ValueError, "does not fit this canonicalizer: unknown group 'Q8'"),
    "other shapes": (edit(arguments=OTHER_WIDTH), ValueError, "does not fit this canonicalizer"),
    "kinds": (edit(outputs={"kind": "smell"}), ValueError, "config.json is damaged: not the description of a kind"),
    "kind options": (
        edit(outputs={"kind": "boxes", "format": "yolo"}),
        ValueError,
        "config.json is damaged: unknown format 'yolo'",
    ),
    "kind options typo": (edit(outputs={"kind": "boxes", "typo": 1}), ValueError, "config.json is damaged.*typo"),
    "no top_k": (edit(top_k="remove"), ValueError, "config.json is damaged: 'top_k'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_with_its_path(saved, damage):
    model, folder = saved
    equiform.load(folder, model.predictor)  # control: whole
    change, error, message = DAMAGES[damage]
    change(folder)
    with pytest.raises(error, match=f"(?s){message}") as caught:
        equiform.load(folder, model.predictor)
    assert str(folder) in str(caught.value)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("format", ["pickle", "torch"])
@pytest.mark.parametrize("name", FILES)
def test_nothing_is_ever_unpickled(saved, tmp_path, format, name):
    model, folder = saved
    target = tmp_path / "exploded"
    buffer = io.BytesIO()
    if format == "pickle":
        pickle.dump(Bomb(target), buffer)
    else:
        torch.save({"a": Bomb(target)}, buffer)
    replace(name, buffer.getvalue(), sign=name == "model.safetensors")(folder)
    with pytest.raises(ValueError, match=f"{folder / name} is damaged"):
        equiform.load(folder, model.predictor)
    assert not target.exists()
    if format == "pickle":  # control: the bomb works
        pickle.loads(buffer.getvalue())
        assert target.exists()


def test_what_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    predictor = Classifier()
    with pytest.raises(FileNotFoundError, match=r"no folder nowhere, and not the name of a repository \(owner/name\)"):
        equiform.load("nowhere", predictor)
    for path in (tmp_path / "no" / "where", "./nowhere", "~/x", "a/b/c"):
        with pytest.raises(FileNotFoundError, match=f"no folder {path}"):
            equiform.load(path, predictor)


def test_networks_of_ones_own_are_asked_for(tmp_path):
    model = trained(orbit(network=Own()))
    model.save(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path} has a network of its own, a Own: pass network="):
        equiform.load(tmp_path, model.predictor)
    with pytest.raises(ValueError, match=f"{tmp_path} does not fit this canonicalizer"):
        equiform.load(tmp_path, model.predictor, network=Own(width=7))
    trained(orbit()).save(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path} takes no network="):
        equiform.load(tmp_path, model.predictor, network=Own())


class Foreign(UniformCanonicalizer):
    """Not in the table."""


def test_only_what_can_be_loaded_is_saved(tmp_path):
    model = adapt(Classifier(), "C4", outputs="logits", canonicalizer=Foreign("C4"))
    with pytest.raises(ValueError, match="Foreign is not in the table of canonicalizers"):
        model.save(tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="file is a file; save needs a folder"):
        trained(orbit()).save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


# --------------------------------------------------------------------------------------------------------- whole writes


def test_a_failing_write_leaves_the_old_save(saved, monkeypatch):
    model, folder = saved
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            trained(orbit()).save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, "nothing changed, nothing left behind"
    x = torch.rand(2, 3, 12, 12)
    assert torch.equal(equiform.load(folder, model.predictor)(x), model(x))


def test_a_write_that_stops_between_the_files_is_noticed(saved, monkeypatch):
    model, folder = saved
    write = saving.write

    def stops(path: Path, data: bytes) -> None:
        if path.name == "config.json":
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "write", stops)
        with pytest.raises(KeyboardInterrupt):
            trained(orbit()).save(folder)
    with pytest.raises(ValueError, match="belongs to another save"):
        equiform.load(folder, model.predictor)


# -------------------------------------------------------------------------------------------------------------- the Hub


class FakeApi:
    """Keeps what it was told, and the files."""

    calls: list[tuple] = []  # noqa: RUF012  (the fake records every call in one place)

    def __init__(self, token: str | None = None):
        self.token = token

    def create_repo(self, repo_id: str, *, exist_ok: bool = False, private: bool = False) -> str:
        self.calls.append(("create", repo_id, exist_ok, private, self.token))
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, *, repo_id: str, folder_path: str) -> None:
        files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        self.calls.append(("upload", repo_id, files, self.token))


def test_push_to_hub_and_back(tmp_path, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(FakeApi, "calls", [])
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    model = trained(orbit())
    assert model.push_to_hub("me/upright", private=True, token="secret") == "https://huggingface.co/me/upright"
    (create, upload) = FakeApi.calls
    assert create == ("create", "me/upright", True, True, "secret")
    assert upload[:2] == ("upload", "me/upright")
    assert sorted(upload[2]) == FILES
    assert upload[3] == "secret", "the token goes to both calls"

    def download(repo: str, *, allow_patterns: list[str]) -> str:
        assert (repo, sorted(allow_patterns)) == ("me/upright", FILES)
        for name, data in upload[2].items():
            (tmp_path / name).write_bytes(data)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    x = torch.rand(2, 3, 12, 12)
    assert torch.equal(equiform.load("me/upright", model.predictor)(x), model(x))

    def offline(repo: str, *, allow_patterns: list[str]) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match="no folder me/upright, and the Hub has not given it: no route"):
        equiform.load("me/upright", model.predictor)


def test_a_predictor_that_is_none_is_refused(unchecked):
    with pytest.raises(TypeError, match=r"a predictor is a callable .*; got a int"):
        equiform.load("text-c4", 3)
