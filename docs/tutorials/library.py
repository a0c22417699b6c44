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
# # A library of turned photos
#
# A folder of photos, some on their side: find them, turn them, and touch nothing else. We make such a folder from the
# sample photos of scikit-image and scikit-learn; in your own work, start at *Level it*.

# %%
import csv
import subprocess
import sys
import tempfile
from pathlib import Path

from matplotlib import pyplot as plt
from PIL import Image

from equiform.web.photos import samples

here = Path(tempfile.mkdtemp())
folder, straight = here / "holiday", here / "straight"
folder.mkdir()
turns = {"camera": 90, "temple": 180, "astronaut": 270, "coffee": 0, "flower": 0, "cat": 90}  # counter-clockwise
for sample in samples():
    photo = Image.open(sample.path).convert("RGB").rotate(turns[sample.title], expand=True)
    photo.save(folder / f"{sample.title}.jpg", quality=95)


def show(folder):
    files = sorted(folder.glob("*.jpg"))
    _, columns = plt.subplots(1, len(files), figsize=(11, 2.2))
    for axes, file in zip(columns, files, strict=True):
        axes.imshow(Image.open(file))
        axes.set_title(file.stem)
        axes.axis("off")


show(folder)

# %% [markdown]
# ## Level it
#
# The command `equiform upright holiday/ --out straight/` reads the photos, finds how each lies with the ready-made
# `photos-c4`, and writes them upright into another folder. Yours is not touched.
#
# `--prior 0.95` says that most photos are upright already, and `--at-least 0.97` turns only what is sure: a wrong turn
# is worse than none.

# %%
command = [sys.executable, "-m", "equiform", "upright", str(folder), "--out", str(straight)]
ran = subprocess.run([*command, "--prior", "0.95", "--at-least", "0.97"], capture_output=True, text=True, check=True)
print(ran.stdout)

# %%
show(straight)

# %% [markdown]
# ## What was done
#
# `poses.csv` has a line for each file: what was done, by how much it was found turned, and how sure the canonicalizer was.

# %%
with (straight / "poses.csv").open(newline="") as file:
    for row in csv.DictReader(file):
        print(f"{Path(row['file']).name:14} {row['done']:15} found at {row['angle']:>3}°, confidence {row['confidence']}")

# %% [markdown]
# What was in doubt was left alone: the cat, seen from so near, hardly has an up, and the temple, upside down, fell just
# short of what `--at-least` asks for. Look through these yourself; the confidence says where to begin.
#
# ## In Python
#
# `Upright` does the same with one photo or a list of them. Without a prior it turns the temple as well.

# %%
import equiform

step = equiform.Upright("photos-c4")  # min_confidence=0.97 leaves what is in doubt
turned = Image.open(folder / "temple.jpg")
_, (left, right) = plt.subplots(1, 2, figsize=(6, 2.4))
left.imshow(turned)
right.imshow(step(turned))
for axes in (left, right):
    axes.axis("off")

# %% [markdown]
# Tilted photos, any angle, and what it does with 16-bit pictures and EXIF: [level a photo library](../level.html).
