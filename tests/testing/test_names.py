"""The test kit's names, which are imported when they are first used."""

from __future__ import annotations

import pytest

from calls_async import testing


def test_every_name_is_there_and_listed():
    """What `__all__` promises can be imported, and `dir` shows it beforehand."""
    assert set(testing.__all__) <= set(dir(testing))
    assert all(getattr(testing, name) is not None for name in testing.__all__)
    assert set(testing._HOMES) == set(testing.__all__)


def test_another_name_is_an_attribute_error():
    """A misspelt name fails as in any module."""
    with pytest.raises(AttributeError, match="'Sandbocks'"):
        _ = testing.Sandbocks
