"""The site: it builds without a warning, its tutorials run, its links lead somewhere, and it asks no other machine."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import equiform
from browsing import chromium, until

ROOT = Path(__file__).resolve().parents[1]
# what a page fetches by itself; a link that somebody may follow is none of them
FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
NOT_FETCHED = {"canonical", "next", "prev"}


class Page(HTMLParser):
    """The links, the anchors, and what is fetched."""

    def __init__(self, text: str):
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        if tag in FETCHED and FETCHED[tag] in given and given.get("rel") not in NOT_FETCHED:
            self.fetched.add(given[FETCHED[tag]])


def broken(folder: Path) -> list[str]:
    """The links within a site that lead nowhere, to a page that is not there or a place on it that is not."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    found = []
    for path, page in pages.items():
        for link in page.links | page.fetched:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":  # which stands for any address
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = pages[target].anchors if target in pages else set()
            if not target.exists() or (parts.fragment and target in pages and unquote(parts.fragment) not in known):
                found.append(f"{path.relative_to(folder)}: {link}")
    return found


def elsewhere(folder: Path) -> list[str]:
    """What pages and style sheets fetch from other machines."""
    found = []
    for path in folder.rglob("*.html"):
        found += [link for link in Page(path.read_text(encoding="utf-8")).fetched if urlsplit(link).netloc]
    for path in folder.rglob("*.css"):
        found += re.findall(r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')]+)", path.read_text(encoding="utf-8"))
    return found


def test_links_and_what_is_fetched_are_seen(tmp_path):
    """The control of the test below."""
    (tmp_path / "index.html").write_text(
        '<h1 id="here">x</h1><a href="#here">1</a><a href="#there">2</a><a href="other.html#a">3</a><a href="no.html">4</a>'
        '<a href="https://example.org/">5</a><img src="//example.org/x.png"><link rel="stylesheet" href="own.css">'
    )
    (tmp_path / "other.html").write_text('<p id="b"></p>')
    (tmp_path / "own.css").write_text("@import url(https://example.org/font.css);")
    assert sorted(broken(tmp_path)) == ["index.html: #there", "index.html: no.html", "index.html: other.html#a"]
    assert sorted(elsewhere(tmp_path)) == ["//example.org/x.png", "https://example.org/font.css"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Built once for the tests that read it, its tutorials executed."""
    for package in (
        "mkdocs",
        "mkdocstrings",
        "mkdocs_jupyter",
        "gradio",
        "transformers",
        "efficientnet_lite_pytorch",
        "skimage",
    ):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    built = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path, "EQUIFORM_EXECUTE": "true"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    return folder


@pytest.mark.slow
@pytest.mark.xdist_group("site")
def test_the_site_builds_without_a_warning_and_holds_together(site):
    assert broken(site) == []
    assert elsewhere(site) == []
    for name in ("classifier", "prompts", "library"):
        page = (site / "tutorials" / f"{name}.html").read_text(encoding="utf-8")
        assert re.search(r'<div class="jp-RenderedImage[^>]*>\s*<img', page), "a picture that the tutorial drew"
        assert not re.search(r"<div[^>]*vnd\.jupyter\.stderr", page), "a warning in a tutorial"
    reference = (site / "api" / "equiform.html").read_text(encoding="utf-8")
    assert [name for name in equiform.__all__ if f'id="equiform.{name}"' not in reference] == []
    assert all(f"<strong>{name}</strong>" in reference for name in ("canonicalizer", "inputs, outputs", "baselines"))


@pytest.mark.slow
@pytest.mark.xdist_group("site")
def test_pages_opened_as_files_can_be_searched(site):
    with chromium("1280,800") as browser:
        browser.get((site / "api" / "testing.html").as_uri())
        browser.execute_script("document.querySelector('[data-md-toggle=search]').click()")
        browser.find_element("css selector", ".md-search__input").send_keys("polyphase")
        found = until(browser, lambda: browser.find_elements("css selector", "a.md-search-result__link"))
        assert any("shifts.html" in one.get_attribute("href") for one in found)
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
