"""The page itself: what stands where, what happens on a click, and the server, which asks nothing of the network."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from .._checks import reason
from .._optional import optional
from ..images.files import SUFFIXES, UnreadableImage
from .answers import Curves, Said, Setup, by_angle, compared, first_answer, name_of
from .drawings import curves, dial, marked, picture
from .photos import read, samples

MAX_UPLOAD = "20mb"
NUM_CLASSES = 5
FIRST_TURN = 135  # degrees that the first photo is turned by
TITLE = "# Equiform\nTurn the photo: the *bare* model sees it as it lies; the *adapted* one finds the pose and sees it upright."
NO_SAMPLES = "No sample pictures: `pip install 'equiform[web]'` brings those of scikit-image."
NO_MODEL = "No classifier here, only the pose: `pip install 'equiform[web]'` brings one, or name yours, `equiform web MODEL`."
STYLE = """
.gradio-container {max-width: 1320px !important; padding: 8px 16px !important}
.prose h1 {margin: 0}
.circle {margin: 0; text-align: center; color: #344054}
.circle figcaption {font-size: 14px; text-align: left; padding: 2px 4px}
.circle svg {width: 100%; max-height: 250px}
.circle p {font-size: 13px; margin: 0; line-height: 1.3}
"""


def page(setup: Setup) -> Any:
    """The page of a model, as gradio's Blocks."""
    gradio: Any = optional("gradio", "web")
    sort, found = first_answer(setup).sort, samples()
    with gradio.Blocks(title="Equiform", analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True) as blocks:
        photo, measured = gradio.State(None), gradio.State(None)
        gradio.Markdown(TITLE)
        with gradio.Row(equal_height=False):
            with gradio.Column(scale=1, min_width=240):
                upload = gradio.File(
                    label=f"Your photo, up to {MAX_UPLOAD.upper()}", file_types=sorted(SUFFIXES), height=110, elem_id="upload"
                )
                gallery = gradio.Gallery(
                    [(str(one.path), one.title) for one in found],
                    label="Or one of these",
                    columns=3,
                    height=210,
                    object_fit="cover",
                    allow_preview=False,
                    buttons=[],
                    interactive=False,
                    visible=bool(found),
                    elem_id="samples",
                )
                slider = gradio.Slider(
                    0, 360, FIRST_TURN, step=1, label="Turned by (degrees, counter-clockwise)", buttons=[], elem_id="turn"
                )
                notes = [NO_SAMPLES] * (not found) + [NO_MODEL] * (sort == "nothing")
                gradio.Markdown(f"{setup.title}\n\n" + "\n\n".join(notes), elem_id="notes")
            with gradio.Column(scale=3):
                with gradio.Row(equal_height=True):
                    view = _image(gradio, "The photo, turned", "view")
                    upright = _image(gradio, "Canonical form: turned back", "upright")
                    pose = gradio.HTML(elem_id="pose")
                with gradio.Row(equal_height=True):
                    bare, adapted = (_answer(gradio, sort, name) for name in ("bare", "adapted"))
                    circle = gradio.HTML(elem_id="curves")
        shown = [view, upright, pose, bare, adapted]

        def show(photo: Any, degrees: float) -> tuple[Any, ...]:
            return _shown(setup, sort, photo, degrees)

        def uploaded(path: str | None) -> Any:
            if path is None:
                return gradio.skip()
            try:
                return read(path)
            except UnreadableImage as error:
                raise gradio.Error(_told(error, path), title="This file is not shown", duration=None) from None

        def picked(event: gradio.SelectData) -> Any:
            return read(found[event.index].path)

        def first() -> Any:
            return read(found[0].path) if found else None

        def drawn(measured: Curves | None, degrees: float) -> str:
            return curves(measured, degrees, sort)

        def measure(photo: Any, degrees: float) -> tuple[Any, str]:
            measured = None if photo is None else by_angle(setup, photo)
            return measured, drawn(measured, degrees)

        for begin in (
            blocks.load(first, None, photo, api_visibility="private"),
            upload.upload(uploaded, upload, photo, api_visibility="private"),
            gallery.select(picked, None, photo, api_visibility="private"),
        ):
            then = begin.success(show, [photo, slider], shown, api_visibility="private")
            then.success(measure, [photo, slider], [measured, circle], api_visibility="private")
        options: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "always_last"}
        slider.change(show, [photo, slider], shown, **options)
        slider.change(drawn, [measured, slider], circle, queue=False, **options)
    return blocks


def _image(gradio: Any, label: str, name: str) -> Any:
    return gradio.Image(label=label, interactive=False, buttons=[], height=300, elem_id=name)


def _answer(gradio: Any, sort: str, name: str) -> Any:
    label = {"bare": "Bare: as it lies", "adapted": "Adapted: turned back first"}[name]
    if sort == "classes":
        return gradio.Label(label=label, num_top_classes=NUM_CLASSES, show_heading=False, elem_id=name)
    image = _image(gradio, label, name)
    image.visible = sort == "places"
    return image


def _shown(setup: Setup, sort: str, photo: Any, degrees: float) -> tuple[Any, ...]:
    """The five things that follow the slider."""
    if photo is None:
        return (None,) * 5
    found = compared(setup, photo, degrees)
    if sort == "classes":
        answers: Any = [_bars(setup, said) for said in (found.bare, found.adapted)]
    else:
        answers = [marked(found.view, said, setup.side) for said in (found.bare, found.adapted)]
    return picture(found.view), picture(found.upright), dial(found, setup.model.group), *answers


def _bars(setup: Setup, said: Said) -> dict[str, float]:
    assert said.classes is not None  # the sort was checked
    best = said.classes.topk(min(NUM_CLASSES, len(said.classes)))
    return {name_of(setup.names, int(i)): float(share) for share, i in zip(best.values, best.indices, strict=True)}


def _told(error: Exception, path: str) -> str:
    """The error without the folder of this machine that the file was put in."""
    return reason(error).replace(path, Path(path).name)


def serve(setup: Setup, host: str, port: int | None, say: Any) -> None:
    """Show the page until Ctrl-C. Raises OSError where nothing can listen there."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with tempfile.TemporaryDirectory(prefix="equiform-web-") as folder:  # uploads go when the page does
        os.environ["GRADIO_TEMP_DIR"] = folder
        gradio: Any = optional("gradio", "web")
        blocks = page(setup)
        theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
        _, address, _ = blocks.launch(
            server_name=host,
            server_port=port,
            max_file_size=MAX_UPLOAD,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            footer_links=[],
            theme=theme,
            css=STYLE,
        )
        say(f"{setup.title}\nopen {address}   (Ctrl-C ends it)")
        try:
            while True:
                time.sleep(3600)
        finally:
            blocks.close(verbose=False)
