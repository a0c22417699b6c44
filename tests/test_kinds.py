"""Kinds as values."""

import json

import pytest
import torch

import equiform
from asserting import refused
from equiform import Boxes, Invariant, Logits, Points, Rows, group
from equiform.geometry import Field, Image, Likeliest, Mask, Regular, RotatedBoxes, Tokens
from equiform.geometry.actions import ACTIONS, BORDERS, BOX_FORMATS, INTERPOLATIONS
from equiform.geometry.kinds import Kind, as_kinds, from_json, to_json


def test_names_become_kinds_that_are_told_apart():
    assert (as_kinds("mask"), as_kinds({"a": ["mask", (Boxes(),)]})) == (Kind("mask"), {"a": [Kind("mask"), (Boxes(),)]})
    assert as_kinds("regular", group("D4")) == Regular("D4")
    assert (as_kinds(Rows("regular"), group("D4")), repr(Kind("mask"))) == (Rows(Regular("D4")), "'mask'")
    assert repr(Boxes("xywh")) == "boxes(format='xywh')"
    for make, name in [
        (Image, "image"),
        (Points, "points"),
        (Boxes, "boxes"),
        (RotatedBoxes, "rotated_boxes"),
        (Tokens, "tokens"),
    ]:
        assert make() == Kind(name), "usual options are not told"
    texts = [str(to_json(as_kinds(kinds))) for kinds in OPTIONS]
    assert len(set(texts)) == len(texts)
    for kind, averaging in [
        *[(Kind(name), row.averaging) for name, row in ACTIONS.items()],
        (Logits(sigmoid=True), "sigmoid"),
        (Likeliest("image"), "likeliest"),
        (Points(extra=1, absent=0), "likeliest"),
    ]:
        assert kind.averaging == averaging
    assert {row.averaging for row in ACTIONS.values()} == {"mean", "softmax", "likeliest"}


def test_unknown_kinds_and_options_list_the_known_ones(unchecked):
    refused(ValueError, f"unknown kind 'pixels'; known: {', '.join(sorted(ACTIONS))}", lambda: as_kinds("pixels"))
    with pytest.raises(ValueError, match="unknown kind 'pixels'"):
        equiform.act(torch.eye(3)[None], {"a": torch.rand(2, 3, 5, 8)}, {"a": "pixels"})
    for bad in (3, None, Boxes, torch.rand(2)):
        refused(TypeError, r"a kind is a name, a Kind, or a dict, list or tuple of them; got a ", as_kinds, {"a": bad})
    for make, message in [
        (lambda: Image("cubic"), f"unknown interpolation 'cubic'; known: {', '.join(INTERPOLATIONS)}"),
        (lambda: Image(border="round"), f"unknown border 'round'; known: {', '.join(BORDERS)}"),
        (lambda: Field("cubic"), "unknown interpolation 'cubic'"),
        (lambda: Field(border="round"), "unknown border 'round'"),
        (lambda: Mask("round"), "unknown border 'round'"),
        (lambda: Tokens(border="round"), "unknown border 'round'"),
        *[
            (lambda make=make: make(border="edge"), "unknown border 'edge'; known: None, wrap")
            for make in (Points, Boxes, RotatedBoxes)
        ],
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
        refused(ValueError, message, make)


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


@pytest.mark.parametrize(
    "value",
    [
        {"kind": "points", "smell": 1},
        {"kind": "vectors", "smell": 1},
        {"kind": "smell"},
        {"kind": 3},
        {"rows": 1},
        "mask",
        {},
        {"list": {}},
        {"set": []},
    ],
    ids=str,
)
def test_json_of_something_else(value):
    refused(ValueError, "not the description of a kind", lambda: from_json(value))
