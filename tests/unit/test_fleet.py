"""Reservations: what are slots, and what cannot be."""

from __future__ import annotations

import math
import pickle

import attrs
import pytest

from calls_async import ConfigurationError, Reservation


@pytest.mark.parametrize("slots", [(0.0,), (-0.01, 0.005, 10), (3.0, 0.0, 0)])
def test_a_reservation_is_a_value(slots):
    """It is equal to its like, frozen, and pickles; a first slot may have passed already."""
    reservation = Reservation(*slots)
    assert reservation == Reservation(*slots) == pickle.loads(pickle.dumps(reservation))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        reservation.count = 5


def test_one_slot_is_what_is_meant_by_a_time_alone():
    """There is no second one, so there is nothing between them."""
    assert Reservation(0.5) == Reservation(first=0.5, interval=0.0, count=1)


@pytest.mark.parametrize(
    "slots",
    [
        (math.nan,),
        (math.inf,),
        (0.0, math.nan),
        (0.0, math.inf),
        (0.0, -0.001),
        (0.0, 0.005, -1),
    ],
)
def test_what_are_no_slots_is_refused(slots):
    """A number that no clock can reach would hold a client for ever."""
    with pytest.raises(ConfigurationError, match="is no reservation"):
        Reservation(*slots)
