"""Pairs (processor, model): photos in their own pixels in, answers in those pixels out, whatever way up they come."""

import numpy as np
import pytest
import torch
from PIL import Image

from asserting import dataset, refused
from equiform import FrameCanonicalizer, OrbitCanonicalizer, Upright, act, adapt, evaluate, fit, group, load
from equiform.geometry.kinds import Rows
from equiform.predictors.pairs import PhotoPredictor, read_photo, to_image
from equiform.predictors.photo_tasks import PHOTO_TASKS, photo_task
from photo_pairs import (
    BACKBONES,
    FINDERS,
    PAIRS,
    classification,
    clip,
    detection,
    grounding_dino,
    lacking,
    owl,
    pair,
    segmentation,
    universal,
)
from small_photos import make_photo

transformers = pytest.importorskip("transformers")
CASES = PAIRS | FINDERS | BACKBONES
HERE = [name for name in CASES if not lacking(name)]
# said once more, beside the table of the rows, which is what is tested; all else stays as it is
MAPS = {"segmentation": "mask", "masks": "mask", "predicted_depth": "image", "patch_features": "image", "feature_maps": "image"}
FEATURES = {"patch_features", "feature_maps"}
MOVES = MAPS | {"boxes": "boxes"}
SIZES = [(50, 80), (64, 40), (48, 48)]


def photos(sizes=SIZES):
    return [make_photo(size, i) for i, size in enumerate(sizes)]


def canonicalizer(name="D4"):
    torch.manual_seed(1)
    return OrbitCanonicalizer(name, resolution=32)


def leaves(answer):
    if isinstance(answer, dict):
        return {key: value for key, child in answer.items() for key, value in named(key, child)}
    return {key: value for i, child in enumerate(answer) for key, value in named(i, child)}


def named(key, child):
    if isinstance(child, (dict, list)):
        return [((key, inner), value) for inner, value in leaves(child).items()]
    return [(key, child)]


def assert_same(answer, expected, tolerance=0.0):
    ours, theirs = leaves(answer), leaves(expected)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert isinstance(value, torch.Tensor) == isinstance(theirs[key], torch.Tensor), key
        if isinstance(value, torch.Tensor):
            assert value.dtype == theirs[key].dtype, key
            assert value.shape == theirs[key].shape, key
            assert torch.allclose(value, theirs[key], rtol=0, atol=tolerance), key
        else:
            assert value == theirs[key], key


def assert_moved(chosen, upright, before, after, tolerance=0.0):
    """Every answer is the one for the upright photo, moved as the photo was; classes and scores stay."""
    if isinstance(before, list):
        kinds = Rows({key: MOVES.get(key, "invariant") for key in before[0]})
        before = [act(g, [one], kinds, tuple(x.shape[1:]))[0] for g, x, one in zip(chosen, upright, before, strict=True)]
    assert_same(after, before, tolerance)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("symmetry", [pytest.param("C4", marks=pytest.mark.slow), "D4"])
def test_answers_turn_with_the_photo(name, symmetry):
    make, options = CASES[name]
    bare, model = PhotoPredictor(*pair(make)), adapt(pair(make), symmetry, canonicalizer=canonicalizer(symmetry))
    upright, elements = photos(), model.group.elements
    expected, expected_of_bare = model(upright, **options), bare(upright, **options)
    bare_moves = False
    for shift in range(0, len(elements), 2):  # between them, every element moves a photo that is no square
        chosen = [elements[(shift + 3 * i) % len(elements)][None] for i in range(len(upright))]  # another for every photo
        moved = [act(g, x[None])[0] for g, x in zip(chosen, upright, strict=True)]
        assert_moved(chosen, upright, expected, model(moved, **options))
        try:
            assert_moved(chosen, upright, expected_of_bare, bare(moved, **options), tolerance=1e-3)
        except AssertionError:
            bare_moves = True
    assert bare_moves, "control: the bare model is not equivariant"


@pytest.mark.parametrize("name", HERE)
def test_the_answer_is_the_pairs_own_for_the_canonical_photo(name):
    make, options = CASES[name]
    model = adapt(pair(make), "C4", canonicalizer=canonicalizer("C4"))
    for photo in photos():
        canonical = Upright(model.canonicalizer)(photo)  # whose pose is the identity
        # boxes are rounded to a grid of floats that a quarter turn keeps
        assert_same(model(canonical, **options), PhotoPredictor(*pair(make))(canonical, **options), tolerance=1e-4)


def feature_maps(answer):
    """The features of one photo, in one map or in one a stage."""
    return answer["feature_maps"] if "feature_maps" in answer else [answer["patch_features"]]


def test_features_lie_where_the_photo_changed():
    before, predictors = photos([(64, 96)])[0], {name: PhotoPredictor(*pair(CASES[name][0])) for name in HERE}
    of_features = {n: p for n, p in predictors.items() if isinstance(p.outputs, list) and {*p.outputs[0]} & FEATURES}
    assert of_features.keys() > BACKBONES.keys() - {"zero-shot, MetaCLIP 2"}
    for name, predictor in of_features.items():
        for top, left in ((0, 64), (32, 0)):  # two corners: a law of symmetry cannot see maps that are rolled or transposed
            after = before.clone()
            after[:, top : top + 32, left : left + 32] ^= 255
            for f, changed in zip(feature_maps(predictor(before)), feature_maps(predictor(after)), strict=True):
                h, w = f.shape[-2:]
                i, j = divmod(int((changed - f).norm(dim=0).argmax()), w)
                y, x = (i + 0.5) / h * 64 - top, (j + 0.5) / w * 96 - left
                assert -2 < y < 34, name  # what lies beside the edge changes as well
                assert -2 < x < 34, name


def test_every_row_has_a_case():
    covered = {photo_task(pair(CASES[name][0])[1]).classes for name in HERE}
    # prompts move with the photo: test_promptable.py and vision/test_sam.py
    prompted = {task.classes for task in PHOTO_TASKS if task.prompts}
    elsewhere = {"transformers.models.sam3.*.Sam3Model"} if lacking("instances of a phrase") else set()  # tests/vision
    assert {task.classes for task in PHOTO_TASKS} - covered == prompted | elsewhere


def test_a_photo_is_a_path_an_image_an_array_or_a_tensor_upright_by_exif(tmp_path):
    model, tensor = adapt(pair(detection), "C4", canonicalizer=canonicalizer("C4")), photos()[0]
    image = to_image(tensor)
    image.save(tmp_path / "photo.png")
    expected = model(tensor, threshold=0.0)
    for photo in (image, np.asarray(image), tmp_path / "photo.png", str(tmp_path / "photo.png")):
        assert_same(model(photo, threshold=0.0), expected)
    assert_same(model([image], threshold=0.0)[0], expected)
    image, exif = to_image(photos()[0]), Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned: to be shown a quarter turn clockwise
    image.save(tmp_path / "phone.png", exif=exif)
    shown = act(group("C4").elements[3:4], photos()[0][None])[0]
    assert torch.equal(read_photo(tmp_path / "phone.png"), shown)
    assert torch.equal(read_photo(Image.open(tmp_path / "phone.png")), shown)


def test_the_task_is_one_that_the_processor_has():
    made, model = pair(universal)

    class Instances:
        post_process_instance_segmentation = made.post_process_instance_segmentation

        def __call__(self, images, return_tensors):
            return made(images=images, return_tensors=return_tensors)

    alone = adapt((Instances(), model), "C4", canonicalizer=canonicalizer("C4"))
    every, photo = adapt((made, model), "C4", canonicalizer=canonicalizer("C4")), photos()[0]
    assert_same(alone(photo, threshold=0.0), every(photo, threshold=0.0, task="instance"))
    assert_same(every(photo), every(photo, task="semantic"))
    refused(TypeError, "a Instances has no post_process_panoptic_segmentation", lambda: alone(photo, task="panoptic"))


def test_nothing_in_or_found_is_an_empty_answer():
    assert adapt(pair(detection), "C4")([]) == []
    assert adapt(pair(classification), "C4")([])["logits"].shape == (0, 5)
    assert adapt(pair(clip), "C4")([], text=["a", "b", "c"])["logits_per_image"].shape == (0, 3)
    answer = adapt(pair(detection), "C4", canonicalizer=canonicalizer("C4"))(photos(), threshold=1.0)
    assert [tuple(row["boxes"].shape) for row in answer] == [(0, 4)] * 3
    for case in ("named boxes", "phrased boxes"):
        make, options = CASES[case]
        answer = adapt(pair(make), "C4", canonicalizer=canonicalizer("C4"))(photos()[0], **options | {"threshold": 1.0})
        assert (answer["boxes"].shape, answer["text_labels"]) == ((0, 4), [])


def test_classes_are_averaged_and_label_maps_measured():
    model = adapt(pair(classification), "C4", canonicalizer=canonicalizer("C4"), top_k=4)
    logits = model(photos())["logits"]
    each = [model.predictor([act(g[None], x[None])[0] for x in photos()])["logits"] for g in model.group.elements]
    weights = model.predict(photos()).pose.scores.softmax(1).T[..., None]
    expected = sum(w * answer.softmax(-1) for w, answer in zip(weights, [each[0], *each[:0:-1]], strict=True))
    assert torch.allclose(logits.softmax(-1), expected, atol=1e-3)
    moved = [act(model.group.elements[1:2], x[None])[0] for x in photos()]
    assert torch.equal(model(moved)["logits"], logits)
    model = adapt(pair(segmentation), "C4", canonicalizer=canonicalizer("C4"))
    maps = [answer["segmentation"] for answer in model(photos())]
    report = evaluate(model, (photos(), maps), metric="miou", baselines=["bare"])
    assert report["adapted"].values == [1] * 4
    assert report["bare"].mean < 1


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        ("missing.jpg", "missing.jpg"),
        (None, "no photo: pass a path, a PIL image"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"got \(2, 4, 4, 3\); several photos are a list"),
        (3, "a photo is a path, a PIL image, an array or a tensor; got a int"),
        (np.zeros((4, 4, 3)), "uint8, 0 to 255; got float64"),
        (np.zeros((4, 4, 5), np.uint8), r"\(h, w, 3\) or \(h, w\); got \(4, 4, 5\)"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), r"\(3, h, w\); got \(4, 4, 3\)"),
    ],
)
def test_what_is_no_photo_is_refused(photo, message):
    refused((FileNotFoundError, TypeError, ValueError), message, lambda: adapt(pair(detection), "C4")(photo))


def test_what_is_no_known_pair_is_refused(unchecked):
    refused(TypeError, r"a pair is \(processor, model\)", lambda: adapt(tuple(reversed(pair(detection))), "C4"))
    refused(TypeError, r"a pair is \(processor, model\).*got 3 values", lambda: adapt((*pair(detection), None), "C4"))
    with pytest.raises(TypeError, match=r"what a Linear makes .*Rows\('image'\)"):
        adapt((pair(detection)[0], torch.nn.Linear(1, 1)), "C4")
    layouts, lines = [f"PPDocLayoutV{i}" for i in (2, 3, 4)], ["PPOCRV5ServerDet", "PPOCRV5MobileDet", "PPOCRV6SmallDet"]
    for name in ["OmDetTurbo", *layouts, *lines]:
        unlike = getattr(transformers, f"{name}ForObjectDetection")
        with pytest.raises(TypeError, match=f"what a {name}ForObjectDetection makes of photos is not known"):
            photo_task(unlike.__new__(unlike))
    refused(ValueError, r"its processor it is known: adapt\(\(processor, model\), group\)", lambda: adapt(pair(owl)[1], "C4"))
    with pytest.raises(ValueError, match=r"has no full stop, which ends it; got 'a dog\.'"):
        adapt(pair(grounding_dino), "C4")(photos(), text=["a cat", "a dog."])
    refused(TypeError, "treshold: its options are threshold", lambda: adapt(pair(detection), "C4")(photos(), treshold=0.1))
    refused(TypeError, "it takes photos alone", lambda: adapt(pair(classification), "C4")(photos(), input_points=[[1, 2]]))
    refused(ValueError, "needs the classes in words", lambda: adapt(pair(clip), "C4")(photos()))
    refused(ValueError, "task 'lines'; known: semantic, instance", lambda: adapt(pair(universal), "C4")(photos(), task="lines"))


# ------------------------------------------------------------------------------------------------------------- Upright
@pytest.fixture
def step():
    return Upright(canonicalizer())


def test_upright_gives_the_same_photo_whatever_way_up_it_came_and_refuses(step):
    for photo in photos():
        expected = step(photo)
        for g in group("D4").elements:
            moved = act(g[None], photo[None])[0]
            assert torch.equal(step(moved), expected)
            assert np.array_equal(np.asarray(step(to_image(moved))), np.asarray(to_image(expected)))
            assert np.array_equal(step(np.asarray(to_image(moved))), np.asarray(to_image(expected)))
        assert not all(torch.equal(act(g[None], photo[None])[0], expected) for g in group("D4").elements)  # control
        assert torch.equal(Upright(canonicalizer(), min_confidence=1)(photo), photo), "in doubt as it came"
    refused(ValueError, r"got \(3, 5, 6\): channels first are for a tensor", lambda: step(np.zeros((3, 5, 6), np.uint8)))
    refused(ValueError, r"got \(5, 6, 4\): PIL images may have any mode", lambda: step(np.zeros((5, 6, 4), np.uint8)))
    refused(ValueError, "min_confidence is a share .*, 0 to 1; got 2", lambda: Upright(canonicalizer(), min_confidence=2))
    refused(ValueError, "Upright turns photos; SO3 moves clouds", lambda: Upright(FrameCanonicalizer("SO3")))


def test_upright_keeps_every_type(step, tmp_path):
    photo = photos()[0]
    assert (step(to_image(photo).convert("L")).mode, step(np.zeros((4, 6), np.uint8)).ndim) == ("L", 2)
    assert isinstance(step([photo, to_image(photo)])[1], Image.Image)
    assert step(photo[None].float()).shape[:2] == (1, 3)
    to_image(photo).save(tmp_path / "a.png")
    assert isinstance(step(tmp_path / "a.png"), Image.Image)
    refused(TypeError, "got a int", lambda: step(3))
    refused(TypeError, "Upright takes a canonicalizer", lambda: Upright(3))

    class Picture(torch.Tensor):  # as those of torchvision.tv_tensors, whose operations give plain tensors
        __torch_function__ = torch._C._disabled_torch_function_impl

    assert type(Upright(canonicalizer("C4"))(photos()[0].as_subclass(Picture))) is Picture


def test_upright_is_a_step_of_a_chain_and_of_a_pipeline(tmp_path):
    step = Upright(canonicalizer("C4"))
    pipe = transformers.pipeline("image-classification", model=pair(classification)[1], image_processor=pair(classification)[0])
    image = to_image(photos()[0])
    expected = pipe(step(image))
    assert all(pipe(step(image.rotate(90 * k, expand=True))) == expected for k in range(4))
    chain = torch.nn.Sequential(step, torch.nn.AvgPool2d(2))  # as torchvision.transforms.Compose does
    photo = photos()[2][None].float()
    assert torch.equal(chain(photo), chain(photo.rot90(1, (-2, -1))))


# ---------------------------------------------------------------------------------------------------------------- data
def forms(tmp_path):
    """The same photos as tensors, files, PIL images and arrays."""
    tensors = photos()
    files = [tmp_path / f"{i}.png" for i in range(len(tensors))]
    for file, photo in zip(files, tensors, strict=True):
        to_image(photo).save(file)
    images = [to_image(photo) for photo in tensors]
    return {"tensors": tensors, "files": files, "images": images, "arrays": [np.asarray(image) for image in images]}


def test_a_pair_is_measured_on_photos_in_every_form(tmp_path, unchecked):
    model, found = adapt(pair(classification), "C4", canonicalizer=canonicalizer("C4")), {}
    for name, data in forms(tmp_path).items():
        report = evaluate(model, (data, [0, 1, 2]), baselines=["bare"])
        assert report["adapted"].equivariance_error == 0 < report["bare"].equivariance_error
        found[name] = report["bare"].values
        found[f"{name} of a Dataset"] = evaluate(model, dataset(zip(data, [0, 1, 2], strict=True)), baselines=["bare"])[
            "bare"
        ].values
    assert all(values == found["tensors"] for values in found.values())


@pytest.mark.parametrize("form", ["tensors", "files", "images", "folder"])
def test_a_pair_is_fitted_on_photos_in_every_form(form, tmp_path, unchecked):
    data = (forms(tmp_path) | {"folder": tmp_path})[form]
    for given in (data,) if form == "folder" else (data, dataset(data)):
        model = adapt(pair(classification), "C4", canonicalizer=canonicalizer("C4"))
        assert np.isfinite(fit(model, given, epochs=1, enable_progress_bar=False).history[0]["loss"])
        fresh = canonicalizer("C4")
        assert any(not torch.equal(*both) for both in zip(fresh.parameters(), model.canonicalizer.parameters(), strict=True))


def test_what_was_saved_and_what_is_asked_of_a_pair(tmp_path, unchecked):
    made = pair(classification)
    model, photo = adapt(made, "C4", canonicalizer=canonicalizer("C4")), photos()[0]
    model.save(tmp_path / "saved")
    again = load(tmp_path / "saved", made)
    assert again.predictor.model is made[1]
    assert_same(again(photos()), model(photos()))
    assert torch.equal(Upright(tmp_path / "saved")(photo), Upright(model.canonicalizer)(photo))
    refused(ValueError, r"pass \(processor, model\); got ViTForImageClassification", lambda: load(tmp_path / "saved", made[1]))
    model = adapt(pair(detection), "C4", canonicalizer=canonicalizer("C4"))
    refused(TypeError, "threshold is a number; got 'a'", lambda: model(photos()[0], threshold="a"))
    refused(FileNotFoundError, r"no file https://x.org/a.jpg: photos are files on this machine", model, "https://x.org/a.jpg")
