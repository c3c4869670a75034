"""Cells of the tables of the residual-memory study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def percent(share: float, digits: int = 1) -> str:
    """A share times a hundred."""
    return f"{100 * share:.{digits}f}"


def gain_with_error(line: Mapping[str, Any]) -> str:
    """Points with their standard error, marked where the gain is above two of them."""
    mark = " `*`" if abs(line["gain"]) > 2 * line["standard_error"] > 0 else ""
    gain = round(100 * line["gain"], 2) + 0.0  # no minus zero
    return f"{gain:+.2f} ± {100 * line['standard_error']:.2f}{mark}"


def told_setting(chosen: Mapping[str, Any]) -> str:
    """What was chosen, or that the memory is off."""
    if not chosen["active"]:
        return "off"
    return (
        f"k {chosen['k']}, sigma {chosen['sigma']:.3g}, T {chosen['temperature']:g}, "
        f"strength {chosen['strength']:g}"
    )
