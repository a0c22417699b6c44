"""Packages that are missing, broken, or stand beside a torchvision that does not load."""

from pathlib import Path

import pytest

from asserting import python, refused
from equiform._optional import optional

BUILT_FOR_ANOTHER = 'raise RuntimeError("operator torchvision::nms does not exist")'


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Makes a package that holds that line."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, line: str) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(line)
        return tmp_path

    return make


def test_what_is_there_and_what_is_missing(package):
    package("equiform_whole", "answer = 42")
    assert optional("equiform_whole", "all").answer == 42
    refused(ModuleNotFoundError, r"pip install 'equiform\[timm\]'", lambda: optional("equiform_missing", "timm"))


@pytest.mark.parametrize(("line", "error"), [("import equiform_missing", ModuleNotFoundError), ("1 / 0", ZeroDivisionError)])
def test_what_is_broken_fails_as_itself(package, line, error):
    package("equiform_broken", line)
    with pytest.raises(error) as caught:
        optional("equiform_broken", "all")
    assert "pip install" not in str(caught.value)


def test_a_torchvision_built_for_another_torch_is_told_in_one_line(package):
    package("equiform_beside", BUILT_FOR_ANOTHER)
    with pytest.raises(ImportError, match=r"built for another torch.*install the pair.*or uninstall torchvision") as caught:
        optional("equiform_beside", "all")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_fit_says_it_too(package):
    """Where lightning itself does not load: in a fresh interpreter, since it is loaded in this one."""
    program = "import torch, equiform; equiform.fit(equiform.adapt(torch.sin, 'C4', outputs='image'), torch.rand(8, 3, 8, 8))"
    last = python("-c", program, path=package("lightning", BUILT_FOR_ANOTHER)).communicate()[1].strip().splitlines()[-1]
    assert last.startswith("ImportError: the installed torchvision was built for another torch")
