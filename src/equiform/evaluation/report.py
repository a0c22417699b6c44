"""The report of `evaluate`: a table, plots, and files (JSON, CSV, one self-contained HTML page)."""

import base64
import csv
import html
import io
import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from .._files import write
from . import figures
from .confidence import Confidence
from .results import Method, Sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

FORMAT, FORMAT_VERSION = "equiform report", 1
ADDED = (
    "higher_is_better",
    "mean_from",
    "frame",
    "within",
    "confidence",
    "interval",
    "gain",
)  # fields that reports saved before them lack
COLUMNS = ["method", "upright", "mean", "interval", "worst", "at", "pose", "error", "passes", "time"]
LEGEND = [
    "upright: on unmoved inputs; mean, worst (at): over all elements",
    "interval: of the mean, 95 %, by a bootstrap over the inputs",
    "pose: share of poses found; error: how far from equivariant, greatest |f(g.x) - g.f(x)|",
    "passes: predictor runs per input; time: relative to bare predictor",
]
NEAR, WORSE = 0.15, 0.05  # of the way from chance to certainty; of the bare predictor's upright value
SURER = 0.25  # the mean confidence less the share of poses found
CROPPED = "inputs are the middle of larger turned ones: no corners are missing"
DRAWN = "the mean is over the elements drawn, without the upright pose"
STYLE = """
:root { color-scheme: light dark; --line: #d0d5dd; --soft: #5b6472; }
@media (prefers-color-scheme: dark) { :root { --line: #3c434e; --soft: #a3adba; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } p.note { color: var(--soft); font-size: .875rem; }
div { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child { text-align: left; } thead th { color: var(--soft); } tbody th { font-weight: 500; }
img { max-width: 100%; background: #fff; border: 1px solid var(--line); border-radius: 8px; }
h2:first-of-type + img { max-width: min(100%, 36rem); }
"""


@dataclass(frozen=True)
class OrbitReport:
    """The metric on every element of a group, for the adapted model (the first method) and for its baselines."""

    metric: str
    group: str
    elements: list[str]  # "0°", "90°", "flip 90°"
    angles: list[float]  # degrees, counter-clockwise
    flips: list[bool]
    num_samples: int
    methods: list[Method]
    samples: list[Sample] = field(default_factory=list)
    frame: str = "inside"  # or "crop": see evaluate
    within: float | None = None  # degrees by which a pose that was found may be off

    def __post_init__(self) -> None:
        if not self.elements or not self.methods:
            raise ValueError("a report needs at least one element and one method")
        if len({method.higher_is_better for method in self.methods}) > 1:
            raise ValueError("the methods of a report are measured alike: greater values are better in all of them, or in none")
        counts = [len(self.angles), len(self.flips), *[len(method.values) for method in self.methods]]
        if set(counts) != {len(self.elements)}:
            raise ValueError(f"expected {len(self.elements)} angles, flips and values of each method; got {counts}")
        if len({method.name for method in self.methods}) < len(self.methods):
            raise ValueError(f"two methods have the same name: {', '.join(method.name for method in self.methods)}")

    def __getitem__(self, name: str) -> Method:
        """The method of that name. Raises KeyError naming those there are."""
        methods = {method.name: method for method in self.methods}
        if name not in methods:
            raise KeyError(f"no method {name!r}; known methods: {', '.join(methods)}")
        return methods[name]

    def upright_of(self, name: str) -> float:
        """The value of a method on the element with angle 0 and no flip; nan where there is none."""
        for value, angle, flip in zip(self[name].values, self.angles, self.flips, strict=True):
            if abs(math.remainder(angle, 360)) < 1e-6 and not flip:
                return value
        return math.nan

    @property
    def upright(self) -> float:  # this and what follows: of the adapted model, the first method
        return self.upright_of(self.methods[0].name)

    @property
    def mean(self) -> float:
        return self.methods[0].mean

    @property
    def worst(self) -> float:
        return self.methods[0].worst

    @property
    def worst_element(self) -> str:
        return self.elements[self.methods[0].worst_index]

    @property
    def pose_accuracy(self) -> float | None:
        return self.methods[0].pose_accuracy

    @property
    def equivariance_error(self) -> float | None:
        return self.methods[0].equivariance_error

    @property
    def higher_is_better(self) -> bool:
        return self.methods[0].higher_is_better

    @property
    def title(self) -> str:
        """One line: the metric, the group and the number of samples."""
        better = "" if self.higher_is_better else " (smaller is better)"
        return f"{self.metric}{better} over {self.group}, {self.num_samples:,} samples"

    @property
    def doubts(self) -> list[str]:
        """What speaks against the adapted model, a line each: poses that are guessed, answers worse than bare ones."""
        first, found = self.methods[0], []
        chance = 1 / len(self.elements) if self.within is None else self.within / 180
        known, right = first.confidence, first.pose_accuracy
        if known is not None and right is not None and len(self.elements) > 1 and self.group != "angles":
            near, said = chance + NEAR * (1 - chance), known.mean
            if right < near or said < near:
                found.append(
                    f"the canonicalizer guesses: poses are found {right:.2f} of the time at a confidence of {said:.2f}, and "
                    f"chance is {chance:.2f}; it is not fitted, or the data have no pose, or not those it was made for"
                )
            elif said - right > SURER:
                found.append(
                    f"poses are found {right:.2f} of the time at a confidence of {said:.2f}: are the inputs upright? They are "
                    "turned here, and an input that lay turned before counts as one whose pose was not found"
                )
        bare = next((method.name for method in self.methods if method.name == "bare"), None)
        if bare is not None:
            ours, theirs = self.upright, self.upright_of(bare)
            if (theirs - ours) * (1 if self.higher_is_better else -1) > WORSE * abs(theirs):
                found.append(f"on upright inputs the adapted model is worse than the bare one: {ours:.3f} against {theirs:.3f}")
        return found

    @property
    def legend(self) -> list[str]:
        """What the columns mean, a line each."""
        notes = [f"a pose is found within {self.within:g} degrees"] if self.within is not None else []
        notes += [CROPPED] * (self.frame == "crop")
        notes += [DRAWN] * any(method.mean_from for method in self.methods)
        notes += [_gained(self.methods[0].name, method) for method in self.methods if method.gain]
        if added := self.methods[0].parameters:
            notes += [f"parameters: {added:+.1%} of those of the bare predictor"]
        if known := self.methods[0].confidence:
            notes += [
                f"confidence: calibration error {known.error:.3f}; {known.risk(0.9):.1%} of the surest 90 % of poses wrong"
            ]
        return [f"WARNING: {doubt}" for doubt in self.doubts] + LEGEND + notes

    def _cells(self, method: Method) -> list[str]:
        """The cells of a method, in the order of COLUMNS."""
        error = method.equivariance_error
        level = len(method.values) > 1 and min(method.values) == max(method.values)
        return [
            method.name,
            *[_number(value) for value in (self.upright_of(method.name), method.mean)],
            "–".join(_number(end, 2) for end in method.interval) or "-",
            _number(method.worst),
            "all" if level else self.elements[method.worst_index],
            _number(method.pose_accuracy),
            "-" if error is None else f"{error:.1g}",
            _number(method.passes, 2),
            "-" if method.time is None else f"{method.time:.2f}x" if method.time < 100 else f"{method.time:.0f}x",
        ]

    def _rows(self) -> list[tuple[list[str], bool]]:
        """The cells of every method, and whether its mean is the best."""
        best = _best([method.mean for method in self.methods], self.higher_is_better)
        return list(zip(map(self._cells, self.methods), best, strict=True))

    def __str__(self) -> str:
        from rich.console import Console

        file = io.StringIO()
        # far wider than any table, so that nothing is cut off whatever the terminal is
        Console(file=file, width=1000, color_system=None, force_terminal=False, force_jupyter=False).print(self)
        return "\n".join(line.rstrip() for line in file.getvalue().strip().splitlines())

    def __rich__(self) -> "Table":
        from rich import box
        from rich.table import Table
        from rich.text import Text

        # Text wherever a name may hold what rich would read as markup; where it is narrow, names fold and numbers do not
        table = Table(title=Text(self.title), caption="\n".join(self.legend), box=box.SIMPLE_HEAD)
        table.title_justify = table.caption_justify = "left"
        table.collapse_padding, table.pad_edge = True, False
        table.add_column(COLUMNS[0], overflow="fold", min_width=9)
        for column in COLUMNS[1:]:
            table.add_column(column, justify="right", no_wrap=column != "at")
        for cells, best in self._rows():
            table.add_row(*[Text(cell, "bold" if best and place == 2 else "") for place, cell in enumerate(cells)])
        return table

    def to_markdown(self) -> str:
        """The table for a README on GitHub, best mean in bold."""
        lines = [" | ".join(COLUMNS), ":-- |" + " --: |" * (len(COLUMNS) - 2) + " --:"]
        for cells, best in self._rows():
            cells = [html.escape(" ".join(cell.split()), quote=False).replace("|", "\\|") for cell in cells]
            lines.append(" | ".join([*cells[:2], f"**{cells[2]}**" if best else cells[2], *cells[3:]]))
        return "".join(f"| {line} |\n" for line in lines)

    @property
    def _by_angle(self) -> bool:
        """Whether the angle tells the elements from the upright one."""
        return sum(not angle and not flip for angle, flip in zip(self.angles, self.flips, strict=True)) <= 1

    def plot(self, path: str | Path | None = None) -> "Figure":
        """The metric by angle, 0 degrees up, counter-clockwise as the images turn; markers are measured, lines join near ones.

        Where several elements turn by 0 degrees (sizes, products), element by element.
        """
        if not self._by_angle:
            return figures.by_element(self.title, self.elements, self.methods, path)
        return figures.by_angle(self.title, self.angles, self.flips, self.methods, path)

    def plot_samples(self, path: str | Path | None = None) -> "Figure":
        """A sheet of inputs with their canonical forms, element and confidence; wrong ones are marked."""
        return figures.sheet(self.samples, path)

    def plot_confidence(self, path: str | Path | None = None) -> "Figure":
        """Reliability, and risk against coverage, of every method that finds poses. Raises ValueError where none does."""
        return figures.confidence([method for method in self.methods if method.confidence], path)

    def save(self, path: str | Path) -> None:
        """Write .json (all but the pictures), .csv (a row per method) or .html (a self-contained page), whole or not at all."""
        path = Path(path)
        forms = {".csv": self._csv, ".html": self._html, ".json": self.to_json}
        if path.suffix.lower() not in forms:
            raise ValueError(f"unknown suffix {path.suffix!r} of {path}; known suffixes: {', '.join(forms)}")
        data = forms[path.suffix.lower()]().encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, data)

    @classmethod
    def load(cls, path: str | Path) -> "OrbitReport":
        """The report saved as JSON, without its pictures. Raises ValueError for any other file."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError:
            data = None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f"{path} is not a saved report: load reads what save wrote as .json")
        if (version := data.get("format_version")) != FORMAT_VERSION:
            raise ValueError(f"{path} has format version {version!r}, this release reads {FORMAT_VERSION}: upgrade equiform")
        try:
            return _checked(data, cls, "report")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {error!r}") from None

    def to_json(self) -> str:
        data: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
        data |= {item.name: getattr(self, item.name) for item in fields(self) if item.name != "samples"}
        data["methods"] = [asdict(method) for method in self.methods]
        return json.dumps(finite(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def _csv(self) -> str:
        """A row per method: the summary and the cost, then a column per element."""
        file = io.StringIO()
        table = csv.writer(file)
        summary = [
            "upright",
            "mean",
            "interval from",
            "interval to",
            "worst",
            "worst element",
            "pose accuracy",
            "equivariance error",
        ]
        table.writerow(["method", "metric", "group", "samples", *summary, "passes", "time", "parameters", *self.elements])
        for method in self.methods:
            row = [method.name, self.metric, self.group, self.num_samples, self.upright_of(method.name), method.mean]
            row += [
                *(method.interval or [None, None]),
                method.worst,
                self.elements[method.worst_index],
                method.pose_accuracy,
                method.equivariance_error,
            ]
            table.writerow(finite([*row, method.passes, method.time, method.parameters, *method.values]))
        return "\ufeff" + file.getvalue()  # without the byte order mark spreadsheets misread the degree sign

    def _repr_html_(self) -> str:
        marks = [[place == 2 and best for place in range(len(COLUMNS))] for _, best in self._rows()]
        table = _html_table(COLUMNS, [cells for cells, _ in self._rows()], marks)
        return f'{table}\n<p class="note">{"<br>".join(self.legend)}</p>'

    def _html(self) -> str:
        title, values = html.escape(self.title), list(map(list, zip(*[method.values for method in self.methods], strict=True)))
        rows = [[element, *map(_number, row)] for element, row in zip(self.elements, values, strict=True)]
        headings = ["element", *[method.name for method in self.methods]]
        marks = [[False, *_best(row, self.higher_is_better)] for row in values]
        heading, plot = ("By angle", "Polar plot") if self._by_angle else ("By element", "Plot")
        body = [f"<h1>{title}</h1>", self._repr_html_(), f"<h2>{heading}</h2>"]
        alt = f"{plot} of {self.metric} {heading.lower()}; the table by element has its numbers"
        body += [
            _html_image(self.plot(), alt),
            "<h2>By element</h2>" if self._by_angle else "",
            _html_table(headings, rows, marks),
        ]
        if any(method.confidence for method in self.methods):
            alt = "Poses found by confidence, and wrong poses by coverage"
            body += ["<h2>Confidence in poses</h2>", _html_image(self.plot_confidence(), alt)]
        if self.samples:
            alt = f"{len(self.samples)} inputs and canonical forms, {sum(not sample.right for sample in self.samples)} wrong"
            body += ["<h2>Samples</h2>", _html_image(self.plot_samples(), alt)]
        head = ['<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">', f"<title>{title}</title>"]
        head += ['<meta name="viewport" content="width=device-width, initial-scale=1">', f"<style>{STYLE}</style>\n</head>"]
        return "\n".join([*head, "<body>\n<main>", *body, "</main>\n</body>\n</html>\n"])


def _gained(adapted: str, other: Method) -> str:
    gain, low, high = other.gain
    return f"mean of {adapted} less that of {other.name}: {gain:+.3f} ({low:+.3f} to {high:+.3f})"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _best(values: list[float], higher_is_better: bool) -> list[bool]:
    """Which values print like the best one."""
    best = _number((max if higher_is_better else min)((value for value in values if math.isfinite(value)), default=None))
    return [_number(value) == best for value in values]


def finite(value: Any) -> Any:
    """The value with None for NaN and infinite floats, which JSON and spreadsheets cannot hold."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _checked(value: Any, kind: Any, name: str) -> Any:
    """What JSON holds as an annotation says it should be; null where a number has to be is nan, as save wrote it."""
    if get_origin(kind) is list and isinstance(value, list):
        return [_checked(item, get_args(kind)[0], name) for item in value]
    if kind == Confidence | None and value is not None:
        kind = Confidence
    if kind in (OrbitReport, Method, Confidence) and isinstance(value, dict):
        absent = {"samples", *(name for name in ADDED if name not in value)}
        kept = [item for item in fields(kind) if item.name not in absent]
        return kind(**{item.name: _checked(value[item.name], item.type, item.name) for item in kept})
    if kind is float and value is None:
        return math.nan
    types = () if get_origin(kind) is list else get_args(kind) or (kind,)
    if type(value) not in types and not (type(value) is int and float in types):
        raise TypeError(f"{name} should be {kind}, got {value!r}")
    return value


def _html_table(headings: list[str], rows: list[list[str]], marks: list[list[bool]]) -> str:
    """A table with the first column as headings of the rows, marked cells in bold, wide ones scrolling."""
    head = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in headings)
    lines = [f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    for row, mark in zip(rows, marks, strict=True):
        cells = [html.escape(cell) for cell in row]
        cells = [f"<strong>{cell}</strong>" if marked else cell for cell, marked in zip(cells, mark, strict=True)]
        lines.append(f'<tr><th scope="row">{cells[0]}</th><td>{"</td><td>".join(cells[1:])}</td></tr>')
    return "\n".join(["<div><table>", *lines, "</tbody>", "</table></div>"])


def _html_image(figure: "Figure", alt: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'
