"""The figures of a report: the metric by angle, and a sheet of samples."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._files import write
from .confidence import COVERAGES
from .results import Method, Sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEIGHBOURS = 30  # degrees between two measured angles up to which a line joins them
MOST_NAMED = 24  # elements named along an axis
# Okabe and Ito's colours, for all kinds of colour vision; the markers say the same again
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


def by_angle(
    title: str, angles: Sequence[float], flips: Sequence[bool], methods: Sequence[Method], path: str | Path | None
) -> "Figure":
    """The metric by angle, 0 degrees up, counter-clockwise as the images turn; markers are measured, lines join near ones."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(7.4, 5.2)
    axes: Any = figure.add_subplot(projection="polar")
    axes.set_theta_zero_location("N")
    axes.set_title(title, pad=14, parse_math=False)
    lines = [_draw(axes, angles, flips, method, position) for position, method in enumerate(methods)]
    values = [value for method in methods for value in method.values if math.isfinite(value)] or [1.0]
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(min(0.0, *values), max(0.0, *values))
    around = sorted({angle % 360 for angle in angles})
    around = around if 2 <= len(around) <= 12 else range(0, 360, 45)
    axes.set(xticks=np.radians(around), ylim=(ticks[0], ticks[-1]), yticks=ticks, yticklabels=[])
    axes.grid(color="#d0d5dd")
    box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}
    for tick in ticks[1:]:  # matplotlib's own labels would lie below the lines
        axes.text(math.radians(sum(around[:2]) / 2), tick, f"{tick:g}", ha="center", va="center", bbox=box, zorder=7)
    # named afterwards: matplotlib leaves out labels that start with "_"
    legend = figure.legend(lines, ["-"] * len(lines), loc="outside right upper", frameon=False, alignment="left")
    legend.set_title("dashed: flipped" if any(flips) else "")
    for text, method in zip(legend.get_texts(), methods, strict=True):
        text.set(text=method.name, parse_math=False)
    return _saved(figure, path)


def by_element(title: str, elements: Sequence[str], methods: Sequence[Method], path: str | Path | None) -> "Figure":
    """The metric element by element, in their order, where the angle does not tell them apart (sizes, products)."""
    figure = _figure(7.4, 4.2)
    axes: Any = figure.add_subplot()
    axes.set_title(title, parse_math=False)
    for position, method in enumerate(methods):
        colour, marker = COLOURS[position % len(COLOURS)], "osD^vPX"[position % len(COLOURS)]
        axes.plot(range(len(elements)), method.values, color=colour, marker=marker, linestyle=":", zorder=4 if position else 5)
    shown = range(0, len(elements), math.ceil(len(elements) / MOST_NAMED))
    axes.set_xticks(list(shown), [elements[i] for i in shown], rotation=45 if len(elements) > 8 else 0)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.grid(color="#d0d5dd")
    legend = figure.legend(axes.lines, ["-"] * len(methods), loc="outside right upper", frameon=False, alignment="left")
    for text, method in zip(legend.get_texts(), methods, strict=True):
        text.set(text=method.name, parse_math=False)
    return _saved(figure, path)


def _draw(axes: Any, angles: Sequence[float], flips: Sequence[bool], method: Method, position: int) -> Any:
    """A closed line with markers, and a dashed one where inputs were flipped; the first method above the others."""
    colour, marker = COLOURS[position % len(COLOURS)], "osD^vPX"[position % len(COLOURS)]
    drawn = []
    for flipped in sorted(set(flips)):
        chosen = np.array(flips) == flipped
        measured, values = np.array(angles, float)[chosen] % 360, np.array(method.values, float)[chosen]
        values[~np.isfinite(values)] = np.nan
        around = np.union1d(np.linspace(0, 360, 361), measured)
        # arcs, not chords: a model that answers alike in every pose is a circle, where it was measured all around
        shown = np.where(_between_neighbours(around, measured), np.interp(around, measured, values, period=360), np.nan)
        drawn += axes.plot(np.radians(around), shown, color=colour, marker=marker)
        drawn[-1].set(markevery=np.flatnonzero(np.isin(around, measured)).tolist(), clip_on=False)
        drawn[-1].set(linestyle="--" if flipped else "-", markerfacecolor="white" if flipped else colour)
        drawn[-1].set(linewidth=1.8 if position else 2.6, zorder=4 if position else 5)
    return drawn[0]


def _between_neighbours(around: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Which angles were measured, or lie between two that were and are near each other; all in degrees."""
    ends = np.unique(measured)
    after = np.searchsorted(ends, around % 360, side="right")
    upper = np.append(ends, ends[0] + 360)[after]
    lower = np.append(ends[-1] - 360, ends)[after]
    return (upper - lower <= NEIGHBOURS) | np.isin(around % 360, ends)


def confidence(methods: Sequence[Method], path: str | Path | None) -> "Figure":
    """Left: the share of right poses by the confidence stated, the dots as large as their share of the poses. Right: the share
    of wrong poses among the surest ones, by how many of them are taken."""
    known = [(method.name, method.confidence) for method in methods if method.confidence is not None]
    if not known:
        raise ValueError("no method of this report finds poses")
    figure = _figure(8.6, 4.0)
    reliability, risk = figure.subplots(1, 2)
    reliability.plot([0, 1], [0, 1], color="#8a93a0", linestyle=":", label="_")
    reliability.set_title("dotted: as often right as stated; dots: share of poses", fontsize=9, color="#5b6472", loc="left")
    for place, (_, found) in enumerate(known):
        colour = COLOURS[place % len(COLOURS)]
        reliability.plot(found.stated, found.right, color=colour, linewidth=1)
        reliability.scatter(found.stated, found.right, [10 + 300 * share for share in found.share], color=colour, alpha=0.8)
        risk.plot(COVERAGES, found.risks, color=colour, marker="osD^vPX"[place % 7], markersize=4)
    reliability.set(xlabel="confidence stated", ylabel="share of poses that are right", xlim=(0, 1.04), ylim=(0, 1.04))
    risk.set(xlabel="coverage: share of inputs, the surest first", ylabel="risk: share of wrong poses", xlim=(0, 1.02))
    risk.set_ylim(bottom=0)
    for axes in (reliability, risk):
        axes.grid(color="#e4e7ec")
        axes.spines[["top", "right"]].set_visible(False)
    legend = figure.legend(risk.lines, ["-"] * len(known), loc="outside lower center", frameon=False, ncols=min(3, len(known)))
    for text, (name, _) in zip(legend.get_texts(), known, strict=True):
        text.set(text=name, parse_math=False)
    return _saved(figure, path)


def sheet(samples: Sequence[Sample], path: str | Path | None) -> "Figure":
    """A sheet of inputs with their canonical forms, element and confidence; wrong ones are marked."""
    if not samples:
        raise ValueError("this report holds no samples (a saved one keeps no pictures): run evaluate to get some")
    columns = min(4, len(samples))
    rows = math.ceil(len(samples) / columns)
    figure = _figure(3.1 * columns, 1.75 * rows + 0.3)
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, sample in zip(figure.axes, samples, strict=False):  # the last row may have room left
        _draw_sample(axes, sample)
    figure.suptitle("input \u2192 canonical form (moved by, confidence)")
    return _saved(figure, path)


def _figure(width: float, height: float) -> "Figure":
    """An empty figure of its own: pyplot would keep it alive and pick a window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    return FigureCanvasAgg(Figure(figsize=(width, height), layout="constrained")).figure


def _saved(figure: "Figure", path: str | Path | None) -> "Figure":
    if path is not None:
        path = Path(path)
        file = io.BytesIO()
        figure.savefig(file, format=path.suffix[1:] or "png", dpi=150)  # which lists what it can write, if not this
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, file.getvalue())
    return figure


def _draw_sample(axes: Any, sample: Sample) -> None:
    """Input and canonical form, each fitted into a unit square."""
    for left, image in ((0.0, sample.image), (1.25, sample.canonical)):
        height, width = (length / max(image.shape[:2]) for length in image.shape[:2])
        x, y = left + (1 - width) / 2, (1 - height) / 2
        axes.imshow(image.numpy(force=True), extent=(x, x + width, y, y + height))
    axes.text(1.125, 0.5, "\u2192", ha="center", va="center", fontsize=13)
    axes.set(xlim=(-0.08, 2.33), ylim=(0, 1))
    text = axes.set_title(f"{sample.element}, {sample.confidence:.0%}", fontsize=11, parse_math=False)
    if not sample.right:
        text.set(text=f"{text.get_text()}  \u2717 wrong", color="#B34700", fontweight="bold")
