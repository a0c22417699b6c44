"""Every Python snippet of the README and the docs runs; every table in the README is what the committed figures say."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer

from equiform.cli.main import app

ROOT = Path(__file__).resolve().parents[1]


FILLED = ("choose", "measured", "text", "angles", "shifts", "volumes", "sizes", "folders", "deploy")


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def outputs(page: Path) -> list[str]:
    """What a page says that its snippets print."""
    return re.findall(r"```\n\n```text\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


NEEDED = {"models": "transformers", "photos": "transformers", "prompt": "transformers", "retrieve": "transformers"}
NEEDED |= {
    "classify": "efficientnet_lite_pytorch",
    "detection": "pycocotools",
    "yours": "pycocotools",
    "README": "efficientnet_lite_pytorch",
    "index": "efficientnet_lite_pytorch",
}
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


# ------------------------------------------------------------------------------------------------------- commands
COMMANDS = {"equiform": typer.main.get_command(app), "python": None}


def commands(page: Path) -> list[tuple[str, bool]]:
    """What a reader would type, and whether that is a whole command: a line of a block, or a span within a sentence."""
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```(?:console|bash)\n(.*?)```", text, re.DOTALL))
    lines = [line.strip() for line in blocks.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [
        (line, whole) for found, whole in ((lines, True), (spans, False)) for line in found if line.split(" ")[0] in COMMANDS
    ]


def check_command(line: str, whole: bool) -> None:
    """Read it as the real parser would, without running it. Raises where an option is not known, or something is missing."""
    program, *words = shlex.split(line, comments=True)
    if program == "python":
        check_script(words)
    elif words and "[" not in line:  # the command itself, or a line of usage
        group = COMMANDS["equiform"]
        with group.make_context("equiform", list(words)) as context:
            name, command, rest = group.resolve_command(context, list(words))
            try:
                command.make_context(name, rest, parent=context).close()
            except typer.BadParameter as error:
                if whole or type(error).__name__ != "MissingParameter":
                    raise


def check_script(words: list[str]) -> None:
    """Its file is there, and names every option."""
    if not words[0].startswith(("recipes/", "benchmarks/")):
        return
    text = (ROOT / words[0]).read_text(encoding="utf-8")
    for option in (word.split("=")[0] for word in words if word.startswith("--")):
        if f'"{option}"' not in text:
            raise ValueError(f"{words[0]} has no option {option}")


GIVEN = [(page.stem, line, whole) for page in pages() for line, whole in commands(page)]


@pytest.mark.parametrize("page, line, whole", GIVEN, ids=[f"{page}: {line}" for page, line, _ in GIVEN])
def test_commands_are_those_that_there_are(page, line, whole):
    check_command(line, whole)


def test_wrong_commands_are_seen():
    """The control of the test above."""
    assert {"README", "level", "folders", "deploy", "text"} <= {page for page, _, whole in GIVEN if whole}
    wrong = type(typer.BadParameter("")).__mro__[1], ValueError  # what typer raises for anything that is not right
    for line in (
        "equiform levl photos/ --out a",
        "equiform upright photos/ --out a --atleast 0.97",
        "equiform upright photos/ --out a --at-least high  # note",
        "equiform upright photos/",
        "python recipes/read_text.py --jsn scan.png",
    ):
        with pytest.raises(wrong):
            check_command(line, True)
    with pytest.raises(FileNotFoundError):
        check_command("python recipes/none.py", True)
    check_command("equiform upright --prior 0.95", False)


# --------------------------------------------------------------------------------------------------------- figures
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
