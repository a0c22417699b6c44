"""What the page draws: boxes and masks on a photo, the dial of the pose, the curves by angle. Angles as photos turn:
0 up, counter-clockwise."""

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..geometry.groups import Group
from .answers import Compared, Curves, Said

if TYPE_CHECKING:
    from PIL.Image import Image

BARE, ADAPTED, GREY = "#D55E00", "#0072B2", "#667085"  # Okabe and Ito's, as in the reports
LABELS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
RADIUS = 100.0  # of the dial and the curves, in their own units
DASHED = "dashed: how the photo is turned"
MOST_NAMED = 5  # labels of a mask that are written on the photo
RINGS = (0.25, 0.5, 0.75, 1.0)


def picture(view: Float[Tensor, "3 h w"]) -> "Image":
    """The photo as it is."""
    import PIL.Image

    return PIL.Image.fromarray((view * 255).round().byte().permute(1, 2, 0).contiguous().numpy())


def marked(view: Float[Tensor, "3 h w"], said: Said, side: int) -> "Image":
    """The photo with the boxes and the mask that were found on a canvas of that side; boxes that reach beyond it end there."""
    from PIL import ImageDraw, ImageFont

    image, scale = picture(view), view.shape[-1] / side
    shown = [] if said.mask is None else _shown(said)
    if said.mask is not None:
        image = _tinted(image, F.interpolate(said.mask[None, None].float(), view.shape[-2:], mode="nearest")[0, 0], shown)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(20)

    def write(at: tuple[float, float], label: str, colour: str) -> None:
        pen.rectangle(pen.textbbox(at, label, font=font), fill=colour)
        pen.text(at, label, fill="white", font=font)

    if said.boxes is None:
        for i, label in enumerate(shown[:MOST_NAMED] if said.labels else []):
            write((4, 2 + 26 * i), said.labels[label], _colour(label))
        return image
    for i, (box, label) in enumerate(zip(said.boxes, said.labels, strict=True)):
        corners = (box * scale).clamp(0, view.shape[-1] - 1).tolist()
        pen.rectangle(corners, outline=_colour(i + 1), width=3)
        write((corners[0] + 4, corners[1] + 2), label, _colour(i + 1))
    return image


def _shown(said: Said) -> list[int]:
    """The labels of a mask that are drawn, the largest first: 0 is the background, unless it has another name; what is below
    it, or beyond the names, is no label."""
    assert said.mask is not None
    named = said.labels if said.boxes is None else ()
    first = 0 if named and "background" not in named[0].lower() else 1
    labels, sizes = said.mask.unique(return_counts=True)
    found = [int(labels[i]) for i in sizes.argsort(descending=True, stable=True)]
    return [label for label in found if first <= label < (len(named) or label + 1)]


def _colour(label: int) -> str:
    return LABELS[(label - 1) % len(LABELS)]


def _tinted(image: "Image", mask: Tensor, labels: Sequence[int]) -> "Image":
    """Each of the labels in a colour of its own, half through."""
    import PIL.Image
    import PIL.ImageColor

    pixels = np.asarray(image).astype(np.float32)
    for label in labels:
        inside = mask.numpy() == label
        pixels[inside] = 0.45 * pixels[inside] + 0.55 * np.array(PIL.ImageColor.getrgb(_colour(label)), np.float32)
    return PIL.Image.fromarray(pixels.round().astype(np.uint8))


# ------------------------------------------------------------------------------------------------------------ circles


def dial(found: Compared, group: Group, degrees: float) -> str:
    """The poses that come into question as petals, as long as they are likely; and the likeliest in words."""
    pose = found.pose
    angles, _ = group.angles(pose.candidates[0])
    shares = pose.probabilities[0].tolist()
    best = int(pose.index[0])
    petals = "".join(
        _petal(angle, share, ADAPTED if i == best else "#98a2b3")
        for i, (angle, share) in enumerate(zip(angles, shares, strict=True))
    )
    (angle,), (flip,) = group.angles(pose.g)
    words = f"turned by {round(angle) % 360}°" + (", mirrored" if flip else "")
    sure = f"confidence {float(pose.confidence[0]):.0%}"
    return _circle(petals + _hand(degrees), f"<b>{words}</b>, {sure}<br>{DASHED}", "The pose that was found")


def curves(found: Curves | None, degrees: float, sort: str) -> str:
    """Both models by angle, and a line at the angle that the photo has now."""
    if found is None:
        return _circle(_hand(degrees), "measuring at all angles …<br>&nbsp;", "At all angles")
    names = ("bare", "adapted") if sort != "nothing" else ("taken as upright", "turn found")
    lines = _closed(found.degrees, found.bare, BARE) + _closed(found.degrees, found.adapted, ADAPTED)
    means = (sum(values) / len(values) for values in (found.bare, found.adapted))
    legend = ", ".join(
        f"<b style='color:{colour}'>{name}</b> {mean:.2f}"
        for name, colour, mean in zip(names, (BARE, ADAPTED), means, strict=True)
    )
    return _circle(lines + _hand(degrees), f"mean: {legend}<br>{escape(found.title)}", "At all angles")


def _at(degrees: float, radius: float) -> str:
    angle = math.radians(degrees)
    return f"{-radius * math.sin(angle):.1f},{-radius * math.cos(angle):.1f}"


def _petal(degrees: float, share: float, colour: str) -> str:
    length = RADIUS * share
    half = math.degrees(math.atan2(7, max(length, 7)))
    points = " ".join(["0,0", _at(degrees - half, 0.8 * length), _at(degrees, length), _at(degrees + half, 0.8 * length)])
    return f"<polygon points='{points}' fill='{colour}'><title>{round(degrees) % 360}°: {share:.0%}</title></polygon>"


def _hand(degrees: float) -> str:
    x, y = _at(degrees, RADIUS).split(",")
    return f"<line x1='0' y1='0' x2='{x}' y2='{y}' stroke='{GREY}' stroke-width='1.5' stroke-dasharray='4 3'/>"


def _closed(degrees: Sequence[float], values: Sequence[float], colour: str) -> str:
    """Arcs, not chords: a model that answers alike at every angle is a circle."""
    around = np.arange(0, 360, 3)
    between = np.interp(around, degrees, values, period=360)
    points = " ".join(_at(float(angle), RADIUS * float(value)) for angle, value in zip(around, between, strict=True))
    return f"<polygon points='{points}' fill='{colour}' fill-opacity='0.12' stroke='{colour}' stroke-width='2.5'/>"


def _circle(inside: str, caption: str, title: str) -> str:
    rings = "".join(f"<circle r='{RADIUS * ring}' fill='none' stroke='#d0d5dd'/>" for ring in RINGS)
    marks = "".join(
        f"<text transform='translate({_at(angle, RADIUS + 13)})' text-anchor='middle' dy='3'>{angle}°</text>"
        for angle in range(0, 360, 45)
    )
    labels = "".join(f"<text x='3' y='{-RADIUS * ring + 9}' font-size='7'>{ring:g}</text>" for ring in RINGS)
    return (
        f"<figure class='circle'><figcaption>{title}</figcaption><svg viewBox='-126 -120 252 240' fill='{GREY}' font-size='10' "
        f"role='img' aria-label='{title}'>{rings}{inside}{labels}{marks}</svg><p>{caption}</p></figure>"
    )
