"""The page in a real browser: turn the slider, read the answers, send files, and see that nothing leaves this machine.

With EQUIFORM_SCREENSHOT=docs/web.png the picture of the docs is made (`make figures`).
"""

import json
import os
import re
import signal
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from asserting import python
from browsing import SECONDS, chromium, until
from test_images import png

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("page")]  # one server and one browser
# what the server would have to call to reach another machine is written to a file
SERVER = """
import socket, sys
from equiform.cli.main import main

calls, connect, lookup = open(sys.argv.pop(1), "a", buffering=1), socket.socket.connect, socket.getaddrinfo

def connected(self, address):
    print(address, file=calls)
    return connect(self, address)

def looked_up(host, *more, **options):
    print((host,), file=calls)
    return lookup(host, *more, **options)

socket.socket.connect, socket.getaddrinfo = connected, looked_up
main()
"""
DETECTOR = """
import torch, equiform

def spots():
    def found(x):
        h = x.shape[-1] / 2
        down = x.mean(1)[:, : int(h)].mean((1, 2)) < x.mean(1)[:, int(h) :].mean((1, 2))
        return [{"boxes": torch.tensor([[0.0, h * d, h, h + h * d]]), "labels": torch.tensor([int(d)])} for d in down]

    kinds = equiform.Rows({"boxes": "boxes", "labels": "invariant"})
    return equiform.adapt(found, "SO2", outputs=kinds, canonicalizer="photos-so2")
"""


class Served:
    """`equiform web` in a process of its own."""

    def __init__(self, folder, *arguments):
        self.calls = folder / "calls.txt"
        self.process = python("-c", SERVER, self.calls, "web", *arguments)
        self.said = []
        while "open http" not in (self.said or [""])[-1]:
            line = self.process.stdout.readline()
            assert line, self.process.communicate()[1]
            self.said.append(line)
        self.address = re.search(r"http\S+", self.said[-1]).group()

    def end(self):
        """What was said on standard error until Ctrl-C ended it."""
        self.process.send_signal(signal.SIGINT)
        _, err = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, err
        return err


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'equiform[web]'")
    with chromium() as window:
        yield window


@pytest.fixture(scope="module")
def served(browser, tmp_path_factory):
    pytest.importorskip("skimage")
    pytest.importorskip("efficientnet_lite_pytorch")
    server = Served(tmp_path_factory.mktemp("served"))
    browser.get(server.address)
    measured(browser)  # whichever test comes first
    yield server
    server.process.kill()
    server.process.communicate()  # closes its pipes


def text(browser, name):
    return browser.find_element("id", name).text


def classes(browser, name):
    """What the bare or the adapted model says, with its shares, likeliest first."""
    return [one.text for one in browser.find_elements("css selector", f"#{name} dl")]


def best(browser, name):
    return until(browser, lambda: classes(browser, name))[0].splitlines()[0]


def angle(browser):
    return float(re.search(r"turned by (\d+)°", text(browser, "pose")).group(1))


def turn_to(browser, degrees):
    """By the keys of the slider itself; True once the page shows it."""
    from selenium.webdriver.common.keys import Keys

    slider = browser.find_element("css selector", "#turn input[type=range]")
    before = classes(browser, "bare")
    slider.send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * degrees)
    assert slider.get_attribute("value") == str(degrees)
    return until(browser, lambda: classes(browser, "bare") != before)


def measured(browser):
    return until(browser, lambda: re.search(r"bare ([\d.]+), adapted ([\d.]+)", text(browser, "curves")))


def send(browser, path):
    browser.find_element("css selector", "#upload input[type=file]").send_keys(str(path))


def complaint(browser):
    """The message that came up, closed again."""
    toast = until(browser, lambda: [one for one in browser.find_elements("css selector", ".toast-body") if one.text])[0]
    said = toast.text
    toast.find_element("css selector", "button").click()
    until(browser, lambda: not browser.find_elements("css selector", ".toast-body"))
    return said


def test_turned_the_adapted_model_still_knows_what_it_sees(browser, served):
    bare, adapted = map(float, measured(browser).groups())
    assert adapted > bare + 0.3, "the mean over all angles"
    assert best(browser, "adapted") == "tripod"
    assert best(browser, "bare") != "tripod"
    assert abs(angle(browser) - 135) < 10
    if path := os.environ.get("EQUIFORM_SCREENSHOT"):
        browser.save_screenshot(path)
    turn_to(browser, 0)
    until(browser, lambda: best(browser, "bare") == "tripod")
    turn_to(browser, 90)
    until(browser, lambda: abs(angle(browser) - 90) < 10)
    assert best(browser, "adapted") == "tripod"
    assert best(browser, "bare") != "tripod"


def test_the_page_fits_a_laptop(browser, served):
    measured(browser)
    height, width = (browser.execute_script(f"return document.documentElement.scroll{side}") for side in ("Height", "Width"))
    assert height <= 768
    assert width <= 1366


def test_another_picture_and_a_photo_of_ones_own(browser, served, tmp_path):
    before = classes(browser, "adapted")
    until(browser, lambda: browser.find_elements("css selector", "#samples button")[1:])[0].click()
    until(browser, lambda: classes(browser, "adapted") != before)
    measured(browser)
    before = classes(browser, "adapted")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)).save(tmp_path / "noise.jpg")
    send(browser, tmp_path / "noise.jpg")
    until(browser, lambda: classes(browser, "adapted") != before)
    until(browser, lambda: "Drop" in text(browser, "upload"))


def test_files_that_are_no_photos_are_told_of(browser, served, tmp_path):
    Image.new("RGB", (1, 1), "red").save(tmp_path / "warm.png")
    Image.new("CMYK", (6000, 5000), "green").save(tmp_path / "large.jpg")  # 30 megapixels
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("yellow", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "text.png").write_text("Dear reader, this is no photo.")
    (tmp_path / "huge.png").write_bytes(png(20_000, 15_000))
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "nan.tif")
    (tmp_path / "large.png").write_bytes(b"\0" * 21_000_000)
    before = classes(browser, "bare")
    for name, message in [
        ("text.png", "text.png: not an image, or of an unknown format"),
        ("huge.png", "huge.png: more than 178 megapixels; make it smaller first"),
        ("nan.tif", "nan.tif: has pixels that are not finite"),
        ("large.png", "maximum allowed size"),
    ]:
        send(browser, tmp_path / name)
        said = complaint(browser)
        assert message in said, said
        assert str(tmp_path.anchor + "tmp") not in said, "no folder of the server"
    assert classes(browser, "bare") == before
    for name in ("warm.png", "large.jpg", "moving.gif"):  # and it goes on
        before = classes(browser, "bare")
        send(browser, tmp_path / name)
        until(browser, lambda before=before: classes(browser, "bare") != before)


def test_there_is_no_api_to_call(served):
    with urlopen(f"{served.address}gradio_api/info") as answer:
        assert json.load(answer) == {"named_endpoints": {}, "unnamed_endpoints": {}}


def test_boxes_are_drawn(browser, served, tmp_path):
    (tmp_path / "detector.py").write_text(DETECTOR)
    other = Served(tmp_path, f"{tmp_path / 'detector.py'}:spots")
    try:
        browser.get(other.address)
        found = measured(browser)
        assert float(found.group(2)) > float(found.group(1)), "boxes move with the photo"
        assert browser.find_elements("css selector", "#bare img")
        assert browser.find_elements("css selector", "#adapted img")
        assert "agreement with the upright answer" in text(browser, "curves")
    finally:
        other.end()
        browser.get(served.address)


def test_a_port_that_is_taken(served, tmp_path):
    (tmp_path / "detector.py").write_text(DETECTOR)
    port = urlsplit(served.address).port
    process = python("-m", "equiform", "web", f"{tmp_path / 'detector.py'}:spots", "--normalize", "none", "--port", port)
    out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (2, "")
    assert re.fullmatch(
        rf"error: the page cannot be served at 127.0.0.1, port {port}: it is taken; choose another --port\n", err
    )


def test_nothing_leaves_this_machine(browser, served):
    """Of all that the tests above did; and no trace stays."""
    requests = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in requests if one["method"] == "Network.requestWillBeSent"]
    assert len(asked) > 20, "control: requests are seen"
    assert {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))} == {"127.0.0.1"}
    errors = [entry for entry in browser.get_log("browser") if entry["source"] == "javascript"]
    assert errors == []
    folders = set(re.findall(r"/gradio_api/file=(\S+?/equiform-web-\w+)/", " ".join(asked)))
    assert folders
    assert served.end() == ""
    assert not any(Path(folder).exists() for folder in folders)
    hosts = set(re.findall(r"^\('([^']*)'", served.calls.read_text(), re.MULTILINE))
    assert "127.0.0.1" in hosts, "control: calls are seen"
    assert hosts <= {"127.0.0.1", "localhost"}
