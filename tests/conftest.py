"""For all tests: shapes checked at run time, one seed per test, and where the real data lies."""

import os
import signal
from pathlib import Path

import hypothesis
import jaxtyping
import pytest

# the modules whose annotations are shapes; installed before the first import of any of them
CHECKED = ("geometry", "images", "batching", "canonicalizers", "predictors", "saving", "equivariant", "learning.priors")
jaxtyping.install_import_hook([f"equiform.{name}" for name in CHECKED], "beartype.beartype")

import torch  # noqa: E402  (after the hook, which must see the first import of equiform)

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # begun in the background: commands that are interrupted would not hear it
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(os.environ.get("EQUIFORM_DATA", Path(__file__).resolve().parents[2] / "shared"))

hypothesis.settings.register_profile("equiform", deadline=None, derandomize=True, max_examples=60, database=None)
hypothesis.settings.load_profile("equiform")


@pytest.fixture(autouse=True)
def seed():
    """Every test draws the same numbers, alone or in the whole suite."""
    torch.manual_seed(0)


@pytest.fixture
def unchecked():
    """Switch the shape checks off, so that the library's own messages are seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and pretrained networks; the test is skipped where there is none."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data: {SHARED} is no folder (set EQUIFORM_DATA)")
    return SHARED
