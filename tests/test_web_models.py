"""`equiform web` with the models that transformers keeps in a folder: each is asked, drawn, or refused before a page opens."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import equiform
from equiform.cli.main import app
from equiform.predictors import PhotoPredictor
from equiform.predictors.references import load_reference
from equiform.web import answers, drawings, photos

PAIRS = pytest.importorskip("photo_pairs").PAIRS


@pytest.fixture
def saved(tmp_path):
    """Saves a pair of the table; the reference to its folder."""

    def save(name):
        processor, model = PAIRS[name][0]()
        model.config.id2label = {i: f"thing {i}" for i in range(len(model.config.id2label))}
        if name == "boxes":
            with torch.no_grad():
                model.class_labels_classifier.layers[-1].bias[1] = 9.0  # sure of what it sees
        model.save_pretrained(tmp_path / "mine")
        processor.save_pretrained(tmp_path / "mine")
        return f"transformers:{tmp_path / 'mine'}"

    return save


@pytest.fixture
def web(monkeypatch):
    """What the command would serve, or its error."""
    served = []
    monkeypatch.setattr("equiform.cli.web.serve", lambda *arguments: served.append(arguments))

    def run(*arguments):
        result = CliRunner().invoke(app, ["web", *map(str, arguments)])
        assert result.exit_code == (0 if served else 2), result.output
        return served.pop()[0] if served else result.stderr

    return run


def shown(setup):
    """What the page shows of a photo on its side, and that the adapted model answers it as the upright one."""
    photo = photos.turned(torch.rand(3, photos.SHOWN, photos.SHOWN), [0])[0]
    found = answers.compared(setup, photo, 90)
    assert found.bare.sort == found.adapted.sort == answers.first_answer(setup).sort
    return found


def test_a_classifier_with_the_names_of_its_classes(saved, web):
    ref = saved("classes")
    setup = web(ref, "--adapter", "photos-c4-small", "--size", 32)
    assert setup.title == "transformers:mine, photos-c4-small", "no folder of this machine"
    assert list(setup.names) == [f"thing {i}" for i in range(5)]
    assert setup.normalisation == ([0.5] * 3, [0.5] * 3), "as its processor says"
    assert shown(setup).bare.classes.shape == (5,)
    assert "fails on a photo of 224 x 224 pixels (see --size): Input image size" in web(ref)


def test_a_segmenter_comes_with_its_processor(saved, web):
    """As a classifier it would answer, with a last layer of random numbers."""
    setup = web(saved("label maps"), "--adapter", "photos-c4-small")
    assert isinstance(setup.model.predictor, PhotoPredictor)
    found = shown(setup)
    assert found.bare.mask.shape == (photos.SHOWN, photos.SHOWN)
    assert found.bare.labels == [f"thing {i}" for i in range(4)]
    named = np.asarray(drawings.marked(found.view, found.bare, setup.side))
    plain = np.asarray(drawings.marked(found.view, found.bare._replace(labels=()), setup.side))
    assert (named[:30, :90] != plain[:30, :90]).any(), "names stand at the top left"


def test_a_detector_comes_with_its_processor(saved, web):
    ref = saved("boxes")
    setup = web(ref, "--adapter", "photos-c4-small")
    found = shown(setup)
    assert found.bare.boxes.shape[1] == 4
    assert set(found.bare.labels) == {"thing 1"}
    assert found.bare.boxes.max() > 100, "in the pixels of the page"
    assert "--size and --normalize: the processor of" in web(ref, "--size", 64)
    assert "leave them out" in web(ref, "--normalize", "none")


@pytest.mark.parametrize("name", ["depth", "tokens"])
def test_what_has_no_picture_is_refused_before_a_page_opens(saved, web, name):
    said = web(saved(name))
    assert "answers with nothing that can be drawn" in said
    assert "a FILE.py:FUNCTION of yours can bring the answer to one of these forms" in said
    assert said.count("\n") == 1


def test_what_wants_words_is_refused_and_can_be_given_them(saved, web, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "LEAST", 0.0)
    ref = saved("named boxes")
    assert "without more; a FILE.py:FUNCTION of yours can give it more): the model needs the classes in words" in web(ref)
    source = "import equiform\nfrom equiform.predictors.references import load_reference\ndef named():\n"
    source += f"    pair = load_reference({ref!r})\n"
    source += "    words = lambda photos: pair([(photo * 255).byte() for photo in photos], text=['a cat'], threshold=0.0)\n"
    source += "    return equiform.adapt(words, 'C4', inputs=equiform.Rows('image'), outputs=equiform.Rows(pair.outputs[0]),\n"
    source += "                          canonicalizer='photos-c4-small')\n"
    (tmp_path / "my_models.py").write_text(source)
    assert set(shown(web(f"{tmp_path / 'my_models.py'}:named")).adapted.labels) == {"a cat"}


def test_prompts_are_not_for_the_page(web, tmp_path):
    sam = pytest.importorskip("test_promptable").sam()
    for one in sam:
        one.save_pretrained(tmp_path / "sam")
    assert "FILE.py:FUNCTION of yours can give it more): no prompt" in web(f"transformers:{tmp_path / 'sam'}")


def test_classes_that_are_not_known_are_told_of(saved, web, tmp_path):
    ref = saved("boxes")
    config = tmp_path / "mine" / "config.json"
    config.write_text(config.read_text().replace("YolosForObjectDetection", "pipeline"))
    assert "cannot be loaded: TypeError: it was saved of a pipeline, which transformers" in web(ref)


def test_an_adapter_of_ones_own(saved, web, tmp_path):
    ref = saved("boxes")
    equiform.adapt(load_reference(ref), "C4", canonicalizer="photos-c4-small").save(tmp_path / "own")
    setup = web(ref, "--adapter", tmp_path / "own")
    assert setup.title == "transformers:mine, own"
    assert setup.model.group.name == "C4"
