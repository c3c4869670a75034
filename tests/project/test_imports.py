"""Heavy libraries are loaded by those who use them, when they use them."""

from __future__ import annotations

import pytest
from interpreter import run_python

HEAVY = {
    "PIL", "datasets", "faiss", "matplotlib", "onnxruntime", "pyarrow", "rich", "scipy", "skimage",
    "sklearn", "tokenizers", "torch", "transformers", "typer",
}  # fmt: skip


def loaded_by(code):
    """Heavy libraries in memory after this code ran in a new interpreter."""
    return run_python(f"{code}\nimport sys\nprint(*({HEAVY!r} & sys.modules.keys()))").split()


def test_importing_the_package_loads_nothing_heavier_than_numpy():
    """A command that answers in a blink must not wait seconds for a library it will not use."""
    assert loaded_by("import recollect; dir(recollect)") == []


def test_a_memory_is_taught_and_asked_without_any_optional_library():
    """The store needs NumPy and the standard library, nothing else."""
    code = (
        "import numpy as np, recollect as rc\n"
        "memory = rc.Memory.create(':memory:', dim=2)\n"
        "memory.add(np.eye(2), ['cat', 'dog'])\n"
        "memory.search(np.eye(2), 1)"
    )

    assert loaded_by(code) == []


@pytest.mark.parametrize(
    "module", ["recollect.encoders", "recollect.readout", "recollect.evaluation.plots"]
)
def test_modules_over_optional_libraries_can_be_imported_without_them(module):
    """A missing extra is reported when it is needed, by name."""
    assert loaded_by(f"import {module}") == []


def test_a_missing_library_names_the_extra_to_install():
    """`No module named matplotlib` leaves the reader to guess."""
    code = (
        "import sys; sys.modules['matplotlib'] = sys.modules['matplotlib.figure'] = None\n"
        "import recollect.evaluation.plots as plots, recollect as rc\n"
        "try: plots.plot_accuracy_by_k({'rank': [0.5]})\n"
        "except rc.errors.MissingExtra as error: print(error.remedy)"
    )

    assert run_python(code) == "pip install 'recollect[plots]'"
