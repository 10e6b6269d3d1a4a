"""pyroute2's netlink codec, without the rest of pyroute2.

`import pyroute2.netlink` runs pyroute2/__init__.py, which imports the whole package: 10 MB of
memory that a daemon on somebody else's machine has no use for. So the package is put in place bare,
as a name with a search path, and only its netlink codec is imported (0.5 MB).
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

__all__ = ["codec", "ctrlmsg", "genlmsg", "nla", "nlmsgerr"]

_PACKAGE = "pyroute2"


def _import_codec() -> ModuleType:
    """Import pyroute2.netlink alone, or with all its package where that fails."""
    spec = PathFinder.find_spec(_PACKAGE)
    if _PACKAGE in sys.modules or spec is None:
        return importlib.import_module(f"{_PACKAGE}.netlink")
    bare = ModuleType(_PACKAGE)
    bare.__spec__ = spec
    bare.__path__ = list(spec.submodule_search_locations or ())
    sys.modules[_PACKAGE] = bare
    try:
        return importlib.import_module(f"{_PACKAGE}.netlink")
    except (ImportError, AttributeError):  # a version whose codec needs its package
        for name in [name for name in sys.modules if name.split(".")[0] == _PACKAGE]:
            del sys.modules[name]
        return importlib.import_module(f"{_PACKAGE}.netlink")


codec = _import_codec()
# The package has no types: classes made from these are Any to a checker.
genlmsg: Any = codec.genlmsg
nla: Any = codec.nla
ctrlmsg: Any = codec.ctrlmsg
nlmsgerr: Any = codec.nlmsgerr
