"""Durations for people; the rule: two units at most, and no fractions."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Such as `7 s`, `3 min 20 s` or `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02} min"
