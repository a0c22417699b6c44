"""Pairs whose processor works by torchvision, as AutoProcessor gives them where it is installed: the laws of all pairs."""

import importlib
from typing import Any

import pytest

pytest.importorskip("torchvision", reason="torchvision is tested in an environment of its own: make test")
pytest.importorskip("transformers")

import torch
from torchvision import transforms

import photo_pairs
import test_photos as photos
from equiform import Upright
from equiform.predictors.pairs import to_image


def by_torchvision(family: str, name: str, **options: Any) -> Any:
    module = importlib.import_module(f"transformers.models.{family}.image_processing_{family}")
    return getattr(module, f"{name}ImageProcessor")(**options)


@pytest.fixture(autouse=True)
def _processors(monkeypatch):
    monkeypatch.setattr(photo_pairs, "processor", by_torchvision)
    photo_pairs.pair.cache_clear()
    yield
    photo_pairs.pair.cache_clear()


@pytest.mark.parametrize("name", photos.CASES)
@pytest.mark.parametrize("symmetry", ["C4", "D4"])
def test_answers_turn_with_the_photo(name, symmetry):
    made = photo_pairs.pair(photos.CASES[name][0])[0]
    assert "torchvision" in type(getattr(made, "image_processor", made)).__mro__[1].__name__.lower()
    photos.test_answers_turn_with_the_photo(name, symmetry)


@pytest.mark.parametrize("name", photos.CASES)
def test_the_answer_is_the_pairs_own_for_the_canonical_photo(name):
    photos.test_the_answer_is_the_pairs_own_for_the_canonical_photo(name)


def test_every_row_has_a_case():
    photos.test_every_row_has_a_case()


def test_upright_is_a_step_of_a_chain():
    step, image = Upright(photos.canonicalizer("C4")), to_image(photos.photos()[0])
    before = transforms.Compose([step, transforms.Resize(32), transforms.ToTensor()])
    after = transforms.Compose([transforms.ToTensor(), step])
    for chain in (before, after):
        assert all(torch.equal(chain(image.rotate(90 * k, expand=True)), chain(image)) for k in range(4))
    assert not torch.equal(transforms.ToTensor()(image.rotate(180)), transforms.ToTensor()(image))  # control
