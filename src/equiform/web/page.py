"""The page itself: what stands where, what happens on a click, and the server, which asks nothing of the network."""

import contextlib
import os
import socket
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .._checks import reason
from .._optional import optional
from ..images.files import SUFFIXES, UnreadableImage
from .answers import Curves, Said, Setup, by_angle, compared, first_answer, name_of
from .drawings import ADAPTED, BARE, curves, dial, marked, picture
from .photos import Sample, read, samples

MAX_UPLOAD = "20mb"
NUM_CLASSES = 5
HEIGHT = 270  # of a picture, so that the page fits a laptop's screen
FIRST_TURN = 135  # degrees that the first photo is turned by
TITLE = "# Equiform: turn the photo, compare the answers"
NO_SAMPLES = "No sample pictures: `pip install 'equiform[web]'` brings those of scikit-image."
NO_MODEL = "No classifier here, only the pose: `pip install 'equiform[web]'` brings one, or name yours, `equiform web MODEL`."
STYLE = """
.gradio-container {max-width: 1320px !important; padding: 4px 16px !important}
.prose h1 {font-size: 20px; margin: 0}
#samples .grid-container {grid-template-columns: repeat(3, minmax(0, 1fr)) !important; gap: 4px; margin: 0}
#samples .grid-wrap {overflow: hidden !important}
#upload button {padding-top: 24px}
#upload .wrap {font-size: 14px; line-height: 1.3}
:is(#view, #upright, #bare, #adapted) [data-testid=block-label] {position: static; border: none}
:is(#view, #upright, #bare, #adapted) .image-container {height: calc(100% - 26px) !important}
@media (max-width: 640px) {.row > * {flex-basis: 100% !important}}
#notes p {font-size: 12px; line-height: 1.4; color: #667085}
.circle {margin: 0; text-align: center; color: #344054}
.circle figcaption {font-size: 14px; text-align: left}
.circle svg {width: 100%; height: 218px}
.circle p {font-size: 12px; margin: 0; line-height: 1.3}
"""
STYLE += f"#bare {{--stat-background-fill: {BARE}}} #adapted {{--stat-background-fill: {ADAPTED}}}"


def page(setup: Setup) -> Any:
    """The page of a model, as gradio's Blocks."""
    gradio: Any = optional("gradio", "web")
    sort, found = first_answer(setup).sort, samples()
    with gradio.Blocks(title="Equiform", analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True) as blocks:
        _connect(gradio, blocks, _laid_out(gradio, setup, sort, found), setup, sort, found)
    return blocks


def _laid_out(gradio: Any, setup: Setup, sort: str, found: list[Sample]) -> SimpleNamespace:
    """What stands on the page; beside it what a visitor has chosen: the photo, and what was measured of it."""
    parts = SimpleNamespace(photo=gradio.State(None), measured=gradio.State(None))
    gradio.Markdown(TITLE)
    with gradio.Row(equal_height=False):
        with gradio.Column(scale=1, min_width=240):
            parts.slider = gradio.Slider(0, 360, FIRST_TURN, step=1, label="Turned by, degrees", buttons=[], elem_id="turn")
            parts.gallery = _samples(gradio, found)
            label, endings = f"Or a photo of yours, up to {MAX_UPLOAD.upper()}", sorted(SUFFIXES)
            parts.upload = gradio.File(label=label, file_types=endings, height=132, elem_id="upload")
            gradio.Markdown("\n\n".join(_notes(setup, sort, found)), elem_id="notes")
        with gradio.Column(scale=3):
            with gradio.Row(equal_height=True):
                parts.view, parts.bare = _image(gradio, "The photo, turned", "view"), _answer(gradio, sort, "bare")
                parts.circle = gradio.HTML(elem_id="curves")
            with gradio.Row(equal_height=True):
                parts.upright, parts.adapted = _image(gradio, "Turned back", "upright"), _answer(gradio, sort, "adapted")
                parts.pose = gradio.HTML(elem_id="pose")
    return parts


def _connect(gradio: Any, blocks: Any, parts: SimpleNamespace, setup: Setup, sort: str, found: list[Sample]) -> None:
    """What happens when the page opens, a photo is chosen or sent, the slider moves; none of it is an API."""
    private = {"api_visibility": "private"}
    chosen, shown = [parts.photo, parts.measured], [parts.view, parts.upright, parts.pose, parts.bare, parts.adapted]

    def first() -> Any:
        return (read(found[0].path) if found else None), None

    def picked(event: gradio.SelectData) -> Any:
        return read(found[event.index].path), None

    def uploaded(path: str) -> Any:
        try:
            return read(path), None
        except UnreadableImage as error:
            raise gradio.Error(_told(error, path), duration=None, print_exception=False) from None

    def show(photo: Any, degrees: float) -> tuple[Any, ...]:
        return (None,) * len(shown) if photo is None else _shown(setup, sort, photo, degrees)

    def measure(photo: Any) -> Any:
        return None if photo is None else by_angle(setup, photo)

    def draw(photo: Any, measured: Curves | None, degrees: float) -> str:
        return "" if photo is None else curves(measured, degrees, sort)

    drawing, showing = (draw, [*chosen, parts.slider], parts.circle), (show, [parts.photo, parts.slider], shown)
    sent = parts.upload.upload(uploaded, parts.upload, chosen, **private)
    for end in (sent.success, sent.failure):  # the place to drop a file is free again
        end(lambda: None, None, parts.upload, **private)
    for begun in (blocks.load(first, None, chosen, **private), parts.gallery.select(picked, None, chosen, **private), sent):
        begun.success(*drawing, **private)
        measuring = begun.success(*showing, **private).success(measure, parts.photo, parts.measured, **private)
        measuring.success(*drawing, **private)
    for event in (showing, drawing):
        parts.slider.change(*event, show_progress="hidden", trigger_mode="always_last", **private)


def _samples(gradio: Any, found: list[Sample]) -> Any:
    return gradio.Gallery(
        [(str(one.path), one.title) for one in found],
        label="Pictures",
        columns=3,
        height=222,
        object_fit="cover",
        allow_preview=False,
        buttons=[],
        interactive=False,
        visible=bool(found),
        elem_id="samples",
    )


def _notes(setup: Setup, sort: str, found: list[Sample]) -> list[str]:
    credits = "Pictures: " + "; ".join(f"{one.title}, {one.credit}" for one in found) + "."
    return [f"Model: **{setup.title}**", *[NO_MODEL] * (sort == "nothing"), credits if found else NO_SAMPLES]


def _image(gradio: Any, label: str, name: str, **options: Any) -> Any:
    return gradio.Image(label=label, interactive=False, buttons=[], height=HEIGHT, elem_id=name, **options)


def _answer(gradio: Any, sort: str, name: str) -> Any:
    label = {"bare": "Bare model, of the photo as it lies", "adapted": "Adapted model, of the photo turned back"}[name]
    if sort == "classes":
        return gradio.Label(label=label, num_top_classes=NUM_CLASSES, show_heading=False, elem_id=name)
    return _image(gradio, label, name, visible=sort == "places")


def _shown(setup: Setup, sort: str, photo: Any, degrees: float) -> tuple[Any, ...]:
    """The five things that follow the slider."""
    found = compared(setup, photo, degrees)
    if sort == "classes":
        answers: Any = [_bars(setup, said) for said in (found.bare, found.adapted)]
    else:
        answers = [marked(found.view, said, setup.side) for said in (found.bare, found.adapted)]
    return picture(found.view), picture(found.upright), dial(found, setup.model.group, degrees), *answers


def _bars(setup: Setup, said: Said) -> dict[str, float]:
    assert said.classes is not None  # the sort was checked
    best = said.classes.topk(min(NUM_CLASSES, len(said.classes)))
    return {name_of(setup.names, int(i)): float(share) for share, i in zip(best.values, best.indices, strict=True)}


def _told(error: Exception, path: str) -> str:
    """The error without the folder of this machine that the file was put in."""
    return reason(error).replace(path, Path(path).name)


def check_host(host: str) -> None:
    """Raise OSError where nothing on this machine can listen at that address: the server would try it at every port."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as listener:
            listener.bind(address)
    except (OSError, ValueError) as error:  # ValueError: no name of a machine at all
        raise OSError(
            f"the page cannot be served at {host!r}, which is no address of this machine ({reason(error)}): leave --host out, "
            "or 0.0.0.0 for all its addresses"
        ) from error


def serve(setup: Setup, host: str, port: int | None, say: Any) -> None:
    """Show the page until Ctrl-C. Raises OSError where the port is taken."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with tempfile.TemporaryDirectory(prefix="equiform-web-") as folder:  # uploads go when the page does
        os.environ["GRADIO_TEMP_DIR"] = folder
        gradio: Any = optional("gradio", "web")
        blocks = page(setup)
        theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
        options = {"prevent_thread_lock": True, "quiet": True, "share": False, "ssr_mode": False, "footer_links": []}
        options |= {"max_file_size": MAX_UPLOAD, "theme": theme, "css": STYLE}
        try:
            _, address, _ = blocks.launch(server_name=host, server_port=port, **options)
        except OSError as error:
            raise OSError(
                f"the page cannot be served at {host}, port {port or '7860 to 7959'}: it is taken; choose another --port"
            ) from error
        say(f"{setup.title}\nopen {address}   (Ctrl-C ends it)")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
        blocks.close(verbose=False)
