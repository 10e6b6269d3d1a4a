"""Frozen values: Structs that are made from one another and never change.

A Struct takes a quarter of the memory of a dataclass, whose methods are compiled for each class.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from msgspec import Struct, field, structs

if TYPE_CHECKING:  # msgspec's own lets any name and type pass; of this one mypy knows the fields
    from dataclasses import replace
else:

    def replace(value: object, /, **changes: object) -> object:
        """Make another value that differs in these fields only."""
        made = structs.replace if isinstance(value, Struct) else dataclasses.replace
        return made(value, **changes)


__all__ = ["Struct", "field", "replace"]
