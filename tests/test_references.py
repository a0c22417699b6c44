"""References to predictors: every form, and what is said of those that lead nowhere."""

import json
import pickle
import sys
import types

import pytest
import torch
from torch import nn

from asserting import refused
from equiform.predictors import known_kinds
from equiform.predictors.references import FORMS, IMAGENET, Reference, load_reference, normalisation, parse_reference

MODELS = """
from dataclasses import dataclass
import torch
from helper import WIDTH

@dataclass
class Setting:  # dataclasses look their module up while they are made
    width: "int" = WIDTH

class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = torch.nn.Linear(width, 2)
    def forward(self, x):
        return self.layer(x)

def net():
    import late_helper
    return Net(Setting().width)

def function():
    return lambda x: -x

def number():
    return 3

def broken():
    return {}["key"]

value = 5
"""


@pytest.fixture
def models(tmp_path):
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "helper.py").write_text("WIDTH = 3")
    (tmp_path / "late_helper.py").write_text("")
    yield tmp_path / "models.py"
    for name in ("helper", "late_helper"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "ref, parsed",
    [
        ("timm:resnet18", Reference("timm", "resnet18")),
        ("timm:hf-hub:owner/name", Reference("timm", "hf-hub:owner/name")),
        ("torchvision:mobilenet_v2", Reference("torchvision", "mobilenet_v2")),
        ("transformers:google/vit-base-patch16-224", Reference("transformers", "google/vit-base-patch16-224")),
        ("efficientnet-lite0", Reference("efficientnet-lite0", "")),
        ("models.py:net", Reference("file", "models.py", "net")),
        (r"C:\work\models.py:net", Reference("file", r"C:\work\models.py", "net")),
    ],
)
def test_known_forms(ref, parsed):
    assert (parse_reference(ref), str(parsed)) == (parsed, ref)


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "resnet18",
        "timm:",
        "keras:resnet",
        "file:x",
        "models.py",
        "models.py:",
        "m.py:a b",
        ":",
        ":x",
        "efficientnet-lite0:x",
    ],
)
def test_unknown_forms_list_the_known_ones(ref):
    with pytest.raises(ValueError, match="known forms") as raised:
        load_reference(ref)
    assert repr(ref) in str(raised.value)
    assert FORMS in str(raised.value)


def test_a_file_gives_a_module_in_eval_mode_or_a_function(models):
    before, net = list(sys.path), load_reference(f"{models}:net")
    assert isinstance(net, nn.Module)
    assert not net.training
    assert net(torch.zeros(1, 3)).shape == (1, 2)
    assert sys.path == before
    assert "models" not in sys.modules, "the file hides a module of that name"
    copy = pickle.loads(pickle.dumps(net))  # its class is found again
    assert torch.equal(copy.layer.weight, net.layer.weight)
    assert load_reference(f"{models}:function")(2) == -2
    assert normalisation(f"{models}:function", None) is None


@pytest.mark.parametrize(
    "function, error, message",
    [
        ("missing", ValueError, "no function missing in .*functions there: Setting, Net, net, function, number, broken"),
        ("value", ValueError, "int is no function"),
        ("number", TypeError, "models.py:number gives a int; a predictor is a module or a callable"),
        ("broken", ValueError, r"broken\(\) in .* failed: KeyError: 'key'"),
    ],
)
def test_a_file_without_such_a_predictor(models, function, error, message):
    refused(error, message, lambda: load_reference(f"{models}:{function}"))


@pytest.mark.parametrize("source, reason", [("def f(:", "SyntaxError"), ("import not_there_at_all", "ModuleNotFoundError")])
def test_a_file_that_does_not_import(tmp_path, source, reason):
    (tmp_path / "bad.py").write_text(source)
    before, modules = list(sys.path), set(sys.modules)
    refused(ValueError, rf"bad\.py cannot be imported: {reason}", lambda: load_reference(f"{tmp_path}/bad.py:f"))
    assert sys.path == before
    assert not {name for name in set(sys.modules) - modules if name.startswith("_equiform")}
    refused(FileNotFoundError, r"no file .*none\.py", lambda: load_reference(f"{tmp_path}/none.py:f"))


class Missing:
    """An import hook for which a package is not installed."""

    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers"])
def test_a_missing_package_names_its_install_line(monkeypatch, library):
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(library), *sys.meta_path])
    refused(ModuleNotFoundError, rf"pip install 'equiform\[{library}\]'", lambda: load_reference(f"{library}:resnet18"))


def test_timm_and_torchvision_give_pretrained_models(monkeypatch):
    """With stand-ins for the packages, which need a torchvision that fits the torch at hand."""
    calls = []

    def create_model(name, pretrained):
        if name == "nothing":
            raise RuntimeError("Unknown model (nothing)\n\nlong advice")
        calls.append((name, pretrained))
        model = nn.Linear(1, 1)
        model.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
        return model

    timm, torchvision, models = (types.ModuleType(name) for name in ("timm", "torchvision", "torchvision.models"))
    timm.create_model = create_model
    models.get_model = lambda name, weights: calls.append((name, weights)) or nn.Linear(1, 1)
    for module in (timm, torchvision, models):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    ours = load_reference("timm:resnet18")
    assert not ours.training
    assert not load_reference("torchvision:resnet50").training
    assert calls == [("resnet18", True), ("resnet50", "DEFAULT")]
    assert normalisation("timm:resnet18", ours) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert normalisation("torchvision:resnet50", nn.Linear(1, 1)) == IMAGENET
    with pytest.raises(ValueError, match=r"^timm:nothing cannot .*: RuntimeError: Unknown model \(nothing\)$"):
        load_reference("timm:nothing")


def test_transformers_from_a_folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = pytest.importorskip("small_transformers").vit(image_size=16, num_labels=3)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    model = load_reference(f"transformers:{tmp_path}")
    assert not model.training
    assert model(torch.zeros(2, 3, 16, 16)).logits.shape == (2, 3)
    assert normalisation(f"transformers:{tmp_path}", model) == IMAGENET
    said = {"image_processor_type": "ViTImageProcessor", "image_mean": [0.5] * 3, "image_std": [0.2] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    assert normalisation(f"transformers:{tmp_path}", model) == ([0.5] * 3, [0.2] * 3)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said | {"do_normalize": False}))
    assert normalisation(f"transformers:{tmp_path}", model) is None
    refused(ValueError, r"transformers:.*nothing cannot be loaded: OSError", load_reference, f"transformers:{tmp_path}/nothing")


def test_efficientnet_lite0_is_a_name_alone():
    pytest.importorskip("efficientnet_lite_pytorch")
    network = load_reference("efficientnet-lite0")
    assert str(parse_reference("efficientnet-lite0")) == "efficientnet-lite0"
    assert known_kinds(network) == ("image", "logits")
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
    mean, deviation = normalisation("efficientnet-lite0", network)
    assert (mean[0] * 255, deviation[2] * 255) == (127, 128)
    refused(ValueError, "known forms: .*efficientnet-lite0", parse_reference, "efficientnet-lite1")
