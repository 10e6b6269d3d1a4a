from __future__ import annotations

import pytest

import memreact
import memreact_tools
from memreact_tools import vsock_bridge
from memreact_tools.ctl.__main__ import main as ctl
from memreact_tools.host.__main__ import main as host


def test_the_tools_have_the_daemons_version() -> None:
    assert memreact_tools.__version__ == memreact.__version__


@pytest.mark.parametrize(("name", "main"), [("memreact-ctl", ctl), ("memreact-host", host)])
def test_each_tool_says_its_version(
    name: str, main: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(main)
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{name} {memreact.__version__}\n"


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--version", f"memreact-vsock {memreact.__version__}\n"),
        ("--help", "exec:/usr/bin/memreact-vsock\n"),
        ("-h", "hvsock:/PATH:PORT"),
    ],
)
def test_the_bridge_says_its_version_and_what_it_is_for(
    option: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vsock_bridge.run([option], {}) == 0
    assert text in capsys.readouterr().out
