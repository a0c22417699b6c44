"""Every Python snippet of the README and the docs runs; every table in the README is what the committed figures say."""

import importlib
import json
import re
from pathlib import Path

import pytest

from equiform.evaluation import OrbitReport

ROOT = Path(__file__).resolve().parents[1]


PAGES = ["README.md", *(f"docs/{name}.md" for name in ("guide", "models", "detection", "photos", "text", "clouds"))]
PAGES += ["docs/volumes.md", "docs/sizes.md"]


@pytest.mark.parametrize("page", [pytest.param(page, marks=[pytest.mark.slow] * ("README" in page)) for page in PAGES])
def test_snippets_run_in_order(page, capsys):
    if page in ("docs/models.md", "docs/photos.md"):
        pytest.importorskip("transformers")
    if page == "docs/detection.md":
        pytest.importorskip("pycocotools")
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert snippets
    scope: dict = {"__name__": page}
    for snippet in snippets:
        exec(compile(snippet, page, "exec"), scope)
    assert capsys.readouterr().out


def test_links_lead_somewhere_and_commits_are_checked():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    config = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert (re.findall(r"repo: (\S+)", config), re.findall(r"entry: ([^,]+),", config)) == (["local"], [".ci/run"])


def test_the_table_is_the_committed_one(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- table: photos -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert table
    figures = json.loads((ROOT / "benchmarks" / "results" / "photos.json").read_text(encoding="utf-8"))
    (tmp_path / "report.json").write_text(json.dumps(figures["report"]))
    assert table[1].strip() == OrbitReport.load(tmp_path / "report.json").to_markdown().strip()


def test_the_table_of_shifts_is_the_committed_one(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark, page = importlib.import_module("shifts"), (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- table: shifts -->\n(.*?)<!-- end -->", page, re.DOTALL)
    assert table
    figures = json.loads((ROOT / "benchmarks" / "results" / "shifts.json").read_text(encoding="utf-8"))
    assert table[1].strip() == benchmark.markdown(figures)


@pytest.mark.parametrize("name", ["text", "volumes", "sizes"])
def test_a_table_of_the_docs_is_the_committed_one(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark, page = importlib.import_module(name), (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    table = re.search(rf"<!-- table: {name} -->\n(.*?)<!-- end -->", page, re.DOTALL)
    assert table
    figures = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    assert table[1].strip() == benchmark.table(figures)
