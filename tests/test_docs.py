"""Every Python snippet of the README and the docs runs; every table in the README is what the committed figures say."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


FILLED = ("measured", "text", "angles", "shifts", "volumes", "sizes", "folders", "deploy")


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def outputs(page: Path) -> list[str]:
    """What a page says that its snippets print."""
    return re.findall(r"```\n\n```text\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


NEEDED = {"models": "transformers", "photos": "transformers", "prompt": "transformers", "retrieve": "transformers"}
NEEDED |= {"detection": "pycocotools", "README": "efficientnet_lite_pytorch", "index": "efficientnet_lite_pytorch"}
# it quotes the source, which tests/test_layers.py holds equal
SHOWN = [page.stem for page in pages() if snippets(page) and page.stem != "architecture"]


@pytest.mark.parametrize("name", SHOWN)
def test_snippets_run_in_order(name, capsys, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    if name == "deploy":  # the checks of shapes are no part of a graph
        request.getfixturevalue("unchecked")
    if name in NEEDED:
        pytest.importorskip(NEEDED[name])
    page = next(page for page in pages() if page.stem == name)
    scope: dict = {"__name__": name}
    for snippet in snippets(page):
        exec(compile(snippet, page.name, "exec"), scope)
    printed = capsys.readouterr().out
    assert printed
    assert all(said in printed for said in outputs(page)), f"{page.name} prints something else"


def test_pages_with_snippets_are_found():
    """The control of the test above."""
    assert {"README", "index", "kinds", "guide", "classify", "clouds"} <= set(SHOWN)
    assert "limits" not in SHOWN
    assert "bare: boathouse; adapted: palace" in "".join(outputs(ROOT / "docs" / "index.md"))


def test_links_lead_somewhere_and_commits_are_checked():
    for page in pages():
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    config = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert (re.findall(r"repo: (\S+)", config), re.findall(r"entry: ([^,]+),", config)) == (["local"], [".ci/run"])


@pytest.mark.parametrize(
    "page",
    ["README.md", *(f"docs/{name}.md" for name in FILLED)],
)
def test_tables_and_cells_are_the_committed_figures(monkeypatch, page):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "<!-- " in text
    assert importlib.import_module("readme").filled(text) == text


def test_every_page_with_a_marked_table_is_filled(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    readme = importlib.import_module("readme")
    marked = {page for page in pages() if "<!-- " in page.read_text(encoding="utf-8")}
    assert marked == set(readme.PAGES)
    names = {name for page in marked for name in re.findall(r"<!-- (?:table: )?([\w-]+) -->", page.read_text(encoding="utf-8"))}
    assert names - {"end"} == {*readme.TABLES, *readme.CELLS}
