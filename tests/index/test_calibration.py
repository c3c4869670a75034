"""What was fastest here is remembered, and believed only where it holds."""

from __future__ import annotations

import json

import pytest

from recollect.index import calibration
from recollect.index.calibration import Calibration, remembered, save, this_machine

BEST = Calibration(this_machine(), {"numpy": {"1": 2.0}}, "numpy")


def test_the_fastest_way_is_remembered(tmp_path):
    """One measurement serves every process after it."""
    file = save(BEST, tmp_path / "new")

    assert file.is_file()
    assert remembered(tmp_path / "new") == "numpy"


def test_nothing_is_remembered_where_nothing_was_measured(tmp_path):
    """Then a rule decides."""
    assert remembered(tmp_path) is None


def test_what_another_machine_measured_is_not_used(tmp_path):
    """A home folder may be shared by different machines."""
    save(Calibration(this_machine() | {"cores": 999}, {}, "numpy"), tmp_path)

    assert remembered(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "[" * 100_000, json.dumps({"machine": this_machine(), "path": ["x"]})]
)
def test_a_damaged_file_is_as_none(tmp_path, text):
    """It may be deleted, so it may be broken as well."""
    (tmp_path / calibration.FILE).write_text(text)

    assert remembered(tmp_path) is None


def test_a_way_that_is_not_known_is_not_taken(tmp_path):
    """The file is the user's; it cannot name what the library does not have."""
    save(Calibration(this_machine(), {}, "kernel:sse9"), tmp_path)

    assert remembered(tmp_path) is None


def test_every_way_is_timed(monkeypatch):
    """Two ways on a few rows; the faster of them is the result."""
    monkeypatch.setattr(calibration, "ways", lambda: ["numpy"])

    measured = calibration.calibrate(rounds=1, rows=500)

    assert list(measured.milliseconds["numpy"]) == ["1", "32", "256"]
    assert measured.path == "numpy"
