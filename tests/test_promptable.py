"""Promptable segmenters: prompts in the photo's pixels, an embedding prompted many times, and every mask of a photo."""

from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from equiform import OrbitCanonicalizer, act, adapt
from equiform.predictors.pairs import PhotoPredictor, read_photo
from equiform.segment_anything import boxes_of, embed, suppressed
from photo_pairs import detection, pair

transformers = pytest.importorskip("transformers")
H, W = 50, 80


@cache
def sam(name="Sam"):
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    torch.manual_seed(0)
    vision = {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 32}
    vision |= {"image_size": 64, "patch_size": 8, "window_size": 3, "num_pos_feats": 8, "global_attn_indexes": [1]}
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4}
    decoder = {"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    decoder |= {"vit_dim": 16} if name == "SamHQ" else {}
    config = getattr(transformers, f"{name}Config")
    config = config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    model = getattr(transformers, f"{name}Model")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.5)
    sizes = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    sizes |= {"mask_size": {"longest_edge": 32}, "mask_pad_size": {"height": 32, "width": 32}}
    return getattr(transformers, f"{name}Processor")(SamImageProcessorPil(**sizes)), model.eval()


class Squeezing:
    """What SAM 2's processor does, without the torchvision that it needs: the photo squeezed to a square, masks back again."""

    def __call__(self, images, return_tensors):
        pixels = torch.from_numpy(np.array(images.resize((64, 64), Image.Resampling.BILINEAR)))
        return {"pixel_values": pixels.permute(2, 0, 1)[None] / 127.5 - 1, "original_sizes": [[images.height, images.width]]}

    def post_process_masks(self, masks, original_sizes, binarize=True):
        assert not binarize
        return [
            torch.nn.functional.interpolate(m, tuple(size), mode="bilinear")
            for m, size in zip(masks, original_sizes, strict=True)
        ]


@cache
def sam2():
    from test_transformers import sam2 as tiny

    torch.manual_seed(0)
    model = transformers.Sam2Model(tiny()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return Squeezing(), model


def sam_hq():
    return sam("SamHQ")


@pytest.mark.parametrize("pair", [sam2, sam_hq])
@pytest.mark.parametrize("name", ["points with labels", "two objects", "a box", "a mask", "one mask out"])
def test_masks_of_other_models_turn_with_the_photo(name, pair, photo):
    torch.manual_seed(1)
    model = adapt(pair(), "D4", canonicalizer=OrbitCanonicalizer("D4", resolution=32))
    expected, bare, fails = model(photo, **PROMPTS[name]), PhotoPredictor(*pair()), 0
    for g in model.group.elements:
        turned, prompts = act(g[None], photo[None])[0], moved(g[None], PROMPTS[name])
        answer, once = model(turned, **prompts), embed(model, turned)(**prompts)
        assert torch.equal(answer["masks"], act(g[None], expected["masks"][None], "mask")[0])
        assert torch.equal(once["masks"], answer["masks"])
        assert torch.equal(once["iou_scores"], expected["iou_scores"])
        fails += not torch.equal(bare(turned, **prompts)["iou_scores"], expected["iou_scores"])
    assert fails >= 6  # control


def make_photo(size=(H, W), seed=0):
    small = (np.random.default_rng(seed).random((5, 5, 3)) * 255).astype(np.uint8)
    return read_photo(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))


@pytest.fixture
def photo():
    return make_photo()


@pytest.fixture
def model():
    torch.manual_seed(1)
    return adapt(sam(), "D4", canonicalizer=OrbitCanonicalizer("D4", resolution=32))


MASK = torch.zeros(H, W, dtype=torch.bool)
MASK[10:30, 20:60] = True
PROMPTS = {
    "a point": {"input_points": [[10.3, 20.7]]},
    "points with labels": {"input_points": [[10, 20], [40, 41], [3, 3]], "input_labels": [1, 0, 1]},
    "two objects": {"input_points": [[[10.0, 20.0]], [[33.0, 44.0]]]},
    "a box": {"input_boxes": [5, 6, 40, 45.5]},
    "boxes": {"input_boxes": [[5, 6, 40, 45], [1, 2, 70, 30], [9, 9, 19, 29]]},
    "a box and a point": {"input_boxes": [5, 6, 40, 45], "input_points": [[10, 20]]},
    "a mask": {"input_masks": MASK},
    "a mask of logits and a point": {"input_masks": MASK * 4.0 - 2, "input_points": [[30, 20]]},
    "one mask out": {"input_points": [[10, 20]], "multimask_output": False},
}
KINDS = {"input_points": "points", "input_boxes": "boxes", "input_masks": "mask"}


def moved(g, prompts):
    """The prompts as someone would give them for the turned photo."""

    def move(name, value):
        if name not in KINDS:
            return value
        x = torch.as_tensor(value) if name == "input_masks" else torch.as_tensor(value, dtype=torch.float32)
        return act(g, x[None], KINDS[name], (H, W))[0]

    return {name: move(name, value) for name, value in prompts.items()}


@pytest.mark.parametrize("name", PROMPTS)
def test_masks_turn_with_the_photo_and_its_prompts(name, photo, model):
    prompts = PROMPTS[name]
    expected = model(photo, **prompts)
    num_objects = len(torch.as_tensor(prompts.get("input_boxes", [[0]])).reshape(-1, 4)) if "input_boxes" in prompts else None
    assert expected["masks"].dtype == torch.bool
    assert expected["masks"].shape[-2:] == (H, W)
    assert expected["masks"].shape[1] == (3 if prompts.get("multimask_output", True) else 1)
    assert num_objects in (None, len(expected["masks"]))
    assert 0 < expected["masks"].float().mean() < 1
    bare, fails = PhotoPredictor(*sam()), 0
    for g in model.group.elements:
        turned, turned_prompts = act(g[None], photo[None])[0], moved(g[None], prompts)
        answer = model(turned, **turned_prompts)
        assert torch.equal(answer["masks"], act(g[None], expected["masks"][None], "mask")[0])
        assert torch.equal(answer["iou_scores"], expected["iou_scores"])
        once = embed(model, turned)
        again = once(**turned_prompts)
        assert torch.equal(again["masks"], answer["masks"])
        assert torch.equal(again["iou_scores"], answer["iou_scores"])
        fails += not torch.equal(bare(turned, **turned_prompts)["iou_scores"], answer["iou_scores"])
    assert fails >= 6  # control: the bare pair answers alike for the canonical photo alone


def test_each_photo_of_a_list_has_its_own_prompts(model):
    photos = [make_photo(), make_photo((64, 40), 1), make_photo((48, 48), 2)]
    points = [[[10, 20]], [[[10, 20]], [[3, 60]]], [[40, 41], [4, 5]]]
    answers = model(photos, input_points=points)
    assert [len(answer["masks"]) for answer in answers] == [1, 2, 1]
    for photo, own, answer in zip(photos, points, answers, strict=False):
        alone = model(photo, input_points=own)
        assert torch.equal(alone["masks"], answer["masks"])
        assert torch.equal(alone["iou_scores"], answer["iou_scores"])


def test_prompts_of_several_photos_are_an_array_too(model):
    photos = [make_photo(), make_photo((64, 40), 1)]
    boxes = [[1, 2, 30, 29], [3, 3, 20, 20.5]]
    answers, expected = (model(photos, input_boxes=given) for given in (np.array(boxes), boxes))
    for ours, theirs in zip(answers, expected, strict=True):
        assert torch.equal(ours["masks"], theirs["masks"])
    with pytest.raises(ValueError, match="one entry for each of the 2 photos is expected; got 3"):
        model(photos, input_boxes=np.array([*boxes, boxes[0]]))


def test_a_photo_of_a_list_may_be_without_a_kind_of_prompt(model):
    photos = [make_photo(), make_photo((64, 40), 1)]
    points, box = [[10, 20]], [3, 3, 20, 20]
    answers = model(photos, input_points=[points, None], input_boxes=[None, box])
    alone = model(photos[0], input_points=points), model(photos[1], input_boxes=box)
    for ours, theirs in zip(answers, alone, strict=True):
        assert torch.equal(ours["masks"], theirs["masks"])
        assert torch.equal(ours["iou_scores"], theirs["iou_scores"])
    with pytest.raises(ValueError, match="no prompt: pass input_points="):
        model(photos, input_points=[points, None])


def test_the_image_encoder_runs_once(photo, model):
    calls = []
    handle = model.predictor.model.vision_encoder.register_forward_hook(lambda *_: calls.append(1))
    once = embed(model, photo)
    for x in (10, 20, 30):
        once(input_points=[[x, 20]])
    once.generate_masks(4)
    handle.remove()
    assert len(calls) == 1


def test_the_answer_is_that_of_transformers(photo):
    processor, network = sam()
    ours = PhotoPredictor(processor, network)(photo, input_points=[[10, 20]], input_boxes=[[5, 6, 40, 45]])
    image = Image.fromarray(photo.permute(1, 2, 0).numpy())
    batch = processor(
        images=image, input_points=[[[[10.0, 20.0]]]], input_boxes=[[[5.0, 6.0, 40.0, 45.0]]], return_tensors="pt"
    )
    batch = {k: v.float() if v.dtype == torch.float64 else v for k, v in batch.items()}
    with torch.no_grad():
        output = network(**{k: v for k, v in batch.items() if k not in ("original_sizes", "reshaped_input_sizes")})
    masks = processor.post_process_masks(output.pred_masks, batch["original_sizes"], batch["reshaped_input_sizes"])[0]
    assert torch.equal(ours["masks"], masks)
    assert torch.allclose(ours["iou_scores"], output.iou_scores[0], atol=1e-5)


def test_every_mask_of_a_photo_turns_with_it(photo, model):
    loose = {"min_score": -10.0, "min_stability": 0.1, "max_overlap": 1.0, "points_per_batch": 7}
    expected = embed(model, photo).generate_masks(4, **loose)
    assert len(expected["masks"]) > 1
    assert torch.equal(expected["boxes"], boxes_of(expected["masks"]))
    assert bool((expected["scores"].diff() <= 0).all())
    for g in model.group.elements:
        found = embed(model, act(g[None], photo[None])[0]).generate_masks(4, **loose)
        assert torch.equal(found["masks"], act(g[None], expected["masks"][None], "mask")[0])
        assert torch.equal(found["boxes"], act(g[None], expected["boxes"][None], "boxes", (H, W))[0])
        assert torch.equal(found["scores"], expected["scores"])
    none = embed(model, photo).generate_masks(2, min_score=1e9)
    assert none["masks"].shape == (0, H, W)
    assert none["boxes"].shape == (0, 4)


def test_the_best_of_overlapping_boxes_is_kept():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 10]])
    assert suppressed(boxes, torch.tensor([0.5, 0.9, 0.1, 0.4]), 0.7).tolist() == [1, 2]
    assert suppressed(boxes, torch.tensor([0.5, 0.9, 0.1, 0.4]), 0.95).tolist() == [1, 0, 2]
    assert suppressed(torch.zeros(0, 4), torch.zeros(0), 0.7).tolist() == []


def test_the_box_of_a_mask():
    assert boxes_of(MASK[None]).tolist() == [[20, 10, 60, 30]]
    assert boxes_of(torch.zeros(0, 4, 5, dtype=torch.bool)).shape == (0, 4)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({}, "no prompt: pass input_points="),
        ({"input_points": [[90, 3]]}, r"input_points: \[90.0, 3.0\] lies outside the photo, which is 80 wide and 50 high"),
        ({"input_points": [[float("nan"), 3]]}, "lies outside the photo"),
        ({"input_boxes": [5, 5, 3, 9]}, r"x1 < x2 and y1 < y2; got \[5.0, 5.0, 3.0, 9.0\]"),
        ({"input_boxes": [5, 5, 3]}, r"\(objects, 4\), or that without its first axis; got \(3,\)"),
        ({"input_points": [[1, 2]], "input_boxes": [[0, 0, 3, 3], [1, 1, 4, 4]]}, "2 boxes and 1 objects"),
        ({"input_points": [[1, 2]], "input_labels": [1, 1]}, r"points \(1, 1, 2\) and labels \(1, 2\)"),
        ({"input_points": [[1, 2]], "input_labels": [7]}, r"unknown labels \[7\]; known: 1 on the object"),
        ({"input_labels": [1]}, "input_labels say what each of the input_points is; got no points"),
        ({"input_masks": torch.zeros(3, 4)}, r"of the photo's size \(50, 80\) is expected; got \(3, 4\)"),
        ({"input_points": torch.zeros(0, 2)}, r"got \(0, 2\)"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(prompts, message, photo, model):
    with pytest.raises(ValueError, match=message):
        model(photo, **prompts)
    with pytest.raises(ValueError, match=message):
        embed(model, photo)(**prompts)


def test_prompts_are_one_a_photo(photo, model):
    with pytest.raises(ValueError, match="one entry for each of the 2 photos is expected; got 1"):
        model([photo, photo], input_points=[[[1, 2]]])
    with pytest.raises(TypeError, match="unknown prompts text"):
        embed(model, photo)(text="a cat")
    with pytest.raises(ValueError, match="points_per_side must be a whole number >= 1; got 0"):
        embed(model, photo).generate_masks(0)
    with pytest.raises(ValueError, match="points_per_batch must be a whole number >= 1; got 0"):
        embed(model, photo).generate_masks(4, points_per_batch=0)
    with pytest.raises(TypeError, match="min_score is a number; got 'a'"):
        embed(model, photo).generate_masks(4, min_score="a")
    with pytest.raises(ValueError, match=r"as many for each object; got \[\[\[1, 2\]\], \[\[1, 2\], \[3, 4\]\]\]$"):
        model(photo, input_points=[[[1, 2]], [[1, 2], [3, 4]]])
    with pytest.raises(ValueError, match="input_labels say what each of the input_points is; got no points"):
        model(photo, input_labels=[[1]])


def test_embed_takes_a_promptable_pair_alone(photo):
    with pytest.raises(TypeError, match=r"embed takes a promptable model.*got one around a Linear"):
        embed(adapt(torch.nn.Linear(1, 1), "C4", outputs="invariant"), photo)
    with pytest.raises(TypeError, match="got one around a YolosForObjectDetection"):
        embed(adapt(pair(detection), "C4"), photo)
    with pytest.raises(TypeError, match="got a Linear"):
        embed(torch.nn.Linear(1, 1), photo)
