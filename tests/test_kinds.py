"""Kinds as values."""

import json

import pytest
import torch

from equiform import Boxes, Invariant, Logits, Points, Rows, act, group
from equiform.geometry import Field, Image, Likeliest, Mask, Regular, RotatedBoxes, Tokens
from equiform.geometry.actions import ACTIONS, BORDERS, BOX_FORMATS, INTERPOLATIONS
from equiform.geometry.kinds import Kind, as_kinds, from_json, to_json


def test_names_become_kinds():
    assert as_kinds("mask") == Kind("mask")
    assert as_kinds({"a": ["mask", (Boxes(),)]}) == {"a": [Kind("mask"), (Boxes(),)]}
    assert as_kinds("regular", group("D4")) == Regular("D4")
    assert as_kinds(Rows("regular"), group("D4")) == Rows(Regular("D4"))
    assert repr(Kind("mask")) == "'mask'"
    assert repr(Boxes("xywh")) == "boxes(format='xywh')"
    for make, name in [
        (Image, "image"),
        (Points, "points"),
        (Boxes, "boxes"),
        (RotatedBoxes, "rotated_boxes"),
        (Tokens, "tokens"),
    ]:
        assert make() == Kind(name), "usual options are not told"


def test_unknown_kinds_and_options_list_the_known_ones(unchecked):
    with pytest.raises(ValueError, match=f"unknown kind 'pixels'; known: {', '.join(sorted(ACTIONS))}"):
        as_kinds("pixels")
    with pytest.raises(ValueError, match="unknown kind 'pixels'"):
        act(torch.eye(3)[None], {"a": torch.rand(2, 3, 5, 8)}, {"a": "pixels"})
    for bad in (3, None, Boxes, torch.rand(2)):
        with pytest.raises(TypeError, match=r"a kind is a name, a Kind, or a dict, list or tuple of them; got a "):
            as_kinds({"a": bad})
    for make, message in [
        (lambda: Image("cubic"), f"unknown interpolation 'cubic'; known: {', '.join(INTERPOLATIONS)}"),
        (lambda: Image(border="wrap"), f"unknown border 'wrap'; known: {', '.join(BORDERS)}"),
        (lambda: Field("cubic"), "unknown interpolation 'cubic'"),
        (lambda: Field(border="wrap"), "unknown border 'wrap'"),
        (lambda: Mask("wrap"), "unknown border 'wrap'"),
        (lambda: Tokens(0), "patch is a whole number from 1 on; got 0"),
        (lambda: Tokens(2, prefix=-1), "prefix is a whole number from 0 on; got -1"),
        (lambda: Invariant(axis=-1), "axis is a number from 0 on, or None where .*; got -1"),
        (lambda: Boxes("yolo"), f"unknown format 'yolo'; known: {', '.join(BOX_FORMATS)}"),
        (lambda: RotatedBoxes("turns"), "unknown unit 'turns'; known: degrees, radians"),
        (lambda: Points(True, index=True), "index=True .* normalized=True"),
        (lambda: Boxes("xywh", inclusive=True), "inclusive=True .* xyxy or yxyx; .* format 'xywh': leave it out"),
        (lambda: Boxes(extra=-1), "extra .* 0 or more; got -1"),
        (lambda: Points(absent="none"), "absent is the number .* got 'none'"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


OPTIONS = [
    *[Kind(name) for name in ACTIONS],
    *[Image(i, b) for i in INTERPOLATIONS for b in BORDERS if (i, b) != ("bilinear", "zeros")],
    *[Boxes(f, n, extra=1) for f in BOX_FORMATS for n in (False, True)],
    *[
        Boxes(inclusive=True),
        Boxes(padding=-1.0),
        RotatedBoxes("radians", True, 2, 0),
        Logits(1, True),
        Image(pseudoscalar=True),
    ],
    *[Points(extra=1, absent=0), Points(index=True), Likeliest(Logits(sigmoid=True))],
    *[Tokens(14), Tokens((2, 3), 5, 1), Invariant(None), Invariant(1), Logits(1), Likeliest("mask"), Likeliest(Tokens(8))],
    *[Points(True), Field("nearest", "edge"), Mask("reflect"), Regular("D4"), Rows("image"), Rows({"boxes": "boxes"})],
    *[{"a": "mask", "b": ["points", ("boxes", Boxes("xywh"))]}, ("image", "points"), Rows((Rows("mask"), "boxes"))],
]


@pytest.mark.parametrize("kinds", OPTIONS, ids=repr)
def test_json_round_trip(kinds):
    kinds = as_kinds(kinds)
    assert from_json(json.loads(json.dumps(to_json(kinds)))) == kinds


def test_json_tells_kinds_apart():
    texts = [str(to_json(as_kinds(kinds))) for kinds in OPTIONS]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    "value",
    [
        {"kind": "points", "smell": 1},
        {"kind": "vectors", "smell": 1},
        {"kind": "smell"},
        {"kind": 3},
        {"rows": 1},
        "mask",
        None,
        {},
        {"list": {}},
        {"set": []},
    ],
    ids=str,
)
def test_json_of_something_else(value):
    with pytest.raises(ValueError, match="not the description of a kind"):
        from_json(value)


def test_every_kind_says_how_it_is_averaged():
    for kind, averaging in [
        *[(Kind(name), row.averaging) for name, row in ACTIONS.items()],
        (Logits(sigmoid=True), "sigmoid"),
        (Likeliest("image"), "likeliest"),
        (Points(extra=1, absent=0), "likeliest"),
    ]:
        assert kind.averaging == averaging
    assert {row.averaging for row in ACTIONS.values()} == {"mean", "softmax", "likeliest"}
