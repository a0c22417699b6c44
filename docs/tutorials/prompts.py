# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # SAM with prompts
#
# Segment Anything (SAM) is asked by a *prompt*, a point or a box in a photo, and answers with the mask of what lies
# there. Adapted, it answers alike however the photo lies, and prompts and masks are in the pixels of the photo as it
# came.
#
# **The network here is a tiny SAM with random weights**, so that this page needs no download: its masks mean nothing.
# What can be seen is the way of working, and that the masks turn with the photo to the bit. With a connection, take the
# real one; nothing else changes. You need `pip install '.[web,transformers]'` from a clone.
#
#     from transformers import AutoProcessor, SamModel
#     processor, sam = AutoProcessor.from_pretrained("facebook/sam-vit-base"), SamModel.from_pretrained("facebook/sam-vit-base")

# %%
import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # of tqdm, where there are no widgets

import numpy as np
import torch
from matplotlib import pyplot as plt
from PIL import Image
from transformers import SamConfig, SamModel, SamProcessor
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

import equiform
from equiform.canonicalizers import UniformCanonicalizer
from equiform.segment_anything import embed
from equiform.web.photos import samples

torch.manual_seed(0)
sizes = {"hidden_size": 32, "patch_size": 8, "image_size": 128}
vision = {**sizes, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 32, "num_pos_feats": 16}
decoder = {"hidden_size": 32, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
config = SamConfig(
    vision_config=vision | {"global_attn_indexes": [1]},
    prompt_encoder_config={**sizes, "mask_input_channels": 4},
    mask_decoder_config=decoder,
)
processor = SamProcessor(SamImageProcessorPil(size={"longest_edge": 128}, pad_size={"height": 128, "width": 128}))
sam = SamModel(config).eval()

# %% [markdown]
# ## Adapt the pair
#
# A *pair* is a processor and its model. The photo is brought back before the processor resizes and pads it, as SAM was
# trained. The canonicalizer for photos is ready-made, and taken by itself.

# %%
model = equiform.adapt((processor, sam), "C4")
path = next(sample.path for sample in samples() if sample.title == "temple")
photo = np.asarray(Image.open(path).convert("RGB"))  # a path does as well
height, width = photo.shape[:2]
print(width, height)

# %% [markdown]
# ## A point
#
# Points are (x, y), in pixels from the upper left corner. SAM offers three masks for a point, each with a score.

# %%
x, y = 330.0, 200.0
answer = model(photo, input_points=[[x, y]], input_labels=[1])
print(answer["masks"].shape, answer["iou_scores"])

# %% [markdown]
# Now the photo lies on its side, a quarter turn counter-clockwise, and so does the point: (x, y) has become (y, width -
# x).

# %%
turned = np.rot90(photo).copy()
found = model(turned, input_points=[[y, width - x]], input_labels=[1])
expected = torch.rot90(answer["masks"], 1, (-2, -1))
print("the masks have turned with the photo, to the bit:", torch.equal(found["masks"], expected))
assert torch.equal(found["masks"], expected)

# the group of no turns at all: the model as it is
bare = equiform.adapt((processor, sam), "C1", canonicalizer=UniformCanonicalizer("C1"))
before = bare(photo, input_points=[[x, y]], input_labels=[1])["masks"]
after = torch.rot90(bare(turned, input_points=[[y, width - x]], input_labels=[1])["masks"], -1, (-2, -1))
print(f"pixels on which the bare model changes its mind: {(before != after).float().mean():.1%}")


# %%
def show(axes, photo, mask, point, title):
    axes.imshow(photo)
    axes.imshow(np.where(mask[..., None], [0.84, 0.37, 0.0, 0.5], 0.0))
    axes.plot(*point, "o", color="white", markeredgecolor="black", markersize=9)
    axes.set_title(title)
    axes.axis("off")


figure, columns = plt.subplots(1, 2, figsize=(9, 4))
show(columns[0], photo, answer["masks"][0, 0].numpy(), (x, y), "as it came")
show(columns[1], turned, found["masks"][0, 0].numpy(), (y, width - x), "turned (random weights)")

# %% [markdown]
# ## Many prompts, one photo
#
# Most of SAM's time goes into looking at the photo. `embed` does that once, and finds the pose once; each prompt is
# then quick.

# %%
embedded = embed(model, turned)
for box in ([100, 150, 250, 400], [50, 50, 300, 600]):  # x1, y1, x2, y2 in the turned photo
    masks = embedded(input_boxes=box)["masks"]
    print(box, "→", int(masks[0, 0].sum()), "pixels")

# %% [markdown]
# More: masks of everything, mask prompts, lists of photos, SAM 2 and SAM 3: [prompt SAM](../prompt.html).
