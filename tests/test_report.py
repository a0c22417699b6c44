"""What a report says, draws, and writes; by worked examples."""

import csv
import html.parser
import json
import math
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import rich.console
import torch
from torchmetrics.functional.classification import binary_calibration_error

from asserting import refused
from equiform.evaluation.confidence import COVERAGES, Confidence
from equiform.evaluation.report import COLUMNS, OrbitReport
from equiform.evaluation.results import Method, Sample

ADAPTED = Method("adapted", [0.75, 0.5, 0.75, 0.5], 0.8, 0.0, passes=1.37, time=1.0849, parameters=0.0342)
BARE = Method("bare", [0.875, 0.25, 0.125, 0.25], None, 0.97, passes=1.0, time=1.0, parameters=0.0)


def orbit(*methods: Method, **changes) -> OrbitReport:
    """A C4 report."""
    angles = [0.0, 90.0, 180.0, 270.0]
    labels = [f"{angle:g}°" for angle in angles]
    report = OrbitReport("accuracy", "C4", labels, angles, [False] * 4, 1500, list(methods or (ADAPTED, BARE)))
    return replace(report, **changes)


def dihedral() -> OrbitReport:
    """A D2 report whose flipped values differ, with pictures of two shapes."""
    methods = [Method("adapted", [0.5, 0.5, 0.5, 0.5]), Method("bare", [0.8, 0.2, 0.6, 0.1])]
    pictures = torch.arange(2 * 6 * 9 * 3).reshape(2, 6, 9, 3).to(torch.uint8)
    samples = [Sample(pictures[0], pictures[0], "0°", 0.98, True), Sample(pictures[1].flip(0), pictures[1], "180°", 0.4, False)]
    elements = ["0°", "180°", "flip 0°", "flip 180°"]
    return OrbitReport("miou", "D2", elements, [0, 180, 0, 180], [False, False, True, True], 8, methods, samples)


def test_summary_is_of_the_first_method_and_of_nan():
    report = orbit()
    assert (report.upright, report.mean, report.worst, report.worst_element) == (0.75, 0.625, 0.5, "90°")
    assert (report.pose_accuracy, report.equivariance_error) == (0.8, 0.0)
    assert report["bare"] is BARE
    assert (BARE.mean, BARE.worst, BARE.worst_index) == (0.375, 0.125, 2)
    assert report.upright_of("bare") == 0.875
    moved = orbit(elements=["flip 0°", "90°", "360°", "270°"], angles=[0, 90, 360, 270], flips=[True, False, False, False])
    assert moved.upright_of("bare") == 0.125
    assert math.isnan(replace(moved, flips=[True, False, True, False]).upright)
    report = orbit(Method("adapted", [0.5, 0.1, math.nan, 0.9]), BARE)
    assert math.isnan(report.mean)
    assert math.isnan(report.worst)
    assert report.worst_element == "180°"
    assert "**0.375**" in report.to_markdown()  # the best mean is one that there is
    assert "**nan**" not in report.to_markdown()


def test_where_smaller_is_better_the_greatest_is_worst_and_the_smallest_best(tmp_path):
    report = orbit(*(replace(method, higher_is_better=False) for method in (ADAPTED, BARE)))
    assert (report.worst, report.worst_element) == (0.75, "0°")
    assert (report["bare"].worst, report["bare"].worst_index) == (0.875, 0)
    assert "**0.375**" in report.to_markdown()
    assert "**0.625**" in orbit().to_markdown(), "control"
    assert report.title == "accuracy (smaller is better) over C4, 1,500 samples"
    report.save(tmp_path / "report.json")
    report.save(tmp_path / "report.html")
    assert OrbitReport.load(tmp_path / "report.json") == report
    assert "<strong>0.125</strong>" in (tmp_path / "report.html").read_text(), "180°: 0.75 and 0.125"
    nan = replace(report.methods[0], values=[0.5, 0.9, math.nan, 0.1])
    assert math.isnan(nan.worst)
    assert nan.worst_index == 2
    refused(ValueError, "measured alike", lambda: orbit(report.methods[0], BARE))


def test_what_is_not_there_is_said():
    refused(KeyError, "no method 'orbit'; known methods: adapted, bare", lambda: orbit()["orbit"])
    refused(ValueError, "holds no samples", lambda: orbit().plot_samples())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"methods": []}, "at least one element and one method"),
        ({"angles": [0.0]}, "expected 4 angles"),
        ({"methods": [Method("adapted", [1.0])]}, "expected 4 angles"),
        ({"methods": [BARE, BARE]}, "same name: bare, bare"),
    ],
)
def test_inconsistent_reports_are_refused(changes, message):
    refused(ValueError, message, lambda: orbit(**changes))


# ------------------------------------------------------------------------------------------------ doubt
def test_confidence_beside_right_poses(tmp_path):
    known = Confidence.of(torch.tensor([0.9, 0.9, 0.5, 0.3]), torch.tensor([True, False, True, False]))
    assert np.allclose(known.stated, [0.3, 0.5, 0.9])
    assert (known.right, known.share) == ([0, 1, 0.5], [0.25, 0.25, 0.5])
    assert math.isclose(known.error, 0.25 * 0.3 + 0.25 * 0.5 + 0.5 * 0.4, abs_tol=1e-6)
    assert (known.risk(0.25), known.risk(0.5), known.risk(0.75), known.risk(1.0)) == (0, 0.5, 1 / 3, 0.5)
    refused(ValueError, "known at a coverage of 0.05, 0.1.*got 0.33", lambda: known.risk(0.33))
    refused(ValueError, "no pose", lambda: Confidence.of(torch.ones(0), torch.ones(0, dtype=torch.bool)))
    torch.manual_seed(1)
    confidence, right = torch.rand(500), torch.rand(500) < 0.5
    theirs = binary_calibration_error(confidence, right.int(), n_bins=15)
    assert math.isclose(Confidence.of(confidence, right).error, float(theirs), abs_tol=1e-6)
    report = orbit(replace(ADAPTED, confidence=known), BARE)
    assert "calibration error 0.400; 50.0% of the surest 90 % of poses wrong" in str(report)
    report.save(tmp_path / "report.json")
    assert OrbitReport.load(tmp_path / "report.json") == report
    report.save(tmp_path / "report.html")
    assert "wrong poses by coverage" in (tmp_path / "report.html").read_text()
    left, risk = report.plot_confidence().axes
    assert np.array_equal(risk.lines[0].get_xydata(), list(zip(COVERAGES, known.risks, strict=True)))
    assert np.allclose(left.collections[0].get_offsets(), [(0.3, 0), (0.5, 1), (0.9, 0.5)])
    refused(ValueError, "no method of this report finds poses", lambda: orbit().plot_confidence())


# ------------------------------------------------------------------------------------------------ the table
def cells(text: str, name: str) -> list[str]:
    """What a printed table says of a method, column by column."""
    line = next(line for line in text.splitlines() if line.strip().startswith(name))
    return line.removesuffix("%").split()


def test_tables_in_text_and_colour(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")  # a narrow terminal cuts nothing off
    text = str(orbit())
    assert (text.splitlines()[0], cells(text, "method")) == ("accuracy over C4, 1,500 samples", COLUMNS)
    assert cells(text, "adapted") == ["adapted", "0.750", "0.625", "-", "0.500", "90°", "0.800", "0", "1.37", "1.08x"]
    assert cells(text, "bare") == ["bare", "0.875", "0.375", "-", "0.125", "180°", "-", "1", "1.00", "1.00x"]
    assert "\x1b" not in text
    assert "…" not in text
    assert text.endswith("relative to bare predictor\nparameters: +3.4% of those of the bare predictor")
    assert max(map(len, text.splitlines())) <= 80
    text = str(orbit(Method("adapted", [0.5] * 4)))
    assert cells(text, "adapted") == ["adapted", "0.500", "0.500", "-", "0.500", "all", "-", "-", "1.00", "-"]
    assert "[bold]k=2[/bold] [/]" in str(orbit(ADAPTED, replace(BARE, name="[bold]k=2[/bold] [/]")))
    tied = Method("a|b <i>", [0.625] * 4)
    assert orbit(ADAPTED, tied).to_markdown().splitlines() == [
        "| method | upright | mean | interval | worst | at | pose | error | passes | time |",
        "| :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
        "| adapted | 0.750 | **0.625** | - | 0.500 | 90° | 0.800 | 0 | 1.37 | 1.08x |",
        "| a\\|b &lt;i&gt; | 0.625 | **0.625** | - | 0.625 | all | - | - | 1.00 | - |",
    ]
    console = rich.console.Console(force_terminal=True, color_system="standard", width=120)
    with console.capture() as capture:
        console.print(orbit())
    narrow = rich.console.Console(width=80)
    with narrow.capture() as shown:
        narrow.print(orbit(replace(ADAPTED, interval=[0.5, 0.75]), replace(BARE, name="orbit averaging")))
    assert "…" not in shown.get()
    assert {"adapted", "orbit", "averaging", "0.50–0.75", "1.08x"} <= set(shown.get().split())
    assert "\x1b[1m0.625\x1b[0m" in capture.get()
    assert "\x1b[1m0.375" not in capture.get()


# ------------------------------------------------------------------------------------------------ the plots
def test_sizes_are_plotted_element_by_element(tmp_path):
    sizes = replace(orbit(), elements=["1x", "0.5x", "0.7x", "2x"], angles=[0.0] * 4, flips=[False] * 4)
    axes = sizes.plot().axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == sizes.elements
    assert [list(line.get_ydata()) for line in axes.lines] == [method.values for method in sizes.methods]
    sizes.save(tmp_path / "sizes.html")
    page = (tmp_path / "sizes.html").read_text("utf-8")
    assert (page.count("<h2>By element</h2>"), page.count("By angle"), page.count("Polar")) == (1, 0, 0)


def test_polar_plots():
    axes = orbit().plot().axes[0]
    up = axes.transData.transform((0, 0.5)) - axes.transData.transform((0, 0))
    left = axes.transData.transform((math.pi / 2, 0.5)) - axes.transData.transform((0, 0))
    assert up[1] > 0 > left[0]
    assert abs(up[0]) < 1e-6 > abs(left[1])
    angle, value = axes.lines[1].get_data()
    assert (angle[0], value[0], angle[-1], value[-1]) == (0, 0.875, pytest.approx(2 * math.pi), 0.875)
    marked = axes.lines[1].get_markevery()
    np.testing.assert_allclose(np.degrees(angle[marked]), [0, 90, 180, 270])
    np.testing.assert_allclose(value[marked], BARE.values)
    assert np.isnan(np.delete(value, [*marked, 360])).all(), "between quarter turns nothing was measured"
    figure = replace(dihedral(), methods=[dihedral().methods[1], Method("_hidden $x$ <b>", [0.5, 0.4, 0.3, 0.2])]).plot()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["bare", "_hidden $x$ <b>"]
    assert figure.legends[0].get_title().get_text() == "dashed: flipped"
    close = replace(orbit(Method("adapted", [0.9, 0.5, 0.7, 0.1])), angles=[0.0, 30.0, 345.0, 180.0]).plot().axes[0].lines[0]
    angle, value = close.get_data()
    at = dict(zip(np.degrees(angle).round().astype(int).tolist(), value, strict=True))
    assert (at[15], at[350]) == (pytest.approx(0.7), pytest.approx(0.7 + 0.2 / 3)), (
        "lines join neighbours, across 0 degrees too"
    )
    assert math.isnan(at[60])
    assert math.isnan(at[200])
    lines = figure.axes[0].lines
    assert [line.get_linestyle() for line in lines] == ["-", "--"] * 2
    assert [line.get_color() for line in lines] == [lines[0].get_color()] * 2 + [lines[2].get_color()] * 2
    assert lines[0].get_color() != lines[2].get_color()
    np.testing.assert_allclose(lines[1].get_ydata()[[0, 180]], [0.6, 0.1])


@pytest.mark.parametrize(
    "values, low, high",
    [
        ([0.1, 0.68, 0.3, 0.4], 0, 0.8),
        ([1.0] * 4, 0, 1),
        ([-3.0, 1.0, 0, 0], -3, 1),
        ([31.0] * 4, 0, 40),
        ([math.nan] * 4, 0, 1),
    ],
)
def test_radial_range_holds_zero_and_every_value(values, low, high):
    bottom, top = orbit(Method("adapted", values)).plot().axes[0].get_ylim()
    assert (bottom, top) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_plots_are_written(tmp_path, suffix):
    path = tmp_path / "new" / f"polar{suffix}"
    orbit(Method("adapted", [0.5, math.nan, 0.2, math.inf])).plot(path)
    assert path.read_bytes().startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])


def test_sample_sheets_mark_the_wrong_ones_and_pyplot_is_left_alone(tmp_path):
    report = dihedral()
    figure = replace(report, samples=[*report.samples] * 3).plot_samples()
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["0°, 98%", "180°, 40%  ✗ wrong"] * 3 + ["", ""]
    shown = [image.get_array() for image in figure.axes[1].images]
    np.testing.assert_array_equal(shown[0], report.samples[1].image)
    np.testing.assert_array_equal(shown[1], report.samples[1].canonical)
    before = dict(mpl.rcParams)
    dihedral().plot(tmp_path / "a.png")
    dihedral().plot_samples(tmp_path / "b.png")
    assert (dict(mpl.rcParams), mpl._pylab_helpers.Gcf.get_all_fig_managers()) == (before, [])


# ------------------------------------------------------------------------------------------------ the files
def test_json_round_trip_without_pictures_and_nan(tmp_path):
    path, report = tmp_path / "new" / "folder" / "report.JSON", dihedral()
    report.save(path)
    assert OrbitReport.load(path) == replace(report, samples=[])
    orbit().save(path)
    assert (OrbitReport.load(path), str(OrbitReport.load(str(path)))) == (orbit(), str(orbit()))
    data = json.loads(path.read_text())
    assert all(method.pop("higher_is_better") for method in data["methods"])
    path.write_text(json.dumps(data))
    assert OrbitReport.load(path) == orbit(), "as saved before that was told"
    path = tmp_path / "report.json"
    replace(dihedral(), methods=[Method("adapted", [0.5, math.nan, math.inf, 0.5], time=math.nan)]).save(path)
    data = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert data["format_version"] == 1
    assert "samples" not in data
    assert data["methods"][0]["values"] == [0.5, None, None, 0.5]
    assert np.isnan(OrbitReport.load(path).methods[0].values).tolist() == [False, True, True, False]
    assert OrbitReport.load(path).methods[0].time is None


def edited(tmp_path, **changes):
    """A saved report with some of its JSON replaced; None removes."""
    path = tmp_path / "report.json"
    orbit().save(path)
    data = {name: value for name, value in (json.loads(path.read_text()) | changes).items() if value is not None}
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"format": "other"}, "is not a saved report"),
        ({"format_version": 2}, "format version 2, this release reads 1: upgrade"),
        ({"metric": None}, "damaged: KeyError.*metric"),
        ({"metric": 3}, "metric should be .*str.*got 3"),
        ({"num_samples": True}, "damaged"),
        ({"angles": [0, 90, 180, "x"]}, "angles should be .*float.*got 'x'"),
        ({"flips": [0, 0, 0, 0]}, "flips should be"),
        ({"methods": {"a": 1}}, "methods should be"),
        ({"methods": [3]}, "methods should be"),
        ({"methods": [{"name": "a"}]}, "damaged: KeyError"),
        ({"elements": ["0°"]}, "expected 1 angles"),
    ],
)
def test_foreign_and_damaged_files_are_refused(tmp_path, changes, message):
    refused(ValueError, message, lambda: OrbitReport.load(edited(tmp_path, **changes)))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff\xfe", b"method,metric\r\n"])
def test_other_files_are_refused(tmp_path, data):
    (tmp_path / "report.json").write_bytes(data)
    refused(ValueError, "is not a saved report", lambda: OrbitReport.load(tmp_path / "report.json"))
    with pytest.raises(FileNotFoundError):
        OrbitReport.load(tmp_path / "missing.json")


def test_csv_has_a_row_per_method_and_a_column_per_element(tmp_path):
    orbit(ADAPTED, Method('ba,"re', [0.5, math.nan, 0.25, 0.5])).save(tmp_path / "report.csv")
    assert (tmp_path / "report.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    with (tmp_path / "report.csv").open(newline="", encoding="utf-8-sig") as file:
        first, second = csv.DictReader(file)
    assert [first[name] for name in ("method", "metric", "group", "samples")] == ["adapted", "accuracy", "C4", "1500"]
    assert [float(first[name]) for name in ("upright", "mean", "worst", "0°", "270°")] == [0.75, 0.625, 0.5, 0.75, 0.5]
    assert [float(first[name]) for name in ("passes", "time", "parameters")] == [1.37, 1.0849, 0.0342]
    assert first["worst element"] == "90°"
    assert [second[name] for name in ("method", "mean", "time", "90°", "180°")] == ['ba,"re', "", "", "", "0.25"]


class Page(html.parser.HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data + " "


def test_html_is_one_page_that_fetches_nothing_with_samples_or_not(tmp_path):
    names = "<script>alert(1)</script>", 'a & "b"'
    report = dihedral()
    report = replace(report, methods=[replace(m, name=name) for m, name in zip(report.methods, names, strict=True)])
    replace(report, metric="<i>miou", elements=["0°", "180°", "<u>", "flip 180°"]).save(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("img") == tags.count("table") == 2
    assert not {"script", "link", "iframe", "i", "u"} & set(tags)
    assert [attributes["lang"] for tag, attributes in page.tags if tag == "html"] == ["en"]
    for _, attributes in [(tag, attributes) for tag, attributes in page.tags if tag == "img"]:
        assert attributes["src"].startswith("data:image/png;base64,iVBOR")
        assert attributes["alt"]
    assert all("href" not in attributes for _, attributes in page.tags)
    assert "http" not in page.text
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    assert "<title>&lt;i&gt;miou over D2, 8 samples</title>" in text
    assert all(name in page.text for name in names)
    assert '<th scope="row">flip 180°</th><td><strong>0.500</strong></td><td>0.100</td>' in text
    orbit().save(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("<img") == 1
    assert "Samples" not in text
    fragment = orbit()._repr_html_()
    assert fragment in text
    assert "<td><strong>0.625</strong></td>" in fragment
    assert "<td>0.375</td>" in fragment


@pytest.mark.parametrize("name", ["report.pkl", "report"])
def test_unknown_suffix_names_the_known_ones(tmp_path, name):
    refused(ValueError, r"suffix .*known suffixes: \.csv, \.html, \.json", lambda: orbit().save(tmp_path / "new" / name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".json", ".csv", ".html", ".png"])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"report{suffix}"
    path.write_text("old")

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    refused(OSError, "no space", lambda: orbit().plot(path) if suffix == ".png" else orbit().save(path))
    refused(ValueError, "png", lambda: dihedral().plot_samples(tmp_path / "sheet.doc"))  # among the formats there are
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])


def test_many_elements_and_methods_draw_without_warnings(tmp_path):
    angles, methods = [360 * k / 36 for k in range(36)], [Method(f"method {k}", [k / 10] * 36) for k in range(9)]
    report = OrbitReport("accuracy", "C36", [f"{angle:g}°" for angle in angles], angles, [False] * 36, 1, methods)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.save(tmp_path / "report.html")
    assert len(report.plot().axes[0].get_xticks()) == 8
