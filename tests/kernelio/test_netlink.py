from __future__ import annotations

import subprocess
import sys

_SAY_WHAT_CAME = """
import sys
import kernelio.netlink
print(kernelio.netlink.genlmsg.__module__)
print(*sorted(name for name in sys.modules if name.startswith("pyroute2")))
"""
_AFTER_THE_WHOLE = """
import pyroute2
import kernelio.netlink
print(kernelio.netlink.genlmsg is pyroute2.netlink.genlmsg)
"""
_WITHOUT_A_LEAN_WAY = """
import importlib
import sys
really = importlib.import_module
tries = []

def once_broken(name, package=None):
    tries.append(name)
    if len(tries) == 1:
        raise ImportError("needs its package")
    return really(name, package)

importlib.import_module = once_broken
import kernelio.netlink
print(len(tries), "pyroute2.ndb" in sys.modules or hasattr(sys.modules["pyroute2"], "IPRoute"))
"""


def _run(program: str) -> list[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_codec_comes_without_the_rest_of_pyroute2() -> None:
    module, modules = _run(_SAY_WHAT_CAME)
    assert module == "pyroute2.netlink"
    assert "pyroute2.netlink" in modules.split()
    assert "pyroute2.ndb" not in modules.split()
    assert "pyroute2.iproute" not in modules.split()


def test_a_pyroute2_that_is_there_already_is_used_as_it_is() -> None:
    assert _run(_AFTER_THE_WHOLE) == ["True"]


def test_a_codec_that_needs_its_package_gets_it() -> None:
    assert _run(_WITHOUT_A_LEAN_WAY) == ["2 True"]
