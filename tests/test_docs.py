"""Every Python snippet of the README and the docs runs; every table in the README is what the committed figures say."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


PAGES = ["README.md", *(f"docs/{name}.md" for name in ("guide", "models", "detection", "photos", "text", "clouds"))]
PAGES += ["docs/volumes.md", "docs/sizes.md", "docs/deploy.md", "docs/web.md"]


@pytest.mark.parametrize("page", [pytest.param(page, marks=[pytest.mark.slow] * ("README" in page)) for page in PAGES])
def test_snippets_run_in_order(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
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


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{name}.md" for name in ("text", "guide", "volumes", "sizes", "deploy", "folders"))]
)
def test_tables_and_cells_are_the_committed_figures(monkeypatch, page):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "<!-- " in text
    assert importlib.import_module("readme").filled(text) == text
