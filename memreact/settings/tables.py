"""A layer of settings, from the tables that a parser made of it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from memreact.settings.errors import KeyPath, SettingsError, explain
from memreact_schemas.config import Config

__all__ = ["config_from"]


def config_from(
    value: object, origin: str, text: str = "", written: Mapping[KeyPath, KeyPath] | None = None
) -> Config:
    """Check a parsed layer.

    Args:
        value: Tables, lists and plain values, as TOML and JSON have them.
        origin: Named in the error.
        text: The TOML that it was parsed from, to tell the line.
        written: Where a key stands there, if elsewhere than in `value`.

    Raises:
        SettingsError: An unknown key, a wrong type, or a value out of its range.
    """
    try:
        return msgspec.convert(value, Config)
    except msgspec.ValidationError as error:
        raise explain(str(error), value, origin, text, written) from error
    except (UnicodeEncodeError, RecursionError) as error:
        raise SettingsError(origin, f"not taken: {error}") from error
