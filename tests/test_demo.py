"""The demonstration, whole and short: the files it writes, and that it shows what it claims."""

import json

import pytest

from equiform.cli.main import demo
from equiform.evaluation import OrbitReport


@pytest.mark.slow
def test_the_demonstration(tmp_path, capsys, unchecked):
    report = demo.run(tmp_path, classifier_epochs=3, epochs=3)
    bare, adapted = report["bare"], report["adapted"]
    assert bare.values[0] > 0.8 > 0.6 > bare.mean  # knows upright digits, fails on turned ones
    assert adapted.mean > bare.mean + 0.2
    assert (adapted.equivariance_error, len(set(adapted.values))) == (0, 1)
    assert OrbitReport.load(tmp_path / "report.json").num_samples == 597
    assert json.loads((tmp_path / "adapter" / "config.json").read_text())["format"] == "equiform"
    assert "data:image/png;base64," in (tmp_path / "report.html").read_text()
    assert {path.name for path in tmp_path.iterdir()} >= {"report.csv", "accuracy.png", "digits.png"}
    out = capsys.readouterr().out
    assert "At 24 angles: " in out, "all that the picture shows is measured"
    assert "report.html" in out
    assert "coverage" in out
