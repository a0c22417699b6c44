"""Saving and loading: a round trip for every canonicalizer, nothing unpickled, every damage named, no half-written save."""

import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

import equiform
from asserting import ran, refused
from equiform import Boxes, EnergyCanonicalizer, Equivariant, OrbitCanonicalizer, Rows, adapt, saving
from equiform._files import replaced, write
from equiform.canonicalizers import Canonicalizer, CascadeCanonicalizer, UniformCanonicalizer
from equiform.geometry import Image
from equiform.geometry.kinds import as_kinds
from equiform.saving.reading import checksum_of
from small_canonicalizers import CLOUDS, CONTINUOUS, IMAGES, SHIFTS
from small_predictors import Classifier, CloudClassifier

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
EVERY |= {name: lambda make=make: make("SO2") for name, make in CONTINUOUS.items()}
EVERY |= {name: lambda make=make: make("Shift4") for name, make in SHIFTS.items()}


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
    canonicalizer, folder = model.canonicalizer, tmp_path / "deep" / "adapter"
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


def test_the_canonicalizer_alone_is_saved_and_not_touched(saved):
    model, folder = saved
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    assert set(weights) == set(model.canonicalizer.state_dict())
    assert not any(key.startswith(("body", "head", "predictor")) for key in weights)
    other, x = equiform.load(folder, Classifier().eval()), torch.rand(2, 3, 12, 12)
    assert torch.equal(other.predict(x).pose.scores, model.predict(x).pose.scores)
    assert not torch.equal(other(x), model(x))
    model, folder = saved
    model.canonicalizer.train()
    before = {k: v.clone() for k, v in model.canonicalizer.state_dict().items()}
    model.save(folder)
    assert model.canonicalizer.training
    assert all(torch.equal(before[k], v) for k, v in model.canonicalizer.state_dict().items())


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"coverage": 0.7}], ids=str)
def test_kinds_and_doubt_settings_come_back(options, tmp_path):
    kinds = {"inputs": {"x": Image("nearest", "edge")}, "outputs": {"a": "mask", "b": [Boxes("cxcywh", True), Rows("points")]}}
    model = adapt(Classifier(), "C4", canonicalizer=UniformCanonicalizer("C4"), **kinds, **options)
    model.save(tmp_path)
    fresh = equiform.load(tmp_path, model.predictor)
    assert (fresh.inputs, fresh.outputs) == (as_kinds(kinds["inputs"]), as_kinds(kinds["outputs"]))
    assert (fresh.top_k, fresh.coverage, fresh.group) == (model.top_k, model.coverage, model.group)


def test_config_json_is_a_copy_and_a_save_replaces_another(saved):
    model, folder = saved
    copy, config = json.loads((folder / "config.json").read_text()), saving.read(folder)[0]
    assert (copy["format"], copy["format_version"], copy["canonicalizer"]) == ("equiform", 2, "orbit")
    assert {name: value for name, value in copy.items() if name != "sha256"} == config
    (folder / "config.json").unlink()
    x = torch.rand(2, 3, 12, 12)
    assert torch.equal(equiform.load(folder, model.predictor)(x), model(x)), "it decides nothing"
    folder, other = saved[1], trained(IMAGES["group-conv"]("D2"))
    other.save(folder)
    assert equiform.load(folder, other.predictor).canonicalizer.name == "group-conv"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert all(path.stat().st_mode & 0o600 == 0o600 for path in folder.iterdir())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_precision_comes_back(dtype, tmp_path):
    model = trained(orbit())
    model.canonicalizer.to(dtype=dtype)
    model.save(tmp_path)
    fresh = equiform.load(tmp_path, model.predictor).canonicalizer.state_dict()
    for name, tensor in model.canonicalizer.state_dict().items():
        # float16 is a form to store: it is computed with in float32
        assert fresh[name].dtype == (torch.float32 if tensor.dtype == torch.float16 else tensor.dtype)
        assert torch.equal(fresh[name], tensor.to(fresh[name].dtype))


# ------------------------------------------------------------------------------------------------------------- damages


Change = Callable[[Path], Any]


def edit(**changes: Any) -> Change:
    """config.json in an editor."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({k: v for k, v in (config | changes).items() if v != "remove"}))

    return change


def replace(name: str, data: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(data)


def forge(tensors: dict[str, Any] | None = None, *, text: str | None = None, sign: bool = True, **changes: Any) -> Change:
    """A file as somebody else may write it, with a config and tensors of theirs and, signed, with the right checksum."""

    def change(folder: Path) -> None:
        config, weights = saving.read(folder)
        config = {k: v for k, v in (config | changes).items() if v != "remove"}
        weights = {k: v for k, v in (weights | (tensors or {})).items() if v is not None}
        written = json.dumps(config) if text is None else text
        data = safetensors.torch.save(weights, {"equiform": written})
        checksum = checksum_of(written, data) if sign else "0" * 64
        (folder / "config.json").unlink()
        (folder / "model.safetensors").write_bytes(safetensors.torch.save(weights, {"equiform": written, "sha256": checksum}))

    return change


def flip_a_bit(of: str) -> Change:
    """In the last number, or in the config or the shapes of the header."""

    def change(folder: Path) -> None:
        data = bytearray((folder / "model.safetensors").read_bytes())
        place = len(data) - 1 if of == "weights" else data.index(b'resolution\\": 16') + len(b'resolution\\": 1')
        data[place] ^= 1
        (folder / "model.safetensors").write_bytes(bytes(data))

    return change


def header(text: bytes, size: int | None = None) -> Change:
    return replace("model.safetensors", (len(text) if size is None else size).to_bytes(8, "little") + text)


def truncate(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def arguments(**more: Any) -> Change:
    return forge(arguments={"group": "D4", "resolution": 16, "channels": 3} | more)


BIAS = "network.classifier.bias"
DEEP = "[" * 100_000
PART = {"canonicalizer": "group-conv", "arguments": {"group": "D360", "resolution": 16}, "network": None, "parts": {}}
COPY = "config.json was edited, and is only a copy"
UNFIT = "model.safetensors does not fit this canonicalizer: "
DAMAGES: dict[str, tuple[Change, type[Exception], str]] = {
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), FileNotFoundError, "it has no model.safetensors"),
    # config.json
    "empty config": (replace("config.json", b""), ValueError, "config.json is damaged"),
    "binary config": (replace("config.json", b"\xff\xfe\x00"), ValueError, "config.json is damaged"),
    "config of a list": (replace("config.json", b"[1, 2]"), ValueError, "config.json is damaged: it holds a list"),
    "deep config": (replace("config.json", DEEP.encode()), ValueError, "config.json is damaged: maximum recursion"),
    "large config": (replace("config.json", b"{" + b" " * (1 << 20) + b"}"), ValueError, COPY),
    "another resolution": (edit(arguments={"group": "D4", "resolution": 17, "channels": 3}), ValueError, COPY),
    "no checksum": (edit(sha256="remove"), ValueError, COPY),
    # the file itself
    "empty": (replace("model.safetensors", b""), ValueError, "model.safetensors is damaged"),
    "garbage": (replace("model.safetensors", b"garbage" * 9), ValueError, "model.safetensors is damaged: its header has"),
    "a huge header": (header(b"{}", 1 << 60), ValueError, "its header has 1152921504606846976 bytes, more than"),
    "a deep header": (header(DEEP.encode()), ValueError, "model.safetensors is damaged: maximum recursion"),
    "no tensors": (header(b'{"__metadata__": {"equiform": "{}"}, "a": 3}'), ValueError, "does not describe tensors"),
    "truncated": (truncate, ValueError, "model.safetensors is damaged"),
    "a bit of the weights": (flip_a_bit("weights"), ValueError, "model.safetensors is damaged: its checksum is another"),
    "a bit of the config": (flip_a_bit("config"), ValueError, "model.safetensors is damaged: its checksum is another"),
    "unsigned": (forge(top_k=2, sign=False), ValueError, "model.safetensors is damaged: its checksum is another"),
    "of others": (lambda folder: safetensors.torch.save_file({}, folder / "model.safetensors"), ValueError, "no config"),
    "longer": (lambda folder: os.truncate(folder / "model.safetensors", 1 << 40), ValueError, "model.safetensors is damaged"),
    "a long config": (forge(text='"' + "a" * (1 << 20) + '"'), ValueError, "its config has 1048578 characters"),
    # the config, signed
    "deep": (forge(text=DEEP), ValueError, "model.safetensors is damaged: maximum recursion"),
    "not a number": (forge(text='{"a": NaN}'), ValueError, "model.safetensors is damaged: NaN is no number"),
    "newer": (forge(format_version=3), ValueError, "format version 3, this release reads 2: upgrade equiform"),
    "older": (forge(format_version=1), ValueError, "format version 1, this release reads 2"),
    "true as version": (forge(format_version=True), ValueError, "format version True"),
    "no version": (forge(format_version="remove"), ValueError, "format version None"),
    "unknown canonicalizer": (forge(canonicalizer="magic"), ValueError, "its config is damaged: 'magic'"),
    "unhashable canonicalizer": (forge(canonicalizer=[1]), ValueError, UNFIT + "unhashable"),
    "no arguments": (forge(arguments="remove"), ValueError, "its config is damaged: 'arguments'"),
    "arguments of another type": (forge(arguments=3), ValueError, UNFIT),
    "parts of another type": (forge(parts=[3]), ValueError, "its config is damaged"),
    "a name of two lines": (forge(network="a\nb"), ValueError, r"network is the name of a class; got 'a\\nb'"),
    "wrong arguments": (arguments(typo=1), ValueError, UNFIT + ".*typo"),
    "unknown group": (arguments(group="Q8"), ValueError, UNFIT + "unknown group 'Q8'"),
    "a large group of filters": (forge(**PART), ValueError, UNFIT + "group convolutions are for at most 64 elements"),
    "a large group": (arguments(group="C9999"), ValueError, UNFIT + ".*at most 720 elements; C9999 has 9999"),
    "a large resolution": (arguments(resolution=10**6), ValueError, UNFIT + "resolution must be .* 2048; got 1000000"),
    "many channels": (arguments(channels=5 * 10**6), ValueError, UNFIT + "channels must be .* 512; got 5000000"),
    "wide": (forge(canonicalizer="tiles", arguments={"group": "C4", "widths": [10**9]}), ValueError, UNFIT + "widths"),
    "gigabytes": (forge(canonicalizer="tiles", arguments={"group": "C4", "widths": [4096] * 8}), ValueError, UNFIT),
    "a part too many": (forge(parts={"quick": PART | {"arguments": {"group": "D1"}}}), ValueError, UNFIT + ".*quick"),
    "kinds": (forge(outputs={"kind": "smell"}), ValueError, "its config is damaged: not the description of a kind"),
    "kind options": (forge(outputs={"kind": "boxes", "format": "yolo"}), ValueError, "its config is damaged: .*'yolo'"),
    "kind options typo": (forge(outputs={"kind": "boxes", "typo": 1}), ValueError, "its config is damaged: .*typo"),
    "no top_k": (forge(top_k="remove"), ValueError, "its config is damaged: 'top_k'"),
    # the tensors, signed
    "another tensor": (forge({"a": torch.zeros(2)}), ValueError, UNFIT + "the tensor 'a' is F32 .*; expected no such tensor"),
    "a tensor less": (forge({BIAS: None}), ValueError, UNFIT + f"the tensor '{BIAS}' is missing"),
    "another shape": (forge({BIAS: torch.zeros(2)}), ValueError, UNFIT + rf"the tensor '{BIAS}' is F32 of shape \(2,\)"),
    "NaN": (forge({BIAS: torch.tensor([torch.nan])}), ValueError, f"the tensor '{BIAS}' holds values that are no finite"),
    "infinite": (forge({BIAS: torch.tensor([torch.inf])}), ValueError, f"the tensor '{BIAS}' holds values that are no finite"),
    "complex": (forge({BIAS: torch.ones(1, dtype=torch.complex64)}), ValueError, UNFIT + f"the tensor '{BIAS}' is C64"),
    "whole": (forge({BIAS: torch.ones(1, dtype=torch.int64)}), ValueError, UNFIT + f"the tensor '{BIAS}' is I64"),
    "one in half": (forge({BIAS: torch.ones(1).half()}), ValueError, UNFIT + f"the tensor '{BIAS}' is F16"),
    "opinion": (forge({"opinion.weight": torch.ones(2, 5)}), ValueError, UNFIT + ".*'opinion.weight' is F32 .*each class"),
    "no opinion": (forge({"opinion.weight": torch.full((5,), torch.nan)}), ValueError, "'opinion.weight' holds values"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_with_its_path(saved, damage):
    model, folder = saved
    equiform.load(folder, model.predictor)  # control: whole
    change, error, message = DAMAGES[damage]
    change(folder)
    with pytest.raises(error, match=message) as caught:
        equiform.load(folder, model.predictor)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value), "one line"


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
    target, buffer = tmp_path / "exploded", io.BytesIO()
    if format == "pickle":
        pickle.dump(Bomb(target), buffer)
    else:
        torch.save({"a": Bomb(target)}, buffer)
    replace(name, buffer.getvalue())(folder)
    refused(ValueError, f"{folder / name} is damaged", lambda: equiform.load(folder, model.predictor))
    assert not target.exists()
    if format == "pickle":  # control: the bomb works
        pickle.loads(buffer.getvalue())
        assert target.exists()


def test_what_is_not_there_or_no_predictor(tmp_path, monkeypatch, unchecked):
    monkeypatch.chdir(tmp_path)
    predictor = Classifier()
    refused(FileNotFoundError, r"no folder nowhere, .* repository \(owner/name\)", lambda: equiform.load("nowhere", predictor))
    for path in (tmp_path / "no" / "where", "./nowhere", "~/x", "a/b/c"):
        refused(FileNotFoundError, f"no folder {path}", equiform.load, path, predictor)
    for path in ("x" * 5000, "a/" + "x" * 5000, "a\nb", "a\0b"):
        with pytest.raises(FileNotFoundError, match="no folder") as caught:
            equiform.load(path, predictor)
        assert len(str(caught.value)) < 600
        assert "\n" not in str(caught.value)
    refused(TypeError, r"a predictor is a callable .*; got a int", lambda: equiform.load("text-c4", 3))


def test_files_of_others_are_not_replaced(tmp_path):
    """A model of transformers has files of the same names."""
    foreign = {"config.json": b'{"model_type": "vit"}', "model.safetensors": safetensors.torch.save({"w": torch.ones(1)})}
    for name, data in foreign.items():
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_bytes(data)
        refused(
            FileExistsError, f"{folder / name} is there already, and equiform did not write it", trained(orbit()).save, folder
        )
        assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [(name, data)]
    named = tmp_path / "named"
    named.mkdir()
    (named / "model.safetensors").write_bytes(safetensors.torch.save({"w": torch.ones(1)}, {"format": "pt"}))
    refused(FileExistsError, "equiform did not write it", trained(orbit()).save, named)
    trained(orbit()).save(tmp_path / "own")
    trained(orbit()).save(tmp_path / "own")  # control: its own are


def test_only_what_can_be_loaded_is_saved_with_networks_asked_for(tmp_path):
    model = trained(orbit(network=Own()))
    model.save(tmp_path)
    refused(ValueError, f"{tmp_path} has a network of its own, a Own: pass network=", equiform.load, tmp_path, model.predictor)
    with pytest.raises(ValueError, match=rf"{tmp_path}.* does not fit this canonicalizer: .* of shape \(7,\)"):
        equiform.load(tmp_path, model.predictor, network=Own(width=7))
    trained(MORE["a cascade of two"]()).save(tmp_path)
    message = "has networks of its own, a Own and a Own: pass network="
    refused(ValueError, message, lambda: equiform.load(tmp_path, model.predictor, network=Own()))
    trained(orbit()).save(tmp_path)
    refused(ValueError, f"{tmp_path} takes no network=", lambda: equiform.load(tmp_path, model.predictor, network=Own()))
    model = adapt(Classifier(), "C4", outputs="logits", canonicalizer=Foreign("C4"))
    refused(ValueError, "Foreign is not in the table of canonicalizers", lambda: model.save(tmp_path / "adapter"))
    assert not (tmp_path / "adapter").exists()
    (tmp_path / "file").write_text("mine")
    refused(NotADirectoryError, "file is a file; save needs a folder", lambda: trained(orbit()).save(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


class Foreign(UniformCanonicalizer):
    """Not in the table."""


# --------------------------------------------------------------------------------------------------------- whole writes
def test_a_write_that_fails_or_stops_leaves_a_whole_save(saved, monkeypatch):
    model, folder = saved
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        refused(OSError, "No space left", lambda: trained(orbit()).save(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, "nothing changed, nothing left behind"
    x = torch.rand(2, 3, 12, 12)
    assert torch.equal(equiform.load(folder, model.predictor)(x), model(x))
    folder, other = saved[1], trained(IMAGES["group-conv"]("D2"))

    def stops(path: Path, data: bytes) -> None:
        if path.name == "config.json":
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(saving.writing, "write", stops)
        with pytest.raises(KeyboardInterrupt):
            other.save(folder)
    assert equiform.load(folder, other.predictor).canonicalizer.name == "group-conv"


def test_long_names_and_weights_that_are_no_numbers(tmp_path):
    for name in ("x" * 255, "x." + "y" * 253):
        write(tmp_path / name, b"data")
        assert (tmp_path / name).read_bytes() == b"data"
    model = trained(orbit())
    with torch.no_grad():
        model.canonicalizer.get_parameter(BIAS).fill_(torch.nan)
    refused(ValueError, f"OrbitCanonicalizer: .* '{BIAS}' holds .* no finite numbers", lambda: model.save(tmp_path / "adapter"))
    model = trained(orbit(network=Own()))
    model.canonicalizer.network.register_buffer("phase", torch.ones(2, dtype=torch.complex64))
    refused(ValueError, r"'network.phase' is of torch.complex64; .* real numbers", lambda: model.save(tmp_path / "adapter"))
    assert not (tmp_path / "adapter").exists()


def test_what_is_being_written_has_another_name(tmp_path):
    (tmp_path / "scratch").mkdir()
    with replaced(tmp_path / "a.onnx", tmp_path / "scratch") as part:
        assert (part.parent, part.suffix) == (tmp_path / "scratch", ".onnx")
        part.write_bytes(b"data")
        assert not (tmp_path / "a.onnx").exists()
    assert (tmp_path / "a.onnx").read_bytes() == b"data"
    with pytest.raises(RuntimeError, match="before anything"), replaced(tmp_path / "b.onnx"):
        raise RuntimeError("before anything was written")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "scratch"]


KILLS = """
import os, random, signal, sys, time
import torch, equiform
from equiform import GroupConvCanonicalizer, adapt

torch.set_num_threads(1)
model = adapt(len, "C4", outputs="logits", canonicalizer=GroupConvCanonicalizer("C4", widths=(4, 8), resolution=16))

def save(number):
    model.canonicalizer.network.head.bias.data.fill_(number)
    model.top_k = 1 + number % 4
    model.save(sys.argv[1])

def writer(number):
    if child := os.fork():
        return child
    while True:
        save(number)
        number += 1

def check():
    again = equiform.load(sys.argv[1], len)
    number = int(again.canonicalizer.network.head.bias)
    assert again.top_k == 1 + number % 4, (again.top_k, number)
    return number

save(0)
random.seed(0)
seen = set()
for round in range(25):
    children = [writer(1000 * round), writer(1000 * round + 500)]
    time.sleep(0.01 + 0.05 * random.random())
    seen |= {check() for _ in range(3)}
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    check()
print(len(seen))
"""


@pytest.mark.slow
def test_writers_that_are_killed_leave_a_whole_save(tmp_path):
    """Two at a time, killed at random moments: what is loaded is always one save, with the settings that belong to it."""
    assert int(ran("-c", KILLS, tmp_path)) > 20, "control: there were saves to interrupt"


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
    with pytest.raises(FileNotFoundError, match=r"no folder me/upright, and the Hub .*: no route"):
        equiform.load("me/upright", model.predictor)
