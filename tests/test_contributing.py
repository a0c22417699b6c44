"""What docs/contributing.md says: a toy canonicalizer, group, kind, known model and metric, each a row of its table."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import equiform
from equiform import OrbitCanonicalizer, act, adapt, group
from equiform.canonicalizers.images import ImageCanonicalizer
from equiform.canonicalizers.table import CANONICALIZERS
from equiform.evaluation import metrics
from equiform.geometry import actions, groups
from equiform.geometry.groups import PlaneGroup
from equiform.predictors import known
from equiform.predictors.table import Adapter
from equiform.testing import check_equivariant

PAGE = Path(__file__).parents[1] / "docs" / "contributing.md"


class Brightest(ImageCanonicalizer):
    """Upright is bright at the top."""

    name = "brightest"

    def __init__(self, group: str | groups.Group, *, rows: int = 8):
        super().__init__(group, 16)
        self.rows, self.sharpness = rows, nn.Parameter(torch.tensor(3.0))

    def config(self) -> dict:
        return {"group": self.group.name, "rows": self.rows}

    def scores(self, view: Tensor) -> Tensor:
        turned = [act(g[None], view)[:, :, : self.rows] for g in groups.inverse(self.elements)]
        return self.sharpness * torch.stack([x.double().mean((1, 2, 3)) for x in turned], 1).float()


class UpsideDown(PlaneGroup):
    """The identity and a flip of the rows."""

    def __init__(self) -> None:
        super().__init__("V", 1, reflections=True)

    def _listed(self) -> Tensor:
        return torch.diag_embed(torch.tensor([[1.0, 1, 1], [1, -1, 1]], dtype=torch.float64))

    def label(self, g: Tensor) -> str:
        return "upside down" if g[1, 1] < 0 else "upright"


class Known(nn.Module):
    """A classifier whose class is in the table."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :4].float().mean((2, 3))


def pictures(n: int = 6) -> Tensor:
    x = torch.rand(n, 3, 12, 12)
    x[:, :, :6] += 1
    return x


def test_a_canonicalizer(monkeypatch, tmp_path):
    monkeypatch.setitem(CANONICALIZERS, Brightest.name, Brightest)
    model, x = adapt(Known(), "C4", outputs="logits", canonicalizer=Brightest("C4", rows=4)), pictures()
    check_equivariant(model, x, "C4")
    before = model.canonicalizer.sharpness.item()
    equiform.fit(model, x, epochs=1, enable_progress_bar=False)
    assert model.canonicalizer.sharpness.item() != before
    model.save(tmp_path)
    again = equiform.load(tmp_path, model.predictor)
    assert torch.equal(again.predict(x).pose.scores, model.predict(x).pose.scores)
    report = equiform.evaluate(again, (x, torch.zeros(6).long()), baselines=[], progress=False)
    assert report.methods[0].pose_accuracy == 1


def test_a_group(monkeypatch, tmp_path):
    monkeypatch.setitem(groups.GROUPS, "V", UpsideDown)
    model, x = adapt(Known(), "V", outputs="logits", canonicalizer=OrbitCanonicalizer("V", resolution=16)), pictures()
    check_equivariant(model, x, "V")
    model.save(tmp_path)
    assert equiform.load(tmp_path, model.predictor).group == group("V") == UpsideDown()
    report = equiform.evaluate(model, (x, torch.zeros(6).long()), baselines=[], progress=False)
    assert (report.group, len(report.elements)) == ("V", 2)
    assert bool((group("V").index(group("V").random(64)).bincount() > 16).all())
    assert [group("V").label(g) for g in group("V").elements] == ["upright", "upside down"]


def act_signs(g: Tensor, x: Tensor, size: tuple[int, int] | None) -> Tensor:
    """A number that changes its sign in a mirror."""
    return x * torch.linalg.det(g).sign().to(x).reshape(-1, *[1] * (x.ndim - 1))


def test_a_kind(monkeypatch, tmp_path):
    monkeypatch.setitem(actions.ACTIONS, "sign", actions.Row(act_signs))

    def handedness(x: Tensor) -> Tensor:
        return (x[..., :6] - x[..., 6:].flip(-1)).mean((1, 2, 3))

    model, x = adapt(handedness, "D1", outputs="sign", canonicalizer=OrbitCanonicalizer("D1", resolution=16)), pictures()
    check_equivariant(model, x, "D1")
    model.save(tmp_path)
    again = equiform.load(tmp_path, handedness)
    assert again.outputs == model.outputs
    flipped = act(group("D1").elements[1:], x)
    assert torch.equal(again(flipped), -again(x))
    assert float(again(x).abs().min()) > 0, "control"


def test_a_known_model(monkeypatch):
    with pytest.raises(ValueError, match="how the outputs of Known move is not known"):
        adapt(Known(), "C4")
    monkeypatch.setattr(known, "ADAPTERS", [Adapter("test_contributing.Known", "image", "logits")])
    model = adapt(Known(), "C4", canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    assert (model.inputs.name, model.outputs.name) == ("image", "logits")


def test_a_metric(monkeypatch):
    class Worst:
        higher_is_better = False

        def __init__(self, kinds: object) -> None:
            self.most = 0.0

        def update(self, output: Tensor, target: Tensor) -> None:
            self.most = max(self.most, float((output.argmax(1) != target).float().max()))

        def compute(self) -> float:
            return self.most

    monkeypatch.setitem(metrics.METRICS, "worst_error", metrics.Named(Worst))
    model = adapt(Known(), "C4", outputs="logits", canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    x = pictures()
    report = equiform.evaluate(model, (x, model(x).argmax(1)), metric="worst_error", baselines=[], progress=False)
    assert report.methods[0].values == [0.0] * 4
    assert report.methods[0].higher_is_better is False


def test_the_page_names_what_there_is():
    page = PAGE.read_text("utf-8")
    assert [line for line in page.splitlines() if line.startswith("| ")][2:], "the table of the five"
    for name in re.findall(r"`([\w/]+\.py)`", page):
        root = PAGE.parents[1]
        assert (root / name).is_file() or (root / "src" / "equiform" / name).is_file(), name
    for name in re.findall(r"`([A-Z]{5,})`", page):
        sources = [*(PAGE.parents[1] / "src").rglob("*.py"), *Path(__file__).parent.glob("*.py")]
        assert any(re.search(rf"^{name}\b", source.read_text("utf-8"), re.MULTILINE) for source in sources), name
