"""Metrics by name: worked examples, and torchmetrics' own where it has one; and evaluations in which targets move."""

import math
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from asserting import dataset, refused
from equiform import Equivariant, Logits, OrbitCanonicalizer, Points, Rows, adapt, evaluate
from equiform.canonicalizers import UniformCanonicalizer
from equiform.canonicalizers.poses import pose_of
from equiform.evaluation.metrics import METRICS, is_better_higher, make
from equiform.geometry.kinds import as_kinds
from equiform.second_opinion import Opinion
from equiform.testing import equivariance_error
from small_photos import pictures
from test_evaluation import Marked


def value(name: str, *batches: tuple, kinds: object = "image") -> float:
    metric = make(name, as_kinds(kinds))
    for output, target in batches:
        metric.update(output, target)
    return float(metric.compute())


# ------------------------------------------------------------------------------------------------------- accuracy

needs_coco = pytest.mark.skipif(find_spec("pycocotools") is None, reason="pycocotools is not installed")
SIGMOIDS = Logits(sigmoid=True)
LABELS = torch.tensor([[1, 0, 1], [0, 0, -1]])


@pytest.mark.parametrize(
    ("output", "target", "kinds", "expected"),
    [
        ([[0.3], [-4.0], [0.7], [2.0]], [1, 0, 0, 1], "logits", 0.75),
        ([[0.3], [-4.0], [0.7], [2.0]], [[1.0], [0], [0], [1]], "logits", 0.75),
        ([0.3, -4.0, 0.7, 2.0], [1, 0, 0, -1], "logits", 2 / 3),
        ([[1.0, 2, 0], [0, 1, 0], [9, 0, 0]], [1, 0, -1], "logits", 0.5),
        ([[0.2, 0.1, -3], [-1, -1, -5]], LABELS, SIGMOIDS, 3 / 5),
        ([[0.2, 0.1, -3], [-1, -1, -5]], LABELS.float(), {"scores": SIGMOIDS}, 3 / 5),
    ],
)
def test_accuracy_of_one_logit_of_classes_and_of_labels(output, target, kinds, expected):
    output, target = torch.tensor(output), torch.as_tensor(target)
    output = {"scores": output} if isinstance(kinds, dict) else output
    assert value("accuracy", (output, target), kinds=kinds) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metric", "output", "target", "kinds", "message"),
    [
        ("accuracy", torch.rand(2, 3), LABELS.clamp(0), "logits", r"one label a row.*\(2, 3\): .*Logits\(sigmoid=True\)"),
        ("accuracy", torch.rand(2, 3), torch.tensor([1, 2]), SIGMOIDS, r"a 0 or 1 each.*got \(2, 3\) .* shape \(2,\), up to 2"),
        ("accuracy", torch.rand(2, 1), torch.tensor([1, 2]), "logits", r"a 0 or 1 each.*up to 2"),
        ("top5_accuracy", torch.rand(2, 1), torch.tensor([1, 0]), "logits", "5 likeliest .* sigmoids: use accuracy"),
    ],
)
def test_targets_that_logits_do_not_fit(metric, output, target, kinds, message):
    refused(ValueError, message, lambda: value(metric, (output, target), kinds=kinds))


# ------------------------------------------------------------------------------------------- intersection over union
def test_miou_is_that_of_torchmetrics():
    from torchmetrics.classification import MulticlassJaccardIndex

    scores, target = torch.randn(4, 6, 9, 7), torch.randint(0, 5, (4, 9, 7))
    target[:, :2] = 255
    reference = MulticlassJaccardIndex(6, ignore_index=255)
    reference.update(scores[:3], target[:3])
    reference.update(scores[3:], target[3:])
    got = value("miou", (scores[:3], target[:3]), (scores[3:], target[3:]))
    assert got == pytest.approx(float(reference.compute()), abs=1e-6)
    assert got != pytest.approx(value("miou", (scores, target.clamp(max=5))), abs=1e-3), "control: 255 is ignored"


def test_dice_and_miou_of_volumes():
    scores, target = torch.randn(2, 4, 3, 5, 6), torch.randint(0, 3, (2, 3, 5, 6))
    labels = scores.argmax(1)
    shares = [
        [2 * ((a == k) & (b == k)).sum() / ((a == k).sum() + (b == k).sum()) for k in range(1, 4)]
        for a, b in zip(labels, target, strict=True)
    ]
    expected = float(torch.tensor(shares).mean())
    for output, kinds in ((scores, "volume"), (labels, "volume_mask"), (labels[:, None], "volume_mask")):
        assert value("dice", (output, target), kinds=kinds) == pytest.approx(expected, abs=1e-6)
        # a volume is as good as its slices to what counts voxels
        slices = value("miou", (labels.flatten(0, 1), target.flatten(0, 1)), kinds="mask")
        assert value("miou", (output, target), kinds=kinds) == pytest.approx(slices, abs=1e-9)
    assert value("dice", (labels * 0, target * 0), kinds="volume_mask") == 1
    assert value("dice", (target, target[:, None]), kinds="volume_mask") == 1
    refused(ValueError, r"differ in shape, \(2, 3, 5, 6\) and \(2, 3, 5, 5\)", lambda: value("dice", (scores, target[..., 1:])))


@pytest.mark.parametrize("form", ["scores", "labels", "one channel", "arrays", "lists", "photos of many sizes", "dict"])
def test_miou_of_every_form_of_prediction(form):
    scores, target = torch.randn(2, 3, 4, 6), torch.randint(0, 3, (2, 4, 6))
    labels = scores.argmax(1)
    output, kinds, expected = scores, "image", target
    if form in ("labels", "one channel", "arrays"):
        output, kinds = {"labels": labels, "one channel": labels[:, None], "arrays": labels.numpy()}[form], "mask"
    if form == "lists":
        output, expected, kinds = list(labels), list(target), Rows("mask")
    if form == "photos of many sizes":
        output, expected, kinds = list(scores), [target[0], target[1]], Rows("image")
    if form == "dict":
        output, kinds = {"features": torch.randn(2, 9), "map": labels}, {"features": "invariant", "map": "mask"}
    ious = []
    for k in range(3):
        ious.append(((labels == k) & (target == k)).sum() / ((labels == k) | (target == k)).sum())
    assert value("miou", (output, expected), kinds=kinds) == pytest.approx(float(torch.stack(ious).mean()), abs=1e-6)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.rand(2, 3, 2, 3), r"differ in shape, \(2, 2, 3\) and \(2, 4, 6\): resize the maps inside the predictor"),
        (torch.rand(2, 1, 4, 6), r"two classes or more.*got torch.float32 of shape \(2, 1, 4, 6\)"),
        (torch.rand(2, 4, 6), r"labels are whole numbers \(b, h, w\)"),
    ],
)
def test_what_is_no_label_map(output, message):
    refused(ValueError, message, lambda: value("miou", (output, torch.zeros(2, 4, 6, dtype=torch.long))))


# ------------------------------------------------------------------------------------------------------- keypoints
def test_keypoint_error_is_the_mean_distance_over_visible_ones():
    target = torch.tensor([[[1.0, 1, 2], [5, 5, 1], [0, 0, 0]]])
    output = target[..., :2] + torch.tensor([[3.0, 4], [0, 1], [100, 100]])
    assert value("keypoint_error", (output, target), kinds="points") == 3.0
    assert value("keypoint_error", (output, target[..., :2]), kinds="points") > 30, "control: without visibility all count"
    both = value("keypoint_error", (output, target), (target, target), kinds=Points(extra=1))
    assert both == 1.5, "over the keypoints of all batches alike"
    assert math.isnan(value("keypoint_error", (output, target * 0), kinds="points"))
    assert value("keypoint_error", ([output[0], torch.zeros(0)], [target[0], torch.zeros(0)]), kinds=Rows("points")) == 3.0
    with pytest.raises(ValueError, match=r"alike but for the last axis; got \(1, 2, 2\) and \(1, 3, 3\)"):
        value("keypoint_error", (output[:, :2], target), kinds="points")


def test_smaller_is_better_where_the_metric_says_so():
    """The worst element is the one with the greatest error, and the best method the one with the smallest."""
    x, _ = pictures()
    targets = torch.cat([torch.rand(len(x), 2, 2) * 8, torch.ones(len(x), 2, 1)], -1)
    answers = targets.flip(0)[..., :2].flip(0)

    def predictor(image: Tensor) -> Tensor:
        upright = (image[:, :, :1, :1] > 4).to(image)[:, 0]  # the mark of an upright picture; by rows, so it knows which
        return answers * upright + (1 - upright) * answers.flip(-1)

    model = Equivariant(predictor, Marked(), "image", "points")
    report = evaluate(model, (x, targets), metric="keypoint_error", targets=Points(extra=1), baselines=["bare"])
    assert not report.higher_is_better
    assert report["adapted"].values == pytest.approx([0] * 4, abs=1e-5)
    bare = report["bare"]
    assert bare.values[0] == 0
    assert bare.worst == max(bare.values) > 1
    assert bare.worst_index == bare.values.index(max(bare.values))
    table = report.to_markdown()
    assert "**0.000**" in table
    assert table.count("**") == 2, "only the mean of the better one is bold"
    assert "smaller is better" in report.title


@pytest.mark.parametrize("form", ["function", "torchmetrics", "object"])
def test_every_form_of_metric_can_say_so(form):
    from torchmetrics.classification import MulticlassHammingDistance

    def error(output: Tensor, target: Tensor) -> Tensor:
        return (output.argmax(1) != target).float().mean()

    error.higher_is_better = False
    metric = {"function": error, "torchmetrics": MulticlassHammingDistance(2), "object": make(error, "logits")}[form]
    if form == "object":
        metric.reset = lambda: None
    assert not is_better_higher(make(metric, as_kinds("logits")))
    report = evaluate(Equivariant(lambda x: torch.rand(len(x), 2), Marked(), "image", "logits"), pictures(), metric=metric)
    assert not report.higher_is_better
    assert report.worst == max(report["adapted"].values)


def test_which_way_is_better_and_one_number():
    from torchmetrics import MeanMetric

    assert MeanMetric().higher_is_better is None
    assert is_better_higher(MeanMetric())
    assert {name for name, row in METRICS.items() if not is_better_higher(row.make("logits"))} == {"keypoint_error", "cer"}

    class Several:
        def update(self, output, target):
            pass

        def reset(self):
            pass

        def compute(self):
            return {"precision": 1.0, "recall": 0.5}

    refused(ValueError, r"Several computes .* \(precision, recall\)", lambda: make(Several(), as_kinds("image")).compute())


# ------------------------------------------------------------------------------------------- lists of a dict per photo
def segmenter(images: list[Tensor]) -> list[dict[str, Any]]:
    """Labels the bright pixels of upright photos, which have their mark at the top left; of others it labels none."""
    return [{"segmentation": ((x[0] > 0.3) & (x[0, 0, 0] == 5)).int(), "segments_info": []} for x in images]


def pointer(images: list[Tensor]) -> list[dict[str, Tensor]]:
    """The place of the last bright pixel of upright photos."""
    places = [(x[0] > 0.3).nonzero()[-1].flip(0) + 0.5 if x[0, 0, 0] == 5 else torch.zeros(2) for x in images]
    return [{"keypoints": torch.cat([place, torch.ones(1)]).reshape(1, 1, 3)} for place in places]


SEGMENTATION = Rows({"segmentation": "mask", "segments_info": "invariant"})
KEYPOINTS = Rows({"keypoints": Points(extra=1)})


@pytest.mark.parametrize("form", ["label maps", "arrays", "dicts", "dicts of another name", "maps with a word"])
def test_miou_of_a_dict_per_photo(form):
    images, _ = photos()
    maps = [answer["segmentation"] for answer in segmenter(images)]
    forms = {"arrays": [m.numpy() for m in maps], "dicts": [{"segmentation": m} for m in maps]}
    forms["dicts of another name"] = [{"labels": m} for m in maps]
    words = {"maps with a word": Rows("mask"), "dicts of another name": Rows({"labels": "mask"})}
    model = Equivariant(segmenter, MarkedList(), Rows("image"), SEGMENTATION)
    data = (images, forms.get(form, maps))
    report = evaluate(model, data, metric="miou", targets=words.get(form), baselines=["bare"], batch_size=4)
    assert (report["adapted"].values, report["bare"].values[0]) == ([1] * 4, 1)
    assert max(report["bare"].values[1:]) < 0.5  # control


@pytest.mark.parametrize("form", ["dicts", "points"])
def test_keypoints_of_a_dict_per_photo(form):
    images, _ = photos()
    targets, model = pointer(images), Equivariant(pointer, MarkedList(), Rows("image"), KEYPOINTS)
    data = (images, targets if form == "dicts" else [answer["keypoints"] for answer in targets])
    report = evaluate(model, data, metric="keypoint_error", baselines=["bare"], batch_size=4)
    assert report["adapted"].values == pytest.approx([0] * 4, abs=1e-5)
    assert min(report["bare"].values[1:]) > 5  # control


def test_texts_of_a_dict_per_photo():
    def reader(images: list[Tensor]) -> list[dict[str, Any]]:
        return [{"text": "ab" if x[0, 0, 0] == 5 else "?!", "words": ["ab"], "boxes": torch.zeros(1, 4)} for x in images]

    model = Equivariant(
        reader, MarkedList(), Rows("image"), Rows({"text": "invariant", "words": "invariant", "boxes": "boxes"})
    )
    report = evaluate(model, (photos()[0], ["ab"] * 6), metric="cer", baselines=["bare"])
    assert (report["adapted"].values, report["bare"].values) == ([0] * 4, [0, 1, 1, 1])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"map": torch.zeros(2, 3)}, r"target\[0\]\['masks'\]: expected by the kinds, but the value has only 'map'"),
        (torch.zeros(2, 3), r"how the targets move is not clear from the outputs .*: pass targets= with their kind"),
    ],
)
def test_targets_unlike_the_outputs_are_refused(target, message):
    outputs, answer = Rows({"masks": "mask", "boxes": "boxes"}), {"masks": torch.zeros(1, 2, 3), "boxes": torch.zeros(1, 4)}
    model = Equivariant(lambda images: [answer for _ in images], MarkedList(), Rows("image"), outputs)
    refused(ValueError, message, lambda: evaluate(model, (photos()[0], [target] * 6), metric="miou"))


# ------------------------------------------------------------------------------------------------------- detections


def box(*corners: float) -> Tensor:
    return torch.tensor([corners], dtype=torch.float)


def found(boxes: Tensor, scores: list[float], labels: list[int]) -> dict[str, Tensor]:
    return {"boxes": boxes, "scores": torch.tensor(scores), "labels": torch.tensor(labels, dtype=torch.long)}


def there(boxes: Tensor, labels: list[int]) -> dict[str, Tensor]:
    return {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.long)}


ONE = pytest.approx(1)  # COCO divides by n plus a little
NOTHING = found(torch.zeros(0, 4), [], [])


@needs_coco
def test_average_precision_by_hand():
    truth, exact = there(box(0, 0, 10, 10), [3]), found(box(0, 0, 10, 10), [0.5], [3])
    assert value("box_map", ([exact], [truth])) == ONE
    assert value("box_map", ([found(box(0, 0, 10, 10), [0.5], [4])], [truth])) == 0, "another class"
    assert value("box_map", ([NOTHING], [truth])) == 0
    assert math.isnan(value("box_map", ([exact], [there(torch.zeros(0, 4), [])])))
    overlap = found(box(0, 0, 10, 7), [0.5], [3])  # IoU 0.7: right at 0.5, 0.55, 0.6, 0.65 and 0.7 of ten thresholds
    assert (value("box_map", ([overlap], [truth])), value("box_ap50", ([overlap], [truth]))) == (pytest.approx(0.5), ONE)
    half = value("box_ap50", ([exact, exact], [truth, there(box(20, 20, 30, 30), [3])]))
    assert half == pytest.approx(51 / 101), "half of the objects, the wrong one no likelier: precision 1 up to recall 0.5"
    crowd = truth | {"iscrowd": torch.tensor([1])}
    assert math.isnan(value("box_ap50", ([exact], [crowd]))), "a crowd is nothing to be found"
    mask = torch.zeros(1, 8, 10)
    mask[:, 2:6, 1:5] = 1
    truth = {"masks": mask.bool(), "labels": torch.tensor([1])}
    scores = {"scores": torch.tensor([0.9]), "labels": torch.tensor([1])}
    assert value("mask_map", ([{"masks": 0.8 * mask[:, None], **scores}], [truth])) == ONE
    assert value("mask_map", ([{"masks": 0.3 * mask[:, None], **scores}], [truth])) == 0, "control: below 0.5 nothing is there"
    none = {"masks": torch.zeros(0, 1, 8, 10), "scores": torch.zeros(0), "labels": torch.zeros(0).long()}
    assert value("mask_map", ([none], [truth])) == 0
    output = [{key: np.asarray(tensor) for key, tensor in NOTHING.items()}]
    assert value("box_map", (output, [{key: np.asarray(tensor) for key, tensor in there(box(0, 0, 1, 1), [1]).items()}])) == 0


@pytest.mark.parametrize("nothing", [torch.zeros(0), np.zeros(0), [], None], ids=["tensor", "array", "list", "None"])
@pytest.mark.parametrize("metric", ["box_map", "mask_map"])
@needs_coco
def test_nothing_may_have_any_empty_form(metric, nothing):
    none, mask = dict.fromkeys(("boxes", "masks", "scores", "labels"), nothing), torch.zeros(1, 8, 10)
    mask[:, 2:6, 1:5] = 1
    truth = there(box(1, 2, 5, 6), [1]) | {"masks": mask}
    exact = truth | {"scores": torch.ones(1)}
    assert value(metric, ([exact, none], [truth, none])) == ONE
    assert value(metric, ([exact, none], [truth, truth])) == pytest.approx(51 / 101)
    assert value(metric, ([exact, exact], [truth, none])) == ONE  # the other is as sure as the right one, and comes later


@pytest.mark.parametrize(
    ("output", "target", "message"),
    [
        ({"boxes": torch.zeros(1, 4)}, [], "detections are a list with a dict per photo.*got a dict"),
        ([there(box(0, 0, 1, 1), [1])], [there(box(0, 0, 1, 1), [1])], "detections have no scores; there are: boxes, labels"),
        ([NOTHING], [{"boxes": box(0, 0, 1, 1)}], "targets have no labels; there are: boxes"),
    ],
)
@needs_coco
def test_what_is_no_detection(output, target, message):
    refused(ValueError, message, lambda: value("box_map", (output, target)))


def photos() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Dark photos of many sizes with a bright mark at the top left, and one or two rectangles, class 1 or 2 by brightness."""
    images, targets = [], []
    for i, (h, w) in enumerate([(20, 30), (20, 30), (26, 18), (24, 24), (17, 33), (21, 19)]):
        image, objects = 0.1 * torch.rand(1, h, w), []
        image[0, 0, 0] = 5
        for k in range(1 + i % 2):
            x, y = 2 + 8 * k, 3 + i % 3
            image[:, y : y + 4 + k, x : x + 6] = 0.5 + 0.3 * k
            objects.append([x, y, x + 6, y + 4 + k])
        images.append(image)
        masks = torch.stack([(image[0] == 0.5 + 0.3 * k) for k in range(1 + i % 2)])
        targets.append(there(torch.tensor(objects).float(), list(range(1, 2 + i % 2))) | {"masks": masks})
    return images, targets


def detector(images: list[Tensor]) -> list[dict[str, Tensor]]:
    """Finds the rectangles of upright photos, which have their mark at the top left; in others it sees nothing."""
    answers = []
    for image in images:
        masks = [image[0] == level for level in (0.5, 0.8)] if image[0, 0, 0] == 5 else []
        masks = [mask for mask in masks if mask.any()]
        corners = [(mask.nonzero().amin(0), mask.nonzero().amax(0) + 1) for mask in masks]
        boxes = torch.tensor([[low[1], low[0], high[1], high[0]] for low, high in corners]).float().reshape(-1, 4)
        stacked = torch.stack(masks)[:, None] if masks else torch.zeros(0, 1, *image.shape[-2:], dtype=torch.bool)
        answers.append(found(boxes, [0.9] * len(masks), list(range(1, len(masks) + 1))) | {"masks": stacked})
    return answers


class MarkedList(Marked):
    def forward(self, images):
        scores = torch.stack([torch.stack([x[0, 0, 0], x[0, -1, 0], x[0, -1, -1], x[0, 0, -1]]) for x in images])
        return pose_of(scores, self.elements)


DETECTIONS = {"boxes": "boxes", "scores": "invariant", "labels": "invariant", "masks": "mask"}


@pytest.mark.parametrize("metric", ["box_map", "box_ap50", "mask_map"])
@pytest.mark.parametrize("form", ["lists", "dataset"])
@needs_coco
def test_targets_of_a_list_of_photos_move_with_them(metric, form):
    model, data = Equivariant(detector, MarkedList(), Rows("image"), Rows(DETECTIONS)), photos()
    if form == "dataset":
        data = dataset(zip(*data, strict=True))
    report = evaluate(model, data, metric=metric, baselines=["bare"], batch_size=4)
    assert (report.num_samples, report["adapted"].values, report["bare"].values) == (6, [ONE] * 4, [ONE, 0, 0, 0])


@needs_coco
def test_lists_of_photos_of_many_sizes():
    model = Equivariant(detector, MarkedList(), Rows("image"), Rows(DETECTIONS))
    report = evaluate(model, photos(), metric="box_ap50", baselines=["bare"])
    assert report["adapted"].equivariance_error == 0
    assert report["bare"].equivariance_error == float("inf"), "another number of boxes"
    assert equivariance_error(model, photos()[0], "C4").tolist() == [0] * 4
    assert equivariance_error(detector, photos()[0], "C4", Rows("image"), Rows(DETECTIONS))[1] == float("inf")
    images, targets = photos()
    for target in targets:
        target["area"] = torch.ones(len(target["labels"]))
    model = Equivariant(detector, MarkedList(), Rows("image"), Rows(DETECTIONS))
    refused(ValueError, r"target\[0\]\['area'\]: has no kind", lambda: evaluate(model, (images, targets), metric="box_map"))
    kinds = Rows(DETECTIONS | {"area": "invariant"})
    del kinds.kinds["scores"]
    assert evaluate(model, (images, targets), metric="box_map", targets=kinds).mean == ONE


def test_the_character_error_rate_of_a_reader():
    def reader(photos):
        return [{"text": "upright" if photo[0, 0, 0] > 0.5 else "gibberish"} for photo in photos]

    photos = [torch.zeros(3, 8, 12), torch.zeros(3, 10, 6)]
    for photo in photos:
        photo[:, 0, 0] = 1
    kinds = Rows({"text": "invariant"})
    model = adapt(reader, "C4", inputs=Rows("image"), outputs=kinds, canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    targets = [{"text": "upright"}, {"text": "upright!"}]
    report = evaluate(model, (photos, targets), metric="cer", baselines=["bare"])
    assert report["bare"].values[0] == pytest.approx(1 / 15)  # one letter of fifteen is missing
    assert max(report["bare"].values) > 0.5  # control
    assert len(set(report["adapted"].values)) == 1
    with pytest.raises(ValueError, match="needs strings, or dicts with a 'text'; got a int"):
        evaluate(
            adapt(lambda x: [1 for _ in x], "C4", inputs=Rows("image"), outputs=Rows("invariant")),
            (photos, targets),
            metric="cer",
        )


@needs_coco
def test_a_detector_says_itself_which_pose_its_list_comes_from():
    """Lists beside logits are what detection metrics look at; with a second opinion they come from the pose it prefers."""

    def with_evidence(images: list[Tensor]) -> dict:
        evidence = [torch.stack([image[0, 0, 0], torch.zeros(())]) for image in images]  # high where the mark is where it was
        return {"found": detector(images), "evidence": torch.stack(evidence)}

    outputs = {"found": Rows(DETECTIONS), "evidence": "logits"}
    kinds = Rows({"boxes": "boxes", "labels": "invariant", "masks": "mask"})
    opinions = {"none": None, "its own": Opinion(torch.tensor([9.0, -9.0])), "the opposite": Opinion(torch.tensor([-9.0, 9.0]))}
    mean = {}
    for name, opinion in opinions.items():
        model = Equivariant(with_evidence, UniformCanonicalizer("C4"), Rows("image"), outputs, top_k=4, opinion=opinion)
        mean[name] = evaluate(model, photos(), metric="box_ap50", targets=kinds).mean
    assert mean == {"none": pytest.approx(0.25, abs=1e-3), "its own": ONE, "the opposite": 0}
