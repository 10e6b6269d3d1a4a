"""Nobody closes the way in by which they ask, and no two services share a port by a push."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from memreact.control.store import SettingsStore
from memreact.run_dir import PushedFile
from memreact.settings.errors import SettingsError
from memreact.settings.files import FILES, read_layers
from memreact_schemas.config import Config, Control

END = "would end the way by which it is asked; say it in a file or over the unix socket"

Says = Callable[[str], SettingsStore]


@pytest.fixture
def says(tmp_path: Path) -> Says:
    """Begin with what a file says."""
    file = tmp_path / FILES[1].lstrip("/")
    file.parent.mkdir(parents=True)

    def store(text: str = "") -> SettingsStore:
        file.write_text(text)
        pushed = PushedFile(os.fspath(tmp_path / "pushed"))
        return SettingsStore(lambda: read_layers(root=str(tmp_path)), lambda _: None, pushed)

    return store


def control(varlink_port: int | None = None, ttrpc_port: int | None = None) -> Config:
    return Config(control=Control(varlink_port=varlink_port, ttrpc_port=ttrpc_port))


@pytest.mark.parametrize("dry_run", [False, True])
def test_vsock_is_not_closed_by_whoever_asks_over_it(says: Says, *, dry_run: bool) -> None:
    store, closed = says(""), Config(control=Control(vsock=False))
    with pytest.raises(SettingsError) as caught:
        store.patch(closed, by="host", over_vsock=True, dry_run=dry_run)
    assert str(caught.value) == f"pushed by host: control.vsock: {END}"
    assert store.settings.config.control.vsock


def test_vsock_is_closed_over_the_unix_socket(says: Says) -> None:
    store = says("")
    store.patch(Config(control=Control(vsock=False)), by="root")
    assert store.settings.config.control.vsock is False


def test_what_was_pushed_to_open_vsock_is_not_dropped_over_it(says: Says) -> None:
    store = says("[control]\nvsock = false\n")
    store.patch(Config(control=Control(vsock=True)), by="root")
    for keys in ((), ("control",), ("control.vsock",)):
        with pytest.raises(SettingsError, match=END):
            store.drop(keys, by="host", over_vsock=True)
    assert store.settings.config.control.vsock
    store.drop((), by="root")
    assert store.settings.config.control.vsock is False


def test_where_a_port_moved_is_told(says: Says) -> None:
    store = says("")
    change = store.patch(control(varlink_port=2050), by="host", over_vsock=True)
    assert change.notes == ("the host reaches this guest at port 2050 from now on",)
    change = store.patch(control(ttrpc_port=1024), by="host", over_vsock=True)
    assert change.notes == ("ttRPC is spoken at port 1024 from now on",)
    assert store.patch(control(ttrpc_port=1024), by="host", over_vsock=True).notes == ()
    assert store.drop(["control.varlink_port"], by="host", over_vsock=True).notes == (
        "the host reaches this guest at port 1050 from now on",
    )


def test_metrics_that_move_are_told_and_take_no_port_that_another_one_has(says: Says) -> None:
    store = says("")
    moved = Config(control=Control(metrics_port=2052))
    assert store.patch(moved, by="host").notes == ("metrics are read at port 2052 from now on",)
    taken = "metrics_port: found 1051, expected another port than control.ttrpc_port"
    with pytest.raises(SettingsError, match=taken):
        store.patch(Config(control=Control(metrics_port=1051)), by="host")
    with pytest.raises(SettingsError, match="varlink_port: found 2052, expected another port"):
        store.patch(control(varlink_port=2052), by="host")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"varlink_port": 1051}, "varlink_port: found 1051, expected another port than control.tt"),
        ({"ttrpc_port": 1050}, "ttrpc_port: found 1050, expected another port than control.varl"),
        ({"varlink_port": 7, "ttrpc_port": 7}, "ttrpc_port: found 7, expected another port than "),
    ],
)
def test_two_services_on_one_port_are_refused_by_whoever_asks(
    says: Says, keys: dict[str, int], text: str
) -> None:
    store = says("")
    with pytest.raises(SettingsError) as caught:
        store.patch(control(**keys), by="root")
    assert str(caught.value).startswith(f"pushed by root: control.{text}")
    assert store.settings.revision == 1


def test_ports_may_change_places(says: Says) -> None:
    store = says("")
    store.patch(control(varlink_port=1051, ttrpc_port=1050), by="root")
    with pytest.raises(SettingsError, match="another port"):
        store.drop(["control.ttrpc_port"], by="root")
    store.drop((), by="root")
    assert store.settings.config.control.varlink_port == 1050


def test_files_that_say_one_port_for_both_are_no_obstacle_to_other_pushes(says: Says) -> None:
    store = says("[control]\nttrpc_port = 1050\n")
    store.patch(Config(control=Control(group="adm")), by="root")
    store.patch(control(varlink_port=1060), by="root")
    assert store.drop((), by="root").notes == (
        "the host reaches this guest at port 1050 from now on",
        "control.ttrpc_port is control.varlink_port too: only one of them is listened on",
    )
