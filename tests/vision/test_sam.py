"""SAM 2 and the promptable part of SAM 3 as pairs, with their own processors, which need torchvision; tiny random models."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("torchvision", reason="torchvision is tested in an environment of its own: make test")
transformers = pytest.importorskip("transformers")

from equiform import Equivariant, OrbitCanonicalizer, act, adapt
from equiform.predictors.pairs import PhotoPredictor, to_image
from equiform.segment_anything import embed
from photo_pairs import sam3_images, sam3_vision
from test_promptable import PROMPTS, make_photo, moved
from test_transformers import sam2

H, W = 50, 80


def stirred(model: Any) -> Any:
    """Weights that begin at zero too, behind which nothing of a prompt would be seen."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


@cache
def pair(name: str = "SAM 2") -> tuple[Any, Any]:
    if name == "SAM 3":
        sizes = {"hidden_size": 32, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
        prompts = {"hidden_size": 32, "image_size": 56, "patch_size": 14, "mask_input_channels": 16}
        parts = {"vision_config": sam3_vision(), "prompt_encoder_config": prompts, "mask_decoder_config": sizes}
        tracker = transformers.Sam3TrackerModel(transformers.Sam3TrackerConfig(**parts))
        return transformers.Sam3TrackerProcessor(sam3_images(), target_size=56), stirred(tracker)
    sizes = {"size": {"height": 64, "width": 64}, "mask_size": {"height": 16, "width": 16}}
    processor = transformers.Sam2Processor(transformers.Sam2ImageProcessor(**sizes), target_size=64)
    return processor, stirred(transformers.Sam2Model(sam2()))


def adapted(group: str, name: str = "SAM 2") -> Equivariant:
    torch.manual_seed(1)
    return adapt(pair(name), group, canonicalizer=OrbitCanonicalizer(group, resolution=32))


@pytest.fixture
def photo() -> Tensor:
    return make_photo((H, W))


@pytest.mark.parametrize(("group", "which"), [("C4", "SAM 2"), ("D4", "SAM 2"), ("D4", "SAM 3")])
@pytest.mark.parametrize("name", PROMPTS)
def test_masks_turn_with_the_photo_and_its_prompts(name, group, which, photo):
    """To the bit, embedded first or not; the bare pair breaks the same law."""
    model, prompts = adapted(group, which), PROMPTS[name]
    expected = model(photo, **prompts)
    assert expected["masks"].dtype == torch.bool
    assert expected["masks"].shape[1:] == (3 if prompts.get("multimask_output", True) else 1, H, W)
    assert 0 < expected["masks"].float().mean() < 1
    bare, fails = PhotoPredictor(*pair(which)), 0
    for g in model.group.elements:
        turned, its_prompts = act(g[None], photo[None])[0], moved(g[None], prompts)
        embedded = embed(model, turned)
        for answer in (model(turned, **its_prompts), embedded(**its_prompts), embedded(**its_prompts)):
            assert torch.equal(answer["masks"], act(g[None], expected["masks"][None], "mask")[0])
            assert torch.equal(answer["iou_scores"], expected["iou_scores"])
        fails += not torch.equal(bare(turned, **its_prompts)["iou_scores"], expected["iou_scores"])
    assert fails >= len(model.group.elements) - 2  # control


@pytest.mark.parametrize("which", ["SAM 2", "SAM 3"])
@pytest.mark.parametrize("size", [(50, 80), (64, 40), (48, 48)])
def test_the_answer_is_that_of_transformers(size, which):
    """With the processor's own prompts: it squeezes them as it does the photo."""
    processor, model = pair(which)
    photo = make_photo(size)
    ours = PhotoPredictor(processor, model)(photo, input_points=[[10, 20]], input_labels=[1], input_boxes=[[5, 6, 40, 45]])
    given = {"input_points": [[[[10.0, 20.0]]]], "input_labels": [[[1]]], "input_boxes": [[[5.0, 6.0, 40.0, 45.0]]]}
    batch = processor(images=to_image(photo), return_tensors="pt", **given)
    batch = {name: value.float() if value.dtype == torch.float64 else value for name, value in batch.items()}
    with torch.no_grad():
        output = model(**{name: value for name, value in batch.items() if name != "original_sizes"})
    masks = processor.post_process_masks(output.pred_masks, batch["original_sizes"])[0]
    assert masks.shape[-2:] == size
    assert torch.equal(ours["masks"], masks)
    assert torch.allclose(ours["iou_scores"], output.iou_scores[0], atol=1e-5)


def test_each_photo_of_a_list_has_its_own_prompts():
    model = adapted("C4")
    photos = [make_photo((50, 80)), make_photo((64, 40), 1), make_photo((48, 48), 2)]
    points = [[[10, 20]], [[[10, 20]], [[3, 60]]], [[40, 41], [4, 5]]]
    answers = model(photos, input_points=points)
    assert [tuple(answer["masks"].shape) for answer in answers] == [(1, 3, 50, 80), (2, 3, 64, 40), (1, 3, 48, 48)]
    for photo, own, answer in zip(photos, points, answers, strict=True):
        assert torch.equal(model(photo, input_points=own)["masks"], answer["masks"])


def test_every_mask_of_a_photo_turns_with_it(photo):
    model = adapted("D4")
    loose = {"min_score": -10.0, "min_stability": 0.1, "max_overlap": 1.0, "points_per_batch": 7}
    expected = embed(model, photo).generate_masks(4, **loose)
    assert len(expected["masks"]) > 1
    for g in model.group.elements:
        found = embed(model, act(g[None], photo[None])[0]).generate_masks(4, **loose)
        assert torch.equal(found["masks"], act(g[None], expected["masks"][None], "mask")[0])
        assert torch.equal(found["boxes"], act(g[None], expected["boxes"][None], "boxes", (H, W))[0])
        assert torch.equal(found["scores"], expected["scores"])
