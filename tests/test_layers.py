"""The import layers, the public names, and what `import equiform` may cost."""

import ast
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import equiform
from asserting import python, ran
from equiform import _moved

SOURCE = Path(equiform.__file__).parent
ARCHITECTURE = Path(__file__).parents[1] / "docs" / "architecture.md"

# each module imports only from those before it
LAYERS = [
    "_optional",
    "_files",
    "_checks",
    "_moved",
    "geometry",
    "images",
    "batching",
    "canonicalizers",
    "predictors",
    "ready",
    "second_opinion",
    "saving",
    "equivariant",
    "exporting",
    "segment_anything",
    "upright",
    "testing",
    "learning",
    "evaluation",
    "jobs",
    "web",
    "cli",
    "__main__",
]

# a name that goes, or comes, shows up in review here
PUBLIC = """
    Boxes Cyclic Dihedral E3 EnergyCanonicalizer Equivariant FrameCanonicalizer GroupConvCanonicalizer Invariant Logits O2 O3
    OrbitCanonicalizer Points Rows SE3 SO2 SO3 Scale Shift Upright act adapt diagnose evaluate export fit group inverse
    load
""".split()  # noqa: SIM905  (names by line read better than a list of strings)


def imported(source: str, package: tuple[str, ...] = ("equiform",)) -> set[tuple[str, ...]]:
    """What a source imports of equiform, anywhere in it, under TYPE_CHECKING too: paths such as (geometry, groups, act)."""
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(tuple(name.name.split(".")) for name in node.names)
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            path = (*base, *(node.module or "").split(".")) if node.module else base
            found.update((*path, name.name) for name in node.names)
    return {path[1:] for path in found if path[0] == "equiform" and len(path) > 1}


def layers(paths: set[tuple[str, ...]]) -> set[str]:
    return {path[0] for path in paths}


def package_of(file: Path) -> tuple[str, ...]:
    return ("equiform", *file.relative_to(SOURCE).parts[:-1])


def graph() -> dict[Path, set[Path]]:
    """Every file, and the files it imports; a name from a package that is no file of it is of the package's `__init__`."""
    found: dict[Path, set[Path]] = {}
    for file in SOURCE.rglob("*.py"):
        found[file] = set()
        for path in imported(file.read_text("utf-8"), package_of(file)):
            places = [SOURCE.joinpath(*path[:n]) for n in (len(path), len(path) - 1)]
            files = [place.with_suffix(".py") for place in places] + [place / "__init__.py" for place in places]
            found[file] |= {next(one for one in files if one.is_file())} - {SOURCE / "__init__.py"}
    return found


def modules() -> dict[str, list[Path]]:
    """The files of every module; a package is one module."""
    files = {path.stem: [path] for path in SOURCE.glob("*.py") if path.name != "__init__.py"}
    return files | {path.parent.name: sorted(path.parent.rglob("*.py")) for path in SOURCE.glob("*/__init__.py")}


def test_every_module_has_its_layer_and_imports_only_from_those_before_it():
    assert set(modules()) <= set(LAYERS), "a new module needs its place in the list"
    assert len(LAYERS) == len(set(LAYERS))
    for name, files in modules().items():
        for file in files:
            above = layers(imported(file.read_text("utf-8"), package_of(file))) - {name, "__version__"}
            assert above <= set(LAYERS), f"{file.relative_to(SOURCE)} imports {above - set(LAYERS)} from the package itself"
            wrong = [m for m in above if LAYERS.index(m) > LAYERS.index(name)]
            assert not wrong, f"{file.relative_to(SOURCE)} imports {', '.join(wrong)}, which come after {name}"


def test_no_circle_and_plots_without_canonicalizers():
    files, done = graph(), set()
    while ready := [file for file, needs in files.items() if file not in done and needs <= done]:
        done.update(ready)
    assert done == set(files), f"in or behind a circle: {sorted(str(f.relative_to(SOURCE)) for f in set(files) - done)}"
    files = graph()
    seen, new = set(), {SOURCE / "evaluation" / "figures.py"}
    while new:
        seen |= new
        new = {needed for file in new for needed in files[file]} - seen
    assert not [file for file in seen if "canonicalizers" in file.parts]
    assert (SOURCE / "_files.py") in seen, "control"


def test_no_import_inside_a_function_dodges_a_cycle():
    for files in modules().values():
        for file in files:
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    late = layers(imported(ast.unparse(node), package_of(file))) & set(LAYERS) - MAY_BE_LATE
                    assert not late, f"{file.relative_to(SOURCE)}, {node.name}: imports {', '.join(late)} when called"


def drawn() -> dict[str, tuple[set[str], set[str]]]:
    """By layer, the files and the imports that docs/architecture.md names."""
    block = re.findall(r"```text\n(.*?)```", ARCHITECTURE.read_text("utf-8"), re.DOTALL)[0]
    rows: dict[str, tuple[set[str], set[str]]] = {}
    for line in block.splitlines():
        words = re.findall(r"[\w/]+", line)
        if not line.startswith(" "):
            rows[name := words[0].rstrip("/")] = (set(), set())
        else:
            rows[name]["─▶" in line].update(words)
    return rows


@pytest.mark.parametrize("name", LAYERS)
def test_the_page_of_the_architecture_draws_what_there_is(name):
    files = modules()[name]
    found = {layer for file in files for layer in layers(imported(file.read_text("utf-8"), package_of(file)))}
    named, imports = drawn()[name]
    assert " ".join(sorted(imports)) == " ".join(sorted(found & set(LAYERS) - {name})), "after ─▶"
    package = SOURCE / name
    stems = {file.stem for file in files if file.stem != "__init__"} | {
        path.parent.name + "/" for path in package.glob("*/__init__.py")
    }
    assert not package.is_dir() or " ".join(sorted(named)) == " ".join(sorted(stems)), "the files"


def test_the_page_of_the_architecture_is_in_order():
    assert list(drawn()) == LAYERS
    quoted = re.findall(r"```python\n(.*?)```", ARCHITECTURE.read_text("utf-8"), re.DOTALL)
    assert quoted == [textwrap.dedent(inspect.getsource(equiform.Equivariant.predict))]


# modules that import a heavy package at their top, and so are imported where they are used
MAY_BE_LATE = {"learning"}


def test_the_reader_of_imports_sees_them_all():
    """The control of the tests above."""
    source = """
from typing import TYPE_CHECKING
import torch, equiform.saving
from . import kinds
from .networks import plain
from equiform.canonicalizers.poses import Pose
if TYPE_CHECKING:
    from .equivariant import Equivariant
def f():
    from .learning.training import run
"""
    assert layers(imported(source)) == {"saving", "kinds", "networks", "canonicalizers", "equivariant", "learning"}
    inner = imported("from ..geometry import group\nfrom .views import x", ("equiform", "images"))
    assert inner == {("geometry", "group"), ("images", "views", "x")}
    files = graph()
    assert SOURCE / "geometry" / "groups.py" in files[SOURCE / "canonicalizers" / "base.py"]
    assert SOURCE / "saving" / "reading.py" in files[SOURCE / "saving" / "writing.py"]


def test_public_names_and_inits_that_only_import():
    assert sorted(equiform.__all__) == sorted(PUBLIC)
    assert all(getattr(equiform, name).__doc__ for name in PUBLIC)
    for file in SOURCE.rglob("__init__.py"):
        tree = ast.parse(file.read_text("utf-8"))
        assert all(isinstance(node, (ast.ImportFrom, ast.Assign, ast.Expr)) for node in tree.body), file


@pytest.mark.parametrize(("package", "names"), _moved.MOVED.items(), ids=_moved.MOVED)
def test_old_names_say_where_they_are_now(package, names):
    for name in names.split():
        with pytest.warns(DeprecationWarning, match=rf"equiform.{name} is now equiform.{package}.{name}; version 0.2") as said:
            old = getattr(equiform, name)
        assert old is getattr(importlib.import_module(f"equiform.{package}"), name)
        assert said[0].filename == __file__
    with pytest.raises(AttributeError, match="'equiform' has no attribute 'Unknown'"):
        _ = equiform.Unknown


HEAVY = ("lightning", "matplotlib", "rich", "typer", "torchmetrics", "PIL", "transformers", "huggingface_hub", "torchvision")
PROGRAM = """
import sys, torch, numpy, safetensors.torch, jaxtyping
before = (torch.get_default_dtype(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
          torch.random.get_rng_state().tolist())
already = set(sys.modules)
import equiform
after = (torch.get_default_dtype(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
         torch.random.get_rng_state().tolist())
assert before == after, "global state changed"
print(sorted({name.partition(".")[0] for name in set(sys.modules) - already} & set(sys.argv[1:])))
"""


@pytest.mark.slow
def test_import_is_light_and_silent():
    assert python("-W", "error", "-c", PROGRAM, *HEAVY).communicate(timeout=120) == ("[]\n", ""), "import equiform imports more"
    assert ran("-W", "error", "-c", PROGRAM.replace("import equiform", "import equiform, PIL.Image"), *HEAVY) == "['PIL']\n"
