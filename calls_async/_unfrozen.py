"""Making instances of frozen classes; the rule: they are open until they are whole.

The `__init__` of a frozen attrs class calls `object.__setattr__`, and the converter, for each
attribute, which is most of what a record costs. An instance of the class made here is filled by
plain assignments, and then the frozen class is assigned to its `__class__`: from there on it cannot
be told from any other, and cannot be changed.
"""

from __future__ import annotations

from typing import Any


def unfrozen(cls: type[Any]) -> type[Any]:
    """The same class, but not frozen; its instances are yet to become those of `cls`.

    Python allows that because a subclass without slots of its own has the layout of its base; it
    would raise a `TypeError` otherwise. (Two classes with equal slots do not do: with `__weakref__`
    among them Python takes their layouts for different.)

    Args:
        cls: A frozen class with slots.
    """
    members = {
        "__slots__": (),
        "__init__": object.__init__,
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
    }
    return type(f"_Unfrozen{cls.__name__}", (cls,), members)
