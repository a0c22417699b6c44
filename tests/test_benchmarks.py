"""What the benchmark scripts take: other data, other predictors, and a peer that cannot be run."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from asserting import refused
from equiform.predictors.references import IMAGENET

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    """The benchmark scripts import each other by their names."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import common
    import peer

    return common, peer


class TensorFlowConv(nn.Conv2d):
    """A convolution that pads at the far end, as TensorFlow does, and ends in a ReLU6."""

    act = True

    def forward(self, x):
        pad = []
        for n in (x.shape[3], x.shape[2]):
            p = max((-(-n // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - n, 0)
            pad += [p // 2, p - p // 2]
        return nn.functional.relu6(super().forward(nn.functional.pad(x, pad)))


def test_half_precision_keeps_scores_apart(monkeypatch):
    """bfloat16 inside, float32 at the end; its activation by integers is ReLU6 to the bit."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import backbones

    torch.manual_seed(0)
    x = torch.randn(4096).mul(5).bfloat16()
    assert torch.equal(backbones.relu6_(x.clone()), nn.functional.relu6(x))
    assert torch.equal(backbones.relu6_(x.float()), nn.functional.relu6(x.float()))
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1))
    half, views = backbones.halved(network), torch.rand(64, 3, 8, 8)
    scores = half(views.bfloat16())
    assert scores.dtype == torch.float32
    assert torch.allclose(scores, network(views), atol=1e-2)
    assert len(scores.unique()) == 64 > len(scores.bfloat16().unique())
    convolutions = nn.Sequential(nn.Conv2d(3, 1, 1), nn.AdaptiveAvgPool2d(1))
    assert torch.equal(backbones.halved(convolutions)(views), convolutions(views))  # no linear layer: left in float32


@pytest.mark.parametrize("side", [32, 33, 30])
def test_lean_backbones_are_the_same_function(monkeypatch, side):
    """Without padded copies, with batch norms to learn by, and with those folded again: always what the backbone was."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import backbones

    torch.manual_seed(0)
    blocks = [TensorFlowConv(*sizes) for sizes in ((3, 8, 3, 2), (8, 8, 3, 1, 0, 1, 8), (8, 12, 1), (12, 8, 3, 2))]
    network = nn.Sequential()
    network.features = nn.Sequential(*blocks)
    network.head = nn.Conv2d(8, 5, 1)
    x, lean = torch.rand(4, 3, side, side), backbones.lean(network, frozen=1)
    learning = backbones.with_batch_norms(lean, x)
    folded, expected = backbones.folded(learning), network(x).mean((2, 3))
    for same in (lean, learning, folded):
        torch.testing.assert_close(same(x).mean((2, 3)), expected, atol=1e-5, rtol=1e-4)
    assert [p.requires_grad for p in learning.network.features[0].parameters()] == [False, False]
    assert sum(isinstance(m, backbones.NormalisedConv) for m in learning.modules()) == 3
    assert folded.state_dict().keys() == lean.state_dict().keys()
    assert network.features[0].weight.requires_grad  # the backbone itself is left as it was
    untouched = nn.Conv2d(3, 8, 3)
    assert backbones.lean(untouched) is untouched


@pytest.fixture
def folder(tmp_path):
    """A data set as a folder: red cats, blue dogs, two to learn from and one to measure on."""
    for part, count in (("train", 2), ("val", 1)):
        for name, colour in (("cats", "red"), ("dogs", "blue")):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (20, 10), colour).save(tmp_path / "data" / part / name / f"{i}.png")
    return tmp_path / "data"


def test_a_folder_and_an_npz_are_the_same_data(scripts, folder, tmp_path):
    common, _ = scripts
    data = common.arrays(folder, 8)
    assert data["train_images"].shape == (4, 8, 8, 3)
    assert (data["train_labels"].tolist(), data["test_images"][:, 4, 4].tolist()) == ([0, 0, 1, 1], [[255, 0, 0], [0, 0, 255]])
    np.savez(tmp_path / "data.npz", **data)
    again = common.arrays(tmp_path / "data.npz", 32)
    assert all(np.array_equal(again[name], data[name]) for name in common.ARRAYS)
    (tmp_path / "labels.json").write_text('{"cats": 281, "dogs": 207}')
    assert common.arrays(folder, 8, tmp_path / "labels.json")["test_labels"].tolist() == [281, 207]
    np.savez(tmp_path / "half.npz", train_images=data["train_images"])
    for wrong, message in (("half.npz", "has no train_labels, test_images"), ("none", "no file or folder"), (".", "train/")):
        refused(SystemExit, message, common.arrays, tmp_path / wrong, 8)


@pytest.mark.parametrize("canonicalizer", ["backbone", "group-conv"])
def test_a_table_of_ones_own_images_and_network(scripts, tmp_path, monkeypatch, canonicalizer):
    import cifar10

    for name, value in scripts[0].MEMORY.items():  # or the script would start again, in the place of the tests
        monkeypatch.setenv(name, value)
    rng = np.random.default_rng(0)
    images = {f"{part}_images": rng.integers(0, 256, (n, 16, 16, 3), np.uint8) for part, n in (("train", 24), ("test", 6))}
    np.savez(tmp_path / "own.npz", train_labels=np.zeros(24), test_labels=np.arange(6) % 2, **images)
    (tmp_path / "own.py").write_text(
        "from torch import nn\n\ndef net():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()\n\n"
        "def function():\n    return lambda x: x.mean((2, 3))\n"
    )
    asked = ["--data", tmp_path / "own.npz", "--groups", "C4", "--epochs", 1, "--out", tmp_path / "out.json"]
    asked += ["--threads", torch.get_num_threads(), "--canonicalizer", canonicalizer, "--predictor"]
    monkeypatch.setattr(sys, "argv", ["cifar10.py", *map(str, asked), f"{tmp_path}/own.py:net"])
    cifar10.main()
    found = json.loads((tmp_path / "out.json").read_text())["C4"]
    assert found["fit"]["resolution"] == 16
    rows = {row["name"]: row for row in found["report"]["methods"]}
    assert rows["adapted"]["equivariance_error"] == 0 < rows["bare"]["equivariance_error"]
    assert {"two poses", "coverage 0.9", "all poses", "training-free"} < set(rows)
    assert ("cascade of both" in rows) is ("group convolutions" in rows) is (canonicalizer == "backbone")
    monkeypatch.setattr(sys, "argv", ["cifar10.py", *map(str, asked), f"{tmp_path}/own.py:function"])
    if canonicalizer == "backbone":
        refused(SystemExit, "no network to start from: say --canonicalizer orbit", lambda: cifar10.main())


def test_names_of_classes_and_what_predictors_were_trained_on(scripts, tmp_path):
    common, _ = scripts
    assert common.class_indices(["n02102040", "n01440764", "n02102040"], None).tolist() == [217, 0, 217]
    assert common.class_indices(["owls", "n01440764", "bees"], None).tolist() == [2, 1, 0]
    # a transformers model sees normalised photos; a network of a file, which takes [0, 1], sees them as they are.
    transformers = pytest.importorskip("transformers")
    common, _ = scripts
    config = pytest.importorskip("small_transformers").vit(image_size=16, num_labels=3)
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path / "vit")
    x = torch.rand(2, 3, 16, 16)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    with torch.no_grad():
        logits = common.predictor(f"transformers:{tmp_path / 'vit'}")(x)
        torch.testing.assert_close(logits, model((x - mean) / deviation).logits)
        assert not torch.allclose(logits, model(x).logits, atol=1e-3)
    (tmp_path / "own.py").write_text("def net():\n    return lambda x: x.mean((2, 3))\n")
    assert torch.equal(common.predictor(f"{tmp_path}/own.py:net")(x), x.mean((2, 3)))


def test_a_peer_that_cannot_be_run_leaves_its_log(scripts, folder, tmp_path, monkeypatch):
    """Beside the results, and its path is told; there are no figures of one side alone."""
    common, peer = scripts
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "ready").touch()
    python = tmp_path / "env" / "bin" / "python"
    python.write_text("#!/bin/sh\necho nothing here imports\nexit 3\n")
    python.chmod(0o755)
    (tmp_path / "own.py").write_text("from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten())\n")
    out = tmp_path / "results" / "peer.json"
    options = {"data": folder, "size": 8, "predictor": f"{tmp_path}/own.py:net", "environment": tmp_path / "env", "out": out}
    monkeypatch.setattr(sys, "argv", ["peer.py", *[str(part) for k, v in options.items() for part in (f"--{k}", v)]])
    for name, value in common.MEMORY.items():
        monkeypatch.setenv(name, value)
    threads = torch.get_num_threads()
    try:
        with pytest.raises(SystemExit, match=r"could not be run \(3\): .*peer.log") as raised:
            peer.main()
        monkeypatch.setattr(sys, "argv", ["peer.py", "--predictor", "timm:resnet18"])
        refused(SystemExit, "the peer's environment has no such library", lambda: peer.main())
    finally:
        torch.set_num_threads(threads)
    assert raised.value.code  # a message: exit status 1
    assert "nothing here imports" in out.with_suffix(".log").read_text()
    assert not out.exists()
    peer.logged([sys.executable, "-c", "pass"], tmp_path / "fine.log")  # the control: nothing is wrong, nobody leaves


def test_generated_shapes_have_their_parts(scripts):
    """Upright, in the unit ball, the same for the same seed; the parts of each shape are where they belong."""
    import parts

    x, labels = parts.shapes(6, 200, seed=1)
    assert x.shape == (6, 200, 3)
    assert torch.allclose(x.norm(dim=-1).amax(1), torch.ones(6))
    assert torch.allclose(x.mean(1), torch.zeros(6, 3), atol=1e-5)
    assert [sorted(set(row.tolist())) for row in labels[:3]] == [[0, 1], [2, 3, 4], [5, 6]]
    for table, lamp in ((0, 1), (3, 4)):
        assert x[table, labels[table] == 0, 2].min() > x[table, labels[table] == 1, 2].mean()
        heights = [float(x[lamp, labels[lamp] == part, 2].mean()) for part in (2, 3, 4)]
        assert heights == sorted(heights)
    assert torch.equal(parts.shapes(6, 200, seed=1)[0], x)
    assert not torch.equal(parts.shapes(6, 200, seed=2)[0], x)


def test_the_errors_of_a_model_that_is_not_equivariant_are_seen(scripts):
    import cloud_exactness
    from equiform import adapt, group
    from equiform.canonicalizers import SearchCanonicalizer

    torch.manual_seed(0)
    x, network = cloud_exactness.clouds(6, 20, torch.float64), cloud_exactness.Network().double()
    g, canonicalizer = cloud_exactness.elements(group("E3"), 6, torch.float64), SearchCanonicalizer("E3", side=4, width=8)
    model = adapt(network, "E3", outputs=cloud_exactness.KINDS, canonicalizer=canonicalizer)
    assert cloud_exactness.errors(model, x, g).shape == (5, 6)
    assert cloud_exactness.errors(model, x, g).max() < 1e-12
    assert cloud_exactness.errors(network, x, g).amax(0).min() > 0.1
    with torch.no_grad():
        pose = canonicalizer(x)
    best = pose.scores.sort(dim=1, descending=True).values
    gap = best[:, 0] - best[:, 1]
    middle = float(gap.sort().values[2:4].mean())
    assert torch.equal(cloud_exactness.tied(pose, middle), gap < middle)
    found = cloud_exactness.measure("SO3", "torch.randn", 0, torch.float64, (8, 20))
    assert set(found) == {*cloud_exactness.MAKERS, "bare"}
    assert all(one.error < 1e-12 and one.left_out["of"] == 8 for label, one in found.items() if label != "bare")
    assert found["bare"].error > 0.1


def test_what_size_costs_and_what_of_it_is_won_back(scripts):
    """Worked example: of 40 photos the bare classifier knows all in the usual size and 10 in each other one, the adapted 25."""
    import sizes
    from intervals import PerPhoto

    def right(num: int) -> PerPhoto:
        score = PerPhoto("accuracy")
        score.update(torch.eye(2)[(torch.arange(40) >= num).long()], torch.zeros(40, dtype=torch.long))
        return score

    shown = {
        str(size): {"bare": right(40 if size == 1 else 10), "adapted": right(40 if size == 1 else 25)} for size in sizes.SHOWN
    }
    found = sizes.summary(shown, 200)
    assert (found["bare"]["mean"], found["adapted"]["mean"]) == (pytest.approx(0.375), pytest.approx(0.6875))
    assert (found["bare"]["won_back"], found["adapted"]["won_back"]) == (0, pytest.approx(0.5))
    low, high = found["adapted"]["intervals"]["won_back"]
    assert 0.2 < low < 0.5 < high < 0.8
    assert "won_back" not in found["bare"]["intervals"]
    assert sizes.share(found["adapted"], "won_back").startswith("50 % (")


def test_a_pose_of_a_product_is_right_factor_by_factor(scripts):
    import products
    from equiform import group

    g = group("C4*Scale(0.5,2,3)")
    found = products.same(g, g.elements[[4, 5, 3]], g.elements[[4, 4, 0]])
    assert found.tolist() == [[True, False, False], [True, True, False], [True, False, True]]


@pytest.fixture
def started(scripts, monkeypatch):
    """Runs a script of that name with options and returns the figures it wrote."""

    def start(name, tmp_path, **options):
        for variable, value in scripts[0].MEMORY.items():  # or the script would start again, in the place of the tests
            monkeypatch.setenv(variable, value)
        options |= {"threads": torch.get_num_threads(), "out": tmp_path / "out.json"}
        parts = [part for option, value in options.items() for part in (f"--{option.replace('_', '-')}", str(value))]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *parts])
        importlib.import_module(name).main()
        return json.loads((tmp_path / "out.json").read_text())

    return start


def test_what_an_oracle_gives_on_small_images(started, tmp_path):
    """What is lost adds up; upright the oracle turns nothing, and a canvas that is padded first loses no corner."""
    import cifar10_oracle

    rng = np.random.default_rng(0)
    images = {f"{part}_images": rng.integers(0, 256, (n, 16, 16, 3), np.uint8) for part, n in (("train", 24), ("test", 12))}
    np.savez(tmp_path / "own.npz", train_labels=np.zeros(24), test_labels=np.arange(12) % 2, **images)
    (tmp_path / "own.py").write_text(
        "from torch import nn\n\ndef net():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()\n"
    )
    options = {"predictor": f"{tmp_path}/own.py:net", "canonicalizer": "turns", "epochs": 1, "precision": "32-true"}
    options |= {"data": tmp_path / "own.npz", "adapter": tmp_path / "adapter"}
    figures = started("cifar10_oracle", tmp_path, **options)
    for row in figures["settings"].values():
        assert sum(row["lost"].values()) == pytest.approx(row["mean"]["upright"] - row["mean"]["adapted"], abs=1e-6)
        assert sum(row["share_of_poses"].values()) == pytest.approx(1)
    first = figures["settings"]["bilinear, black corners"]
    assert 2 * first["mean"]["oracle"] - first["between_quarter_turns"]["oracle"] == pytest.approx(first["mean"]["upright"])
    again = started("cifar10_oracle", tmp_path, **options)  # with the adapter that is there
    assert (again["settings"], again["fit"]) == (figures["settings"], figures["fit"])
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(cifar10_oracle.unpadded(cifar10_oracle.padded(x)), x)


def test_photos_at_all_angles(started, tmp_path):
    """A method's answers are those of the adapted model; upright the oracle is the bare classifier."""
    import angles
    import common
    from equiform import adapt

    for part, num in (("train", 2), ("val", 3)):
        for name in ("n01440764", "n02102040"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(num):
                noise = np.random.default_rng(i).integers(0, 256, (12, 12, 3), np.uint8)
                Image.fromarray(noise).resize((96, 96)).save(tmp_path / part / name / f"{i}.png")
    (tmp_path / "own.py").write_text(
        "import torch\nfrom torch import nn\n\ndef net():\n    torch.manual_seed(0)\n    last = nn.Linear(32, 1000)\n"
        "    last.bias.data[[0, 217]] += 9\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 7, 16), nn.AdaptiveAvgPool2d(2), nn.Flatten(), last).eval()\n"
    )
    classifier = f"{tmp_path}/own.py:net"
    options = {"classifiers": classifier, "train": tmp_path / "train", "test": tmp_path / "val", "step": 45, "photos": 4}
    figures = started("angles", tmp_path, **options, epochs=1)
    assert figures["photos"] == 4
    for frame in ("inside", "crop"):
        rows = figures["classifiers"][classifier]["frames"][frame]["of ten classes"]
        assert {len(row["accuracy"]) for row in rows.values()} == {8}
        assert rows["oracle"]["accuracy"][0] == rows["bare"]["accuracy"][0]
        assert rows["oracle"]["kept"] == 1
    started("angles", tmp_path, draw=tmp_path / "angles.png")
    with Image.open(tmp_path / "angles.png") as drawn:
        assert drawn.width > 1000
    net, x = common.predictor(classifier), torch.rand(3, 3, 64, 64)
    so2 = adapt(net, "SO2", outputs="logits", canonicalizer="photos-so2").canonicalizer
    pose = so2(x)
    for coverage in (None, 0.9):
        model = adapt(net, "SO2", inputs=angles.BACK, outputs="logits", canonicalizer=so2, coverage=coverage)
        with torch.no_grad():
            torch.testing.assert_close(common.answered(net, x, pose, angles.BACK, coverage), model(x).softmax(1))


def test_what_got_slower_is_said_beyond_what_was_seen(scripts):
    import guard

    before = [1.0, 1.2]
    assert guard.verdict([1.1, 1.5], before) == "as before", "their ranges meet"
    assert guard.verdict([1.25, 1.5], before) == "as before", "by less than a twentieth"
    assert guard.verdict([1.3, 1.5], before).startswith("WORSE: 1 to 1.2")
    assert guard.verdict([0.5, 0.6], before) == "better"
    assert guard.verdict([0.5, 0.6], None) == "new"


@pytest.mark.slow
def test_exports_are_compared_batch_by_batch(scripts, monkeypatch, tmp_path, unchecked):
    import exports

    monkeypatch.setattr(exports, "BATCHES", 3)
    found = exports.compared("D4", "boxes", ".pt2", tmp_path)
    assert (found["within"], found["batches"]) == (3, 3)
    monkeypatch.setattr(exports, "runner", lambda file: lambda x: [torch.zeros(len(x), 64, 4), torch.zeros(len(x), 64)])
    assert exports.compared("D4", "boxes", ".pt2", tmp_path)["within"] == 0, "control"
