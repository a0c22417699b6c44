"""Known models of transformers need no word about how they move: tiny random ones, checked against moves written by hand."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import equiform
import small_transformers as small
from asserting import refused
from equiform import Dihedral, Invariant, Logits, OrbitCanonicalizer, act, adapt
from equiform.canonicalizers import Canonicalizer
from equiform.geometry.kinds import as_kinds, from_json, to_json
from equiform.geometry.nested import children, is_container, map_kinds
from equiform.predictors import known_kinds
from equiform.predictors.photo_tasks import photo_task
from equiform.predictors.transformers import ADAPTERS
from small_canonicalizers import Fixed

t = pytest.importorskip("transformers")
D4 = Dihedral(4).elements
CODES = {"even": [2, 0, 6, 4], "odd": [1, 5, 3, 7]}  # k quarter turns, after a flip from 4 on; each parity shares a canvas
B = 4


# --------------------------------------------------------------------------------------- moves by hand, one row at a time
def flipped_or_turned(code: int, flip: Callable[[Any], Any], quarter: Callable[[Any], Any], x: Any) -> Any:
    """The element of that code as a flip and quarter turns, one after another."""
    x = flip(x) if code >= 4 else x
    for _ in range(code % 4):
        x = quarter(x)
    return x


def a_map(x: Tensor, code: int, canvas: tuple[int, int]) -> Tensor:
    return torch.rot90(x.flip(-1) if code >= 4 else x, code % 4, (-2, -1))


def the_same(x: Any, code: int, canvas: tuple[int, int]) -> Any:
    return x


def shares(x: Tensor, code: int, canvas: tuple[int, int]) -> Tensor:
    """Boxes (cx, cy, w, h) in shares of the canvas, on the grid of floats: a quarter turn takes the right edge to the top."""
    x = (x * 2**22).round() / 2**22
    cx, cy, w, h = range(4)
    return flipped_or_turned(
        code,
        lambda v: torch.stack([1 - v[..., cx], v[..., cy], v[..., w], v[..., h]], -1),
        lambda v: torch.stack([v[..., cy], 1 - v[..., cx], v[..., h], v[..., w]], -1),
        x,
    )


def points(x: Tensor, code: int, canvas: tuple[int, int]) -> Tensor:
    """(x, y) in pixels of a square canvas."""
    side = canvas[0]
    assert canvas == (side, side)
    flip, quarter = (lambda v: [side - v[..., 0], v[..., 1]]), (lambda v: [v[..., 1], side - v[..., 0]])
    return flipped_or_turned(code, lambda v: torch.stack(flip(v), -1), lambda v: torch.stack(quarter(v), -1), x)


def places(x: Tensor, code: int, canvas: tuple[int, int]) -> Tensor:
    """(x, y) in shares of the canvas, on the grid of floats."""
    return points((x * 2**22).round() / 2**22, code, (1, 1))


def corners(x: Tensor, code: int, canvas: tuple[int, int]) -> Tensor:
    a, b = points(x[..., :2], code, canvas), points(x[..., 2:], code, canvas)
    return torch.cat([a.minimum(b), a.maximum(b)], -1)


@dataclass
class Tokens:
    """Patches row after row, with others before and after."""

    patch: int
    before: int
    after: int = 0

    def __call__(self, x: Tensor, code: int, canvas: tuple[int, int]) -> Tensor:
        h, w = (-(-side // self.patch) for side in canvas)
        end = self.before + h * w
        assert len(x) == end + self.after
        grid = x[self.before : end].reshape(h, w, -1).permute(2, 0, 1)
        return torch.cat([x[: self.before], a_map(grid, code, canvas).permute(1, 2, 0).reshape(h * w, -1), x[end:]])


@dataclass
class Along:
    """One entry per row along another axis than the first; None: all rows share it."""

    axis: int | None


def by_hand(expected: Any, value: Any, codes: list[int], canvas: tuple[int, int]) -> Any:
    """The value moved leaf by leaf and row by row: every field must be expected, at the place where it is."""
    if is_container(value):
        pairs = children(value)
        names = [key for key, _ in pairs]
        if isinstance(expected, dict):
            assert sorted(names) == sorted(expected), "a field that is not expected, or an expected one that is missing"
        return [by_hand(expected[key] if isinstance(expected, dict) else expected, v, codes, canvas) for key, v in pairs]
    if isinstance(expected, Along) or value.ndim == 0:
        return value
    return torch.stack([expected(row, code, canvas) for row, code in zip(value, codes, strict=True)])


def flat(value: Any) -> list[Tensor]:
    return [leaf for _, child in children(value) for leaf in flat(child)] if is_container(value) else [value]


def shape(value: Any) -> Any:
    """Types and keys all the way down."""
    return (type(value), [(key, shape(child)) for key, child in children(value)]) if is_container(value) else type(value)


# ---------------------------------------------------------------------------------------------------------------- cases
@dataclass
class Case:
    """A class of transformers, a tiny configuration, what goes in besides the photos and how each field of the answer moves."""

    name: str
    config: Callable[[], Any]
    outputs: dict[str, Any]
    canvas: tuple[int, int] = (64, 96)
    inputs: dict[str, tuple[Callable[[], Tensor], Any]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    id: str = ""

    def make(self) -> Any:
        """The same random weights every time; those too that begin at zero, behind which nothing of a prompt would be seen."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = getattr(t, self.name)(self.config()).eval()
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            return model

    def upright(self) -> dict[str, Tensor]:
        return {"pixel_values": torch.rand(B, 3, *self.canvas)} | {key: make() for key, (make, _) in self.inputs.items()}

    def moved(self, upright: dict[str, Tensor], codes: list[int]) -> dict[str, Tensor]:
        moves = {"pixel_values": a_map} | {key: move for key, (_, move) in self.inputs.items()}
        return {key: by_hand(moves[key], value, codes, self.canvas) for key, value in upright.items()}


def classes(h: int = 0, w: int = 0) -> Callable[[], Tensor]:
    """Labels per image, or per pixel."""
    return lambda: torch.randint(0, 5, (B, h, w) if h else (B,))


def some_padding() -> Tensor:
    """A mask whose last columns are padding in two of the rows."""
    mask = torch.ones(B, 70, 96, dtype=torch.long)
    mask[1, :, 64:] = mask[3, :, 80:] = 0
    return mask


def stays(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, the_same)


def maps(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, a_map)


INNER, WIDE = {"output_hidden_states": True}, {"interpolate_pos_encoding": True}
TOKENS, TOKENS32, TOKENS14 = Tokens(8, 1), Tokens(32, 0), Tokens(14, 1)
QUERIES = stays("logits", "last_hidden_state", "decoder_hidden_states") | {"pred_boxes": shares}
DETR = QUERIES | {"encoder_last_hidden_state": TOKENS32, "encoder_hidden_states": TOKENS32}
POINTED = DETR | stays("encoder_last_hidden_state", "encoder_hidden_states", "intermediate_hidden_states")
REFERENCES = ("init_reference_points", "intermediate_reference_points")
PROPOSED = stays("enc_outputs_class", "enc_outputs_coord_logits")
ENCODED = ("encoder_last_hidden_state_vision", "encoder_vision_hidden_states", "encoder_last_hidden_state_text")
PHRASED = QUERIES | stays(*ENCODED, "encoder_text_hidden_states", "encoder_logits", "input_ids")
PHRASED |= {"encoder_pred_boxes": shares, "intermediate_hidden_states": the_same} | PROPOSED
PHRASED |= dict.fromkeys(REFERENCES, shares)
RT_DETR = QUERIES | PROPOSED | {"intermediate_reference_points": shares, "enc_topk_bboxes": shares}
RT_DETR |= stays("intermediate_hidden_states", "intermediate_logits", "enc_topk_logits", "init_reference_points")
RT_DETR |= maps("encoder_last_hidden_state", "encoder_hidden_states")
D_FINE = RT_DETR | {"initial_reference_points": shares, "intermediate_predicted_corners": the_same}
D_FINE |= {"intermediate_hidden_states": Along(1)}
MASKS = maps("masks_queries_logits", "encoder_last_hidden_state", "encoder_hidden_states")
MASKS |= maps("pixel_decoder_last_hidden_state", "pixel_decoder_hidden_states")
MASKS |= stays("class_queries_logits", "transformer_decoder_last_hidden_state")
SAM = stays("iou_scores") | maps("pred_masks")
SAM2 = SAM | stays("object_score_logits") | maps("image_embeddings")


def pooled(states: Any, *more: str) -> dict[str, Any]:
    return dict.fromkeys(("pooler_output", *more), the_same) | {"last_hidden_state": states, "hidden_states": states}


def described(states: Any) -> dict[str, Any]:
    """What a model of texts and images says, of as many texts as there are images."""
    texts, images = Along(None), {"image_embeds": the_same, "vision_model_output": pooled(states)}
    scores = {"logits_per_image": the_same, "logits_per_text": Along(1)}
    return scores | images | {"text_embeds": texts, "text_model_output": texts}


def clip(name: str) -> Callable[[], Any]:
    return partial(small.texts_and_images, name)


def words() -> Tensor:
    return torch.randint(2, 40, (B, 7))


def few(*size: int) -> Callable[[], Tensor]:
    """Places in a photo of 64 x 64 pixels."""
    return lambda: torch.randint(0, 64, (B, *size)) + 0.5


def boxes() -> Tensor:
    corner = torch.randint(0, 32, (B, 3, 2)) + 0.25
    return torch.cat([corner, corner + torch.randint(4, 30, (B, 3, 2))], -1)


TEXT = {"input_ids": (words, Along(None)), "attention_mask": (lambda: torch.ones(B, 7).long(), Along(None))}
POINTS = {"input_points": (few(3, 2, 2), points), "input_labels": (lambda: torch.randint(0, 2, (B, 3, 2)), the_same)}
ALL_PROMPTS = POINTS | {"input_boxes": (boxes, corners), "input_masks": (lambda: torch.randn(B, 1, 16, 16), a_map)}
ONE_POINT = {"input_points": (few(1, 1, 2), points), "input_labels": (lambda: torch.ones(B, 1, 1).int(), the_same)}
BOX = {"input_boxes": (boxes, corners), "original_sizes": (lambda: torch.tensor([[48, 64]] * B), the_same)}

IDS, DEPTH, FEATURES = {"input_ids": (words, the_same)}, maps("predicted_depth"), maps("feature_maps")
of_five, deit = partial(small.vit, num_labels=5), partial(small.vit, "DeiT")
TAUGHT, SHARED = stays("logits", "cls_logits", "distillation_logits"), dict.fromkeys(REFERENCES, shares)
MAPS, SMALL_MAPS = ({"labels": (classes(*size), a_map)} for size in ((64, 96), (32, 32)))
REFINED = {"init_reference_points": places, "intermediate_reference_points": shares}
inner, wide = partial(Case, options=INNER), partial(Case, options=INNER | WIDE)
prompted = partial(Case, canvas=(64, 64))
LABELS = {"labels": (classes(), the_same)}
VIDEOS = ("VideoMAE", "Timesformer", "Vivit")
VIDEO = LABELS | {"pixel_values": (lambda: torch.rand(B, 4, 3, 32, 32), a_map)}
ONE_MASK = ONE_POINT | {"input_masks": ALL_PROMPTS["input_masks"]}
with_registers, v3 = partial(small.vit, "Dinov2WithRegisters"), partial(small.vit, "DINOv3ViT", num_register_tokens=3)
next1, next2 = (partial(small.of, name, **small.FOUR) for name in ("ConvNext", "ConvNextV2"))
segformer = partial(small.of, "Segformer", **small.STAGES, num_labels=5)
dpt_of_dino = partial(small.of, "DPT", **small.DPT)
refined = partial(small.deformable, with_box_refine=True)
two_stages = partial(refined, two_stage=True)
CASES = [
    wide("ViTForImageClassification", of_five, stays("loss", "logits") | {"hidden_states": TOKENS}, inputs=LABELS),
    inner("ResNetForImageClassification", small.resnet, stays("logits") | maps("hidden_states")),
    inner("CLIPForImageClassification", clip("CLIP"), stays("logits") | {"hidden_states": TOKENS}, (32, 32)),
    Case("SwinForImageClassification", small.swin, stays("logits")),
    *[Case(f"{c}ForVideoClassification", partial(small.video, c), stays("loss", "logits"), (32, 32), VIDEO) for c in VIDEOS],
    wide("DeiTForImageClassificationWithTeacher", deit, TAUGHT | {"hidden_states": Tokens(8, 2)}),
    inner("SegformerForSemanticSegmentation", segformer, stays("loss") | maps("logits", "hidden_states"), inputs=MAPS),
    Case("DPTForSemanticSegmentation", partial(small.dpt, num_labels=5), stays("loss") | maps("logits"), (32, 32), SMALL_MAPS),
    inner("UperNetForSemanticSegmentation", small.upernet, maps("logits", "hidden_states")),
    inner("BeitForSemanticSegmentation", small.beit, maps("logits") | {"hidden_states": TOKENS}, (32, 32)),
    inner(
        "DPTForDepthEstimation",
        lambda: dpt_of_dino(backbone_config=small.dino(out_indices=[1, 2, 3, 4], reshape_hidden_states=False)),
        maps("predicted_depth") | {"hidden_states": TOKENS14},
        (28, 42),
    ),
    inner("DepthAnythingForDepthEstimation", small.depth_anything, DEPTH | {"hidden_states": TOKENS14}, (28, 42)),
    inner("GLPNForDepthEstimation", partial(small.of, "GLPN", **small.STAGES), maps("predicted_depth", "hidden_states")),
    wide("CLIPModel", clip("CLIP"), described(TOKENS), inputs=TEXT),
    wide("MetaClip2Model", clip("MetaClip2"), described(TOKENS), inputs=TEXT),
    wide("SiglipModel", clip("Siglip"), described(Tokens(8, 0)), inputs=TEXT),
    *[wide(f"{c}Model", partial(small.vit, c), pooled(TOKENS)) for c in ("ViT", "CLIPVision", "MetaClip2Vision")],
    inner("Dinov2Model", small.dino, pooled(TOKENS14), (42, 70)),
    inner("Dinov2Model", small.dino, pooled(TOKENS14), (56, 56), id="square"),
    inner("Dinov2WithRegistersModel", with_registers, pooled(Tokens(8, 1 + 4))),
    inner("DINOv3ViTModel", v3, pooled(Tokens(8, 4))),
    wide("DeiTModel", partial(small.vit, "DeiT"), pooled(Tokens(8, 2))),
    wide("IJepaModel", partial(small.vit, "IJepa"), dict.fromkeys(("last_hidden_state", "hidden_states"), Tokens(8, 0))),
    inner("DPTModel", partial(small.vit, "DPT", is_hybrid=False), pooled(TOKENS)),
    *[
        wide(
            f"{name}VisionModelWithProjection",
            partial(small.vit, f"{name}Vision", projection_dim=8),
            stays("image_embeds") | dict.fromkeys(("last_hidden_state", "hidden_states"), TOKENS),
        )
        for name in ("CLIP", "MetaClip2")
    ],
    wide("SiglipVisionModel", partial(small.vit, "SiglipVision"), pooled(Tokens(8, 0))),
    inner("ResNetModel", small.resnet, pooled(a_map), (70, 96)),
    inner("ConvNextModel", next1, pooled(a_map)),
    inner("ConvNextV2Model", next2, pooled(a_map)),
    inner("SegformerModel", segformer, maps("last_hidden_state", "hidden_states")),
    inner("Dinov2Backbone", partial(small.dino, out_indices=[1, 4]), FEATURES | {"hidden_states": TOKENS14}, (28, 42)),
    Case("Dinov2Backbone", partial(small.dino, reshape_hidden_states=False), {"feature_maps": TOKENS14}, (28, 42), id="tokens"),
    Case("Dinov2WithRegistersBackbone", with_registers, maps("feature_maps")),
    Case("DINOv3ViTBackbone", v3, maps("feature_maps")),
    inner("ResNetBackbone", small.resnet, maps("feature_maps", "hidden_states")),
    Case("ConvNextBackbone", next1, maps("feature_maps")),
    Case("ConvNextV2Backbone", next2, maps("feature_maps")),
    Case("SwinBackbone", small.swin, maps("feature_maps")),
    inner("DetrForObjectDetection", small.detr, DETR, (70, 96), {"pixel_mask": (some_padding, a_map)}),
    inner(
        "DetrForObjectDetection",
        partial(small.detr, stages=["stage2"]),
        QUERIES | dict.fromkeys(("encoder_last_hidden_state", "encoder_hidden_states"), Tokens(8, 0)),
        id="of two stages",
    ),
    *[
        inner(f"{name}ForSegmentation", partial(small.detr_masks, name), DETR | maps("pred_masks"))
        for name in ("Detr", "ConditionalDetr")
    ],
    inner("ConditionalDetrForObjectDetection", partial(small.detr, "ConditionalDetr"), DETR),
    inner("DabDetrForObjectDetection", partial(small.detr, "DabDetr", hidden_size=16), DETR),
    inner("DeformableDetrForObjectDetection", small.deformable, POINTED | dict.fromkeys(REFERENCES, places), (70, 96)),
    inner("DeformableDetrForObjectDetection", refined, POINTED | REFINED, id="refined"),
    inner("DeformableDetrForObjectDetection", two_stages, POINTED | SHARED | PROPOSED, id="two stages"),
    *[
        inner(f"{name}ForObjectDetection", partial(small.grounding_dino, name), PHRASED, inputs=IDS)
        for name in ("GroundingDino", "MMGroundingDino")
    ],
    inner("TableTransformerForObjectDetection", partial(small.detr, "TableTransformer"), DETR),
    inner("RTDetrForObjectDetection", small.rt_detr, RT_DETR),
    inner("RTDetrV2ForObjectDetection", partial(small.rt_detr, "RTDetrV2"), RT_DETR),
    inner("DFineForObjectDetection", small.d_fine, D_FINE),
    inner(
        "YolosForObjectDetection",
        partial(small.vit, "Yolos", image_size=[32, 32], num_detection_tokens=5),
        stays("logits") | {"pred_boxes": shares} | dict.fromkeys(("last_hidden_state", "hidden_states"), Tokens(8, 1, 5)),
    ),
    inner("Mask2FormerForUniversalSegmentation", small.mask2former, MASKS | {"transformer_decoder_hidden_states": Along(1)}),
    Case("MaskFormerForInstanceSegmentation", small.mask_former, {k: m for k, m in MASKS.items() if "hidden_states" not in k}),
    prompted("SamModel", small.sam, SAM, inputs=ALL_PROMPTS, id="all prompts"),
    prompted("SamModel", small.sam, SAM, inputs=BOX, id="boxes"),
    prompted("SamHQModel", partial(small.sam, "SamHQ"), SAM, inputs=ALL_PROMPTS),
    prompted("Sam2Model", small.sam2, SAM2, inputs=POINTS, id="points"),
    prompted("Sam2Model", small.sam2, SAM2, inputs=BOX, id="boxes"),
    prompted("Sam2Model", small.sam2, SAM2, inputs=ONE_MASK, options={"multimask_output": False}, id="a mask"),
]


def params(cases: list[Case]) -> list[Any]:
    return [pytest.param(case, id=f"{case.name}-{case.id}".rstrip("-")) for case in cases]


def Known(codes: list[int]) -> Fixed:
    """The poses of the rows, told beforehand; the second likeliest is the next element."""
    index = torch.tensor(codes)
    scores = 9.0 * nn.functional.one_hot(index, 8) + 8.0 * nn.functional.one_hot((index + 4) % 8, 8)
    return Fixed(scores, "D4")


def adapted(case: Case, canonicalizer: Canonicalizer, **options: Any) -> Any:
    """Without a word about the kinds."""
    return adapt(case.make(), canonicalizer.group, canonicalizer=canonicalizer, **options)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


# ----------------------------------------------------------------------------------------------------------------- laws
@pytest.mark.parametrize("parity", CODES)
@pytest.mark.parametrize("case", params(CASES))
def test_the_answer_is_the_upright_one_moved_by_hand(case, parity, unchecked):
    """To the bit. A different element in every row."""
    codes = CODES[parity]
    model, upright = adapted(case, Known(codes)), case.upright()
    bare, moved = model.predictor(**upright, **case.options), case.moved(upright, codes)
    answer = model(**moved, **case.options)
    assert shape(answer) == shape(bare), "the structure and the types of the predictor's own answer"
    expected = flat(by_hand(case.outputs, bare, codes, case.canvas))
    assert len(expected) == len(flat(answer))
    assert all(torch.equal(got, wanted) for got, wanted in zip(flat(answer), expected, strict=True))
    bare = flat(model.predictor(**moved, **case.options))
    assert not all(torch.equal(got, wanted) for got, wanted in zip(bare, expected, strict=True)), "control"


@pytest.mark.parametrize("case", params([case for case in CASES if case.inputs]))
def test_what_goes_in_beside_the_photos_is_seen(case, unchecked):
    """The control of the laws on prompts, masks and labels: left where they are, they give another answer."""
    model, upright = case.make(), case.upright()
    moved = case.moved(upright, CODES["even"])
    for key, (_, move) in case.inputs.items():
        if move is not the_same and not isinstance(move, Along):
            answers = [flat(model(**(upright | {key: value[key]}), **case.options)) for value in (upright, moved)]
            assert not all(torch.equal(a, b) for a, b in zip(*answers, strict=True)), key


# ------------------------------------------------------------------------------------------------ the kinds tell the truth
def symmetrised(model: nn.Module) -> nn.Module:
    """The model without positions, and with every convolution averaged over the eight turns and flips of its kernel."""
    for name, parameter in model.named_parameters():
        if "position" in name:
            parameter.zero_()
        if parameter.ndim == 4:
            parameter.copy_(torch.stack([a_map(parameter, code, (0, 0)) for code in range(8)]).mean(0))
    return model


TRANSFORMERS = ("ViTModel", "CLIPVisionModel", "SiglipVisionModel", "DeiTModel", "IJepaModel", "Dinov2WithRegistersModel")
CONVOLUTIONS = ("ResNetModel", "SegformerForSemanticSegmentation", "ResNetBackbone")
SYMMETRIC = dict.fromkeys(TRANSFORMERS, (64, 96)) | {"Dinov2Model": (42, 70)}
SYMMETRIC |= dict.fromkeys(CONVOLUTIONS, (65, 97))  # of odd sides, since a stride of two begins at the first pixel


@pytest.mark.parametrize("name", SYMMETRIC)
def test_a_network_made_symmetric_moves_as_its_kinds_say(name, unchecked):
    """Without a canonicalizer: were tokens in another order, or another number of them no patches, this would show it."""
    case, canvas = next(case for case in CASES if case.name == name), SYMMETRIC[name]
    bare, model = case.make(), symmetrised(case.make())
    _, outputs = known_kinds(model)
    x = torch.rand(B, 3, *canvas)
    for codes in CODES.values():
        g = D4[codes]

        def error(network: nn.Module, g: Tensor = g) -> float:
            left = flat(network(act(g, x), **case.options))
            right = flat(act(g, network(x, **case.options), outputs, canvas))
            return max(float((a - b).abs().max()) for a, b in zip(left, right, strict=True))

        assert error(model) < 1e-4
        assert error(bare) > 1e-2, "control"


# ------------------------------------------------------------------------------------------------------------- the table
def first_row(cls: type) -> Any:
    name = f"{cls.__module__}.{cls.__qualname__}"
    return next((row for row in ADAPTERS if fnmatchcase(name, row.classes)), None)


def test_the_table_knows_every_class_and_its_bases():
    rows = [first_row(getattr(t, case.name)) for case in CASES]
    missed = [row.classes for row in ADAPTERS if row.outputs is not None and not any(row is hit for hit in rows)]
    assert not missed, f"no case for {', '.join(missed)}"
    x = torch.rand(1000, 4)
    assert (shares(x, 0, (1000, 1000)) - x).abs().max() <= 2**-23

    class Mine(t.ViTModel):
        pass

    model = Mine(small.vit())
    assert known_kinds(model) == known_kinds(t.ViTModel(small.vit()))
    assert known_kinds(nn.Linear(2, 2)) == (None, None)
    model.config.model_type = "of another kind"
    refused(ValueError, r"output\['last_hidden_state'\]: has no kind", lambda: adapt(model, "C4")(torch.rand(1, 3, 32, 32)))


@pytest.mark.parametrize("name", ["ImageGPTForImageClassification", "Siglip2Model", "ShieldGemma2ForImageClassification"])
def test_what_does_not_take_photos_must_be_told(name):
    cls = getattr(t, name)
    assert first_row(cls).outputs is None
    refused(ValueError, f"how the outputs of {name} move is not known: pass outputs=", lambda: adapt(cls.__new__(cls), "C4"))


@pytest.mark.parametrize("case", params(CASES))
def test_the_kinds_survive_being_saved(case):
    model = adapted(case, OrbitCanonicalizer("C4", resolution=16))
    assert all(from_json(json.loads(json.dumps(to_json(kind)))) == kind for kind in (model.inputs, model.outputs))


# ------------------------------------------------------------------------------------------- what cannot be moved is named
def named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


NO_KIND, ATTENTIONS = r"output\['{}'\]: has no kind", {"output_attentions": True}
REFUSED = [
    ("ViTModel", ATTENTIONS | WIDE, r"output\['attentions'\]: has no kind; known.*'last_"),
    ("DetrForObjectDetection", ATTENTIONS, r"output\['decoder_attentions'\]: has no kind.*leave it out"),
    ("SamModel", INNER, NO_KIND.format("vision_hidden_states")),
    ("SwinForImageClassification", INNER, NO_KIND.format("hidden_states")),
    ("CLIPModel", {"return_loss": True} | WIDE, NO_KIND.format("loss")),
    ("ViTModel", {"bool_masked_pos": torch.zeros(B, 96).bool()}, "'bool_masked_pos' holds a tensor .*: pass inputs="),
    ("DetrForObjectDetection", {"labels": [{"boxes": torch.rand(1, 4)}] * B}, "'labels' holds a tensor but has no kind"),
    ("SamModel", {"image_embeddings": torch.rand(B, 16, 4, 4)}, "'image_embeddings' holds a tensor but has no kind"),
    ("ResNetModel", {"return_dict": False}, r"output\['last_hidden_state'\]: expected .*, but the value has only '0', '1'"),
]


@pytest.mark.parametrize(("name", "options", "message"), REFUSED, ids=lambda v: v if str(v).isidentifier() else "")
def test_what_cannot_be_moved_is_an_error_that_names_it(name, options, message):
    case = named(name)
    model = adapted(case, Known([0] * B))
    model.predictor.set_attn_implementation("eager")  # others give no attentions
    refused(ValueError, message, lambda: model(**case.upright(), **options))


def test_the_way_out_of_errors():
    case = named("SwinForImageClassification")
    bare = case.make()
    _, outputs = known_kinds(bare)
    patches = (4, 8, 16, 32, 32)
    outputs |= {
        "hidden_states": tuple(equiform.geometry.Tokens(patch, 0) for patch in patches),
        "reshaped_hidden_states": "image",
    }
    codes = CODES["odd"]
    model, upright = adapt(bare, "D4", outputs=outputs, canonicalizer=Known(codes)), case.upright()
    answer = model(**case.moved(upright, codes), output_hidden_states=True).hidden_states
    expected = bare(**upright, output_hidden_states=True).hidden_states
    for patch, got, wanted in zip(patches, answer, expected, strict=True):
        assert torch.equal(got, by_hand(Tokens(patch, 0), wanted, codes, case.canvas))
    model = adapted(named("ViTModel"), Known([0] * B))
    model.outputs = as_kinds({"last_hidden_state": equiform.geometry.Tokens(16), "pooler_output": "invariant"})
    message = r"output\['last_hidden_state'\]: 97 tokens, 1 before.*96 are no grid .* which has 4 x 6"
    refused(ValueError, message, lambda: model(torch.rand(B, 3, 64, 96), **WIDE))


# ------------------------------------------------------------------------------------------------------------ several poses
def test_boxes_masks_and_scores_of_a_query_come_from_one_pose(unchecked):
    """Averaged, the scores of one box would be those of the mean over several."""
    names = ("DetrForSegmentation", "YolosForObjectDetection", "RTDetrForObjectDetection", "MaskFormerForInstanceSegmentation")
    for name in names:
        case, codes = named(name), CODES["odd"]
        x = case.upright()
        likeliest, several = adapted(case, Known(codes))(**x), adapted(case, Known(codes), top_k=2)
        assert all(torch.equal(a, b) for a, b in zip(flat(several(**x)), flat(likeliest), strict=True)), name
        several.outputs = map_kinds(lambda kind: replace(kind, averaged=True), several.outputs)
        assert not all(torch.equal(a, b) for a, b in zip(flat(several(**x)), flat(likeliest), strict=True)), "control"


@pytest.mark.parametrize("options", [{}, {"top_k": 2}, {"coverage": 0.99}], ids=str)
@pytest.mark.parametrize("name", ["CLIPModel", "SiglipModel"])
@pytest.mark.parametrize("num_texts", [1, 2, 4, 8])
def test_texts_are_shared_however_many_there_are(name, num_texts, options, unchecked):
    """As many as photos, as a sub-batch of one canvas has, or as there are (photo, pose) pairs."""
    case = named(name)
    model, texts = adapted(case, Known([0, 1, 3, 2]), **options), torch.randint(2, 40, (num_texts, 7))
    x = torch.rand(B, 3, 64, 96)
    answer, bare = model(input_ids=texts, pixel_values=x, **WIDE), model.predictor(input_ids=texts, pixel_values=x, **WIDE)
    assert torch.equal(answer.text_embeds, bare.text_embeds)
    assert torch.equal(answer.text_model_output.last_hidden_state, bare.text_model_output.last_hidden_state)
    assert answer.logits_per_image.shape == (B, num_texts)
    assert torch.allclose(answer.logits_per_text, answer.logits_per_image.T, atol=1e-6)
    one = [adapted(case, Known([code]), **options)(texts, x[i : i + 1], **WIDE) for i, code in enumerate([0, 1, 3, 2])]
    assert torch.allclose(answer.logits_per_image, torch.cat([each.logits_per_image for each in one]), atol=1e-5)
    tokens = torch.cat([each.vision_model_output.last_hidden_state for each in one])
    assert torch.allclose(answer.vision_model_output.last_hidden_state, tokens, atol=1e-5)


def test_the_scores_of_texts_are_probabilities():
    case = named("CLIPModel")
    x, texts = torch.rand(B, 3, 64, 96), words()[:3]
    model, weights = adapted(case, Known([0] * B), top_k=2), torch.tensor([9.0, 8.0]).softmax(0)
    each = [model.predictor(texts, act(D4[[code] * B], x), **WIDE).logits_per_image.softmax(-1) for code in (0, 4)]
    expected = (weights[0] * each[0] + weights[1] * each[1]).log()
    assert torch.allclose(model(texts, x, **WIDE).logits_per_image.log_softmax(-1), expected, atol=1e-3)
    assert not torch.allclose(each[0].log(), expected, atol=1e-3), "control"
    kinds = known_kinds(named("SiglipModel").make())[1]
    assert (kinds["logits_per_image"], kinds["logits_per_text"]) == (Logits(sigmoid=True), Logits(1, sigmoid=True))
    assert photo_task(named("SiglipModel").make()).outputs == {"logits_per_image": Logits(sigmoid=True)}


MULTI = {"problem_type": "multi_label_classification"}
CLASSIFIERS = [
    ({"num_labels": 5}, Logits()),
    ({"num_labels": 1}, Invariant()),
    ({"num_labels": 2, "problem_type": "regression"}, Invariant()),
    ({"num_labels": 1} | MULTI, Logits(sigmoid=True)),
    ({"num_labels": 3} | MULTI, Logits(sigmoid=True)),
]


@pytest.mark.parametrize(("options", "kind"), CLASSIFIERS, ids=str)
def test_the_configuration_says_what_the_logits_of_a_classifier_are(options, kind):
    model = t.ViTForImageClassification(small.vit(**options))
    assert (known_kinds(model)[1]["logits"], photo_task(model).outputs) == (kind, {"logits": kind})


# ----------------------------------------------------------------------------------------------------------- measuring
def test_the_targets_of_evaluate_move_as_the_labels_do(unchecked):
    case = named("SegformerForSemanticSegmentation")
    model = adapted(case, OrbitCanonicalizer("D4", resolution=16))
    x, labels = case.upright()["pixel_values"], classes(64, 96)()

    def right(output: Any, target: Tensor) -> float:
        return float((nn.functional.interpolate(output.logits, target.shape[-2:]).argmax(1) == target).double().mean())

    assert len(set(equiform.evaluate(model, (x, labels), metric=right).methods[0].values)) == 1
    still = equiform.evaluate(model, (x, labels[:, :64, :64]), metric=lambda o, y: right(o, y), targets="invariant")
    assert len(set(still.methods[0].values)) > 1, "control"
    classifier = adapted(named("ResNetForImageClassification"), OrbitCanonicalizer("C4", resolution=16))
    assert equiform.evaluate(classifier, (x, torch.zeros(B).long())).methods[0].equivariance_error == 0
