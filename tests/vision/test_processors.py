"""Pairs whose processor works by torchvision, as AutoProcessor gives them where it is installed: the laws of all pairs."""

import importlib
from typing import Any

import pytest

pytest.importorskip("torchvision", reason="torchvision is tested in an environment of its own: make test")
pytest.importorskip("transformers")

import photo_pairs
import test_photos as photos


def by_torchvision(family: str, name: str, **options: Any) -> Any:
    module = importlib.import_module(f"transformers.models.{family}.image_processing_{family}")
    return getattr(module, f"{name}ImageProcessor")(**options)


@pytest.fixture(autouse=True)
def _processors(monkeypatch):
    monkeypatch.setattr(photo_pairs, "processor", by_torchvision)
    photo_pairs.pair.cache_clear()
    yield
    photo_pairs.pair.cache_clear()


@pytest.mark.parametrize("name", photo_pairs.CASES)
def test_answers_turn_with_the_photo(name):
    made = photo_pairs.pair(photo_pairs.CASES[name][0])[0]
    assert "torchvision" in type(getattr(made, "image_processor", made)).__mro__[1].__name__.lower()
    photos.test_answers_turn_with_the_photo(name)


@pytest.mark.parametrize("name", photo_pairs.CASES)
def test_the_answer_is_the_pairs_own_for_the_canonical_photo(name):
    photos.test_the_answer_is_the_pairs_own_for_the_canonical_photo(name)
