from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct, structs

from memreact_schemas import control
from memreact_schemas.explanation import HarmStatus
from memreact_schemas.status import CompactionStatus, LedgerStatus, LedgerTally
from memreact_tools.ctl.__main__ import main
from memreact_tools.ctl.verbs import VERBS
from tests.tools.ctl.doubles import (
    ANSWERS,
    CHANGED,
    IMPORTABLE,
    SETTINGS,
    START,
    Failure,
    VarlinkDouble,
)
from tests.tools.ctl.statuses import DECISION, EXPLANATION, LEDGER, STATUS
from tests.tools.ctl.test_what_if import ANSWER as WHAT_IF
from tests.tools.servers import Serve, monitor, serving


@pytest.fixture
def double() -> VarlinkDouble:
    """A daemon."""
    return VarlinkDouble()


@pytest.fixture
def here(tmp_path: Path, double: VarlinkDouble, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a daemon, which needs not to be named."""
    path = tmp_path / "io.memreact"
    monkeypatch.setenv("MEMREACT_ADDRESS", f"unix:{path}")
    with serving(path, double):
        yield f"unix:{path}"


CALLS: list[tuple[str, str, Struct]] = [
    ("status", "GetStatus", control.GetStatus()),
    ("status /shop", "GetStatus", control.GetStatus(path="/shop")),
    ("get", "GetSettings", control.GetSettings()),
    ("get memcg memcg.swap memcg.cgroup", "GetSettings", control.GetSettings()),
    ("diff", "GetSettings", control.GetSettings()),
    ("doctor", "GetDoctor", control.GetDoctor()),
    (
        "set memcg.swap=true memcg.period_secs=300",
        "PatchSettings",
        control.PatchSettings(patch={"memcg": {"swap": True, "period_secs": 300}}),
    ),
    (
        "set --dry-run --expect-revision 3 memcg.swap=true",
        "PatchSettings",
        control.PatchSettings(patch={"memcg": {"swap": True}}, dry_run=True, expected_revision=3),
    ),
    ("unset memcg.swap", "DropPushed", control.DropPushed(keys=("memcg.swap",))),
    ("unset --all", "DropPushed", control.DropPushed()),
    (
        "unset memcg.cgroup[/a].swap",
        "DropPushed",
        control.DropPushed(keys=("memcg.cgroup[/a].swap",)),
    ),
    (
        "rule add /shop --numa 0,1 swap=true",
        "AddRule",
        control.AddRule(rule={"path": "/shop", "numa": [0, 1], "swap": True}),
    ),
    (
        "rule set --expect-revision 4 /shop swap=true",
        "SetRule",
        control.SetRule(rule={"path": "/shop", "swap": True}, expected_revision=4),
    ),
    ("rule del /shop", "DeleteRule", control.DeleteRule(path="/shop")),
    (
        "rule del /shop --numa 1 --dry-run",
        "DeleteRule",
        control.DeleteRule(path="/shop", numa=(1,), dry_run=True),
    ),
    ("pause 60", "Pause", control.Pause(seconds=60)),
    ("pause 10m", "Pause", control.Pause(seconds=600)),
    ("pause 1.5s", "Pause", control.Pause(seconds=2)),
    ("pause 60 --reason backup", "Pause", control.Pause(seconds=60, reason="backup")),
    ("resume", "Resume", control.Resume()),
    ("explain /shop", "Explain", control.Explain(path="/shop")),
    ("run-now", "RunNow", control.RunNow()),
    ("run-now /shop", "RunNow", control.RunNow(path="/shop")),
    (
        "squeeze 300M",
        "Squeeze",
        control.Squeeze(target_bytes=300 << 20, deadline_seconds=30),
    ),
    (
        "squeeze 60% --scope /shop --deadline 1m",
        "Squeeze",
        control.Squeeze(held_percent=60, scope="/shop", deadline_seconds=60),
    ),
    (
        "squeeze 60% --hold 10m",
        "Squeeze",
        control.Squeeze(held_percent=60, deadline_seconds=30, then="hold", hold_seconds=600),
    ),
    ("squeeze --release", "ReleaseSqueeze", control.ReleaseSqueeze()),
    ("squeeze cold --deadline 1.5", "Squeeze", control.Squeeze(cold=True, deadline_seconds=2)),
    ("log-level debug", "SetLogLevel", control.SetLogLevel(level="debug")),
    ("watch --status", "Watch", control.Watch(status=True)),
    ("status --ledger", "GetStatus", control.GetStatus(ledger=True)),
]


@pytest.mark.parametrize(("line", "method", "call"), CALLS, ids=[call[0] for call in CALLS])
def test_each_verb_makes_its_call(
    line: str, method: str, call: Struct, double: VarlinkDouble, here: str
) -> None:
    double.answers = {"Watch": [control.WatchItem(dropped=0)]}
    ended = main([*line.split(), "--timeout", "9s"])
    assert ended == (1 if line.startswith("watch") else 0)
    assert double.calls == [(method, call)]


def test_every_verb_is_a_method_of_the_interface_and_every_method_has_a_verb() -> None:
    by_the_host = {"HostHolds"}  # memreact-host view --tell has measured it
    into_a_file = {"Record"}
    by_the_screen = {"Look"}  # memreact-top's
    others = by_the_host | into_a_file | by_the_screen
    assert {verb.method for verb in VERBS.values()} == set(control.METHODS) - others


@pytest.mark.parametrize(
    ("line", "answer"),
    [("get", SETTINGS), ("set memcg.swap=true", CHANGED), ("resume", control.Nothing())],
)
def test_for_programs_the_answer_is_printed_as_it_came(
    line: str, answer: Struct, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--json", *line.split()]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(msgspec.json.encode(answer))


TOLD: list[tuple[str, str]] = [
    ("status", "memreact 1.0, up 10 min 0 s, settings of revision 4\nnow: evicting /shop\n"),
    ("status", "\nand 5 more: --all\n"),
    (
        "status",
        "\n! a restart of the daemon would lose what was pushed last: /run/memreact/pushed ",
    ),
    ("status", "\nkept reportable for cid 2: 500 MiB, for another 1 min 0 s\n"),
    ("squeeze --release", "released\n"),
    ("status", "\nsqueezed by cid 2: 300 MiB of /shop, 64 MiB evicted, another 3 s at most\n"),
    ("status --all", " /c00\n"),
    (
        "status",
        "\nwaited when work was broken off last, 1 min 0 s ago:\n  /shop: reclaim 1234 ms, ",
    ),
    ("status", "\n! 2 decisions were not told: a follower read too slowly\n"),
    ("get", "memcg.swap = false"),
    ("get memcg.swap", "memcg.swap = false  pushed by root\n"),
    ("get compact", 'compact.compact_order = "auto"'),
    ("get", "memcg.cgroup[/init.scope].disabled = true"),
    ("get", "! a restart of the daemon would lose what was pushed last: /run/memreact/pushed "),
    ("get", "! memcg.swap has no effect"),
    ("diff", "nothing differs from the defaults"),
    ("doctor", "to the host  missing  none: no balloon\n"),
    ("doctor", "Freed memory cannot go back to the host."),
    ("set memcg.swap=true", "revision 5: 1 changed\n  memcg.swap: false -> true  (pushed by root)"),
    ("set memcg.swap=true", "\n  note: it has no effect here\n"),
    ("set --dry-run memcg.swap=true", "revision 5: 1 would change\n"),
    ("pause 90", "paused; it ends by itself in 1 min 30 s\n"),
]


@pytest.mark.parametrize(("line", "text"), TOLD)
def test_each_answer_is_told_to_people(
    line: str, text: str, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 0
    assert text in capsys.readouterr().out


EXPLAINED = """\
protection:
  /shop: all of 150 MiB stay, 0 B may go
  so 150 MiB of it stay, whatever is cold
pressure:
  memory: 1.25 % of the last 10 s, 7654 ms since it was made
  io: cannot be read
  its own: 0.0083 % of 1 min 0 s since its last turn, over 1 % a turn leaves it alone
  over 0.5 % of 1 s its eviction is broken off, over 10 % in the guest everything pauses
waited, as the kernel counts its processes:
  since they began: reclaim 9.0 ms, swap-in 0 ms, disk 0 ms (1 process)
  since the last look, 1 min 0 s ago: reclaim 1234 ms, swap-in 5.6 ms, compaction 0 ms, disk 20 ms\
 (3 processes, 1 ended, 2 not asked)
  ! boot with delayacct
settings:
  swap = false  (default)
  swap = true on node 1  (pushed by root, rule /shop)
decided:
  1 min 0 s ago: evicted /shop node=0 because=cold pages=7 by=us
for more to be reclaimed:
  node 0: swap is off: 95 MiB of cold anonymous memory stay
    > memreact-ctl rule put /shop swap=true
"""


def test_a_cgroup_is_explained_to_people(here: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "/shop"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("/shop: populated, frozen\n")
    assert said.endswith(EXPLAINED)


def test_of_a_cgroup_that_nothing_is_known_of_that_is_told(
    double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = structs.replace(
        EXPLANATION, guards=(), kept_bytes=None, decisions=(), obstacles=(), harm=HarmStatus()
    )
    double.answers = {"Explain": control.Explained(explanation=bare)}
    assert main(["explain", "/shop"]) == 0
    said = capsys.readouterr().out
    for line in ("nothing is protected", "nothing yet", "nothing stands in the way"):
        assert f"\n  {line}\n" in said


PROGRESS = control.SqueezeItem(
    progress=control.SqueezeProgress(
        stage="evict", evicted_bytes=64 << 20, reportable_grew_bytes=-(20 << 20), left_us=9_000_000
    )
)
SQUEEZED = """\
evict: 64 MiB evicted, 20 MiB less reportable, 9 s left
look: 0 B evicted, 12 s left
its time is over: 96 MiB evicted, 90 MiB more reportable, 80 MiB more reported, in 2 s
  12 ms of it past the deadline
  returned, as the host said: 70 MiB
  the kernel had no time to report all of it: more will follow
  free and not told: fragmented 30 MiB
  in use, estimated: hot 300 MiB
  cgroups by node: protected 2, frozen 1
! where the memory is could not be read: gone
"""


def _squeeze_end(**figures: object) -> control.SqueezeItem:
    known: dict[str, object] = {
        "because": "target",
        "tally": LedgerTally(evicted_file_bytes=90 << 20, evicted_anon_bytes=6 << 20),
        "settled": True,
        "took_us": 2_000_000,
        "overrun_us": 0,
        "free_held_bytes": {},
        "used_estimates_bytes": {},
        "left_alone": {},
    }
    return control.SqueezeItem(end=control.SqueezeEnd(**{**known, **figures}))  # type: ignore[arg-type]


def test_a_squeeze_is_told_on_the_way_and_at_its_end(
    double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    early = control.SqueezeProgress(stage="look", evicted_bytes=0, left_us=12_000_000)
    end = _squeeze_end(
        because="deadline",
        reportable_grew_bytes=90 << 20,
        reported_grew_bytes=80 << 20,
        overrun_us=12_000,
        returned_bytes=70 << 20,
        settled=False,
        free_held_bytes={"fragmented": 30 << 20},
        used_estimates_bytes={"hot": 300 << 20},
        left_alone={"frozen": 1, "protected": 2},
        problem="gone",
    )
    double.answers = {"Squeeze": [PROGRESS, control.SqueezeItem(progress=early), end]}
    assert main(["squeeze", "100M"]) == 0
    assert capsys.readouterr().out == SQUEEZED


def test_a_squeeze_that_reached_its_target_is_a_line(
    double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    double.answers = {"Squeeze": [_squeeze_end(detail="x")]}
    assert main(["squeeze", "cold"]) == 0
    assert capsys.readouterr().out == "reached (x): 96 MiB evicted, in 2 s\n"
    double.answers = {"Squeeze": [_squeeze_end(held_until_us=5)]}
    assert main(["squeeze", "60%", "--hold", "5m"]) == 0
    assert "it is kept so from now on" in capsys.readouterr().out


def test_for_programs_a_squeeze_is_its_end_alone(
    double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    double.answers = {"Squeeze": [PROGRESS, _squeeze_end()]}
    assert main(["--json", "squeeze", "100M"]) == 0
    assert json.loads(capsys.readouterr().out)["end"]["because"] == "target"


def test_who_is_busy_with_a_squeeze_is_told(
    double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    busy = control.Busy(by="cid 2", left_us=61_000_000)
    double.answers = {"Squeeze": Failure("io.memreact.Busy", busy)}
    assert main(["squeeze", "100M"]) == 1
    told = "busy: a squeeze of cid 2 is under way, for another 1 min 1 s at most\n"
    assert capsys.readouterr().err.endswith(told)


@pytest.mark.parametrize(
    "line",
    [
        "squeeze",
        "squeeze cold --hold 5",
        "squeeze 5M --hold 2000h",
        "squeeze 5M --release",
        "squeeze 0",
        "squeeze 101%",
        "squeeze hot",
        "squeeze 5X",
        "squeeze 1M --deadline 2h",
    ],
)
def test_what_is_no_squeeze_is_misuse(line: str, double: VarlinkDouble, here: str) -> None:
    assert main(line.split()) == 2
    assert double.calls == []


LEDGER_TOLD = """\
evicted: 400 MiB file, 80 MiB anon, for which zram took 20 MiB; 12 MiB moved
free: 600 MiB, reportable 570 MiB, reported 560 MiB, 0.90 GiB*h in all, 1 min 0 s ago
  free and not told: fragmented 30 MiB, not told yet 10 MiB
  in use, estimated: hot 300 MiB, kernel 80 MiB
  evicted and in use again, estimated: 50 MiB
the host holds 450 MiB, 300 MiB less than at first; it said so 2 min 0 s ago
! evictions of the last hour led to nothing reported: fragmented
"""


COMPACTION_TOLD = """\
compactions: 2 in 7 looks, order 9, next look in 3 min 0 s
  1 broken off, 12 MiB moved in 4 s; expected 40 MiB, became reportable 30 MiB
  last: 1 min 0 s ago, compacted because=done gained_bytes=7
  zone 0/Normal is left alone for another 5 min 0 s: it brought too little
"""


def test_compactions_are_told_to_people(here: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert f"\n{COMPACTION_TOLD}" in capsys.readouterr().out


def test_of_compactions_that_never_ran_only_what_is_known_is_told(
    double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = msgspec.structs.replace(STATUS, compaction=CompactionStatus())
    double.answers = {"GetStatus": control.StatusAnswer(status=status)}
    assert main(["status"]) == 0
    assert "\ncompactions: 0 in 0 looks\n! a change" in capsys.readouterr().out


def _status_with(double: VarlinkDouble, ledger: LedgerStatus) -> None:
    status = msgspec.structs.replace(STATUS, ledger=ledger)
    double.answers = {"GetStatus": control.StatusAnswer(status=status)}


def test_the_ledger_is_told_to_people(
    double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _status_with(double, LEDGER)
    assert main(["status", "--ledger"]) == 0
    assert f"\n{LEDGER_TOLD}" in capsys.readouterr().out


def test_of_a_ledger_that_nothing_was_read_for_only_what_is_known_is_told(
    double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _status_with(double, LedgerStatus(since_start=LedgerTally(), problem="no zoneinfo"))
    assert main(["status"]) == 0
    said = capsys.readouterr().out
    assert (
        "evicted: 0 B file, 0 B anon\n! where the memory is could not be read: no zoneinfo" in said
    )
    unread = msgspec.structs.replace(
        LEDGER, reported_bytes=None, freed_by_others_estimate_bytes=7 << 20
    )
    _status_with(double, unread)
    assert main(["status"]) == 0
    said = capsys.readouterr().out
    assert "reported unknown" in said
    assert "freed by others, estimated: 7168 KiB" in said


def test_what_differs_from_the_defaults_is_told_with_its_origin(
    double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tables: dict[str, dict[str, object]] = {"memcg": {"swap": True, "swappiness_max": 50}}
    changed = msgspec.structs.replace(SETTINGS, settings=tables)
    double.answers = {"GetSettings": changed}
    assert main(["diff"]) == 0
    said = capsys.readouterr().out
    assert "memcg.swap: false -> true" in said
    assert "pushed by root" in said
    assert "swappiness_max" not in said
    assert "memcg.period_secs: 600 -> nothing" in said


REFUSALS: list[tuple[str, Struct | None, str]] = [
    (
        "io.memreact.SettingsRefused",
        control.SettingsRefused(origin="pushed", key="memcg.swap", found="1", expected="a bool"),
        "refused: pushed: memcg.swap: found 1, expected a bool",
    ),
    (
        "io.memreact.RevisionConflict",
        control.RevisionConflict(expected=3, actual=4),
        "revision 4 is in force, not 3",
    ),
    ("io.memreact.RuleExists", control.RuleExists(path="/a", numa=(0,)), "/a on node 0 has a rule"),
    ("io.memreact.NoSuchRule", control.NoSuchRule(path="/a", numa=()), "/a has no rule"),
    ("io.memreact.NotPossible", control.NotPossible(why="held"), "not possible now: held"),
    (
        "io.memreact.NotPossible",
        control.NotPossible(why="no_such_cgroup: /x"),
        "not possible now: there is no cgroup /x\n",
    ),
    ("org.varlink.service.PermissionDenied", None, "permission denied"),
    (
        "org.varlink.service.MethodNotFound",
        control.NotPossible(why="x"),
        "org.varlink.service.MethodNotFound why=x",
    ),
    ("io.memreact.SettingsRefused", None, "io.memreact.SettingsRefused {}"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=[refusal[2] for refusal in REFUSALS])
def test_each_refusal_is_told_and_ends_with_1(
    refusal: tuple[str, Struct | None, str],
    double: VarlinkDouble,
    here: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, parameters, text = refusal
    double.answers = {"PatchSettings": Failure(name, parameters)}
    assert main(["set", "memcg.swap=true"]) == 1
    said = capsys.readouterr()
    assert text in said.err
    assert not said.out


@pytest.mark.parametrize(
    "line",
    [
        "set memcg.swp=true",
        "set memcg.swap",
        "get memcg.swp",
        "unset",
        "unset --all memcg.swap",
        "unset nothing.there",
        "rule add /a swp=true",
        "rule del /a --numa x",
        "pause 0",
        "pause 86401",
        "pause 25h",
        "pause soon",
        "status --timeout 0",
        "status --timeout soon",
        "status --address nowhere",
    ],
)
def test_what_is_misused_ends_with_2_and_nobody_is_asked(
    line: str, double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    assert capsys.readouterr().err.startswith("memreact-ctl: ")
    assert double.calls == []


@pytest.mark.parametrize("line", ["", "dance", "set", "status --parallel 0", "log-level loud"])
def test_a_command_line_that_cannot_be_read_ends_with_2(line: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2


def test_nobody_there_ends_with_1_and_says_what_to_look_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--address", f"unix:{tmp_path}/none"]) == 1
    assert "is memreact, or the guest, running?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "where", [["--address", "unix:{}", "--hybrid-port", "1050"], ["--address", "hvsock:{}:1050"]]
)
def test_a_guest_is_reached_by_way_of_its_monitor(
    where: list[str], tmp_path: Path, double: VarlinkDouble
) -> None:
    path = tmp_path / "vm.hvsock"
    with serving(path, monitor(double, 1050)):
        assert main(["run-now", *(each.format(path) for each in where)]) == 0
    assert double.calls == [("RunNow", control.RunNow())]


def test_a_stream_is_told_item_by_item_and_its_end_is_no_success(
    double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [
        {"decision": msgspec.to_builtins(DECISION), "dropped": 0},
        {"status": msgspec.to_builtins(STATUS), "dropped": 3},
        {"dropped": 4},
    ]
    double.answers = {"Watch": items}
    assert main(["watch"]) == 1
    said = capsys.readouterr()
    first, *rest = said.out.splitlines()
    assert first == "540.000 evicted /shop node=0 because=cold pages=7 by=us"
    assert rest[0].startswith("memreact 1.0, up")
    assert rest[-1] == "(4 decisions dropped so far)"
    assert "the stream ended" in said.err


def test_a_stream_for_programs_is_a_line_for_each_item(
    double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    double.answers = {"Watch": [{"dropped": 0}, {"dropped": 1}]}
    assert main(["watch", "--json"]) == 1
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said == [{"dropped": 0}, {"dropped": 1}]


EVIL = "/a\x1b[2J\x9b31m\u202e\nrevision 9: done"


@pytest.mark.parametrize("flags", [[], ["--json"]])
@pytest.mark.parametrize(
    "line", ["status", "status /a", "get", "set memcg.swap=true", "doctor", "explain /shop"]
)
def test_no_name_reaches_the_terminal_raw(
    line: str,
    flags: list[str],
    double: VarlinkDouble,
    here: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    evil = msgspec.json.encode(EVIL)
    double.answers = {
        name: msgspec.Raw(
            msgspec.json.encode(answer)
            .replace(b'"/c00"', evil)
            .replace(b'"/init.scope"', evil)
            .replace(b'"memcg.swap"', evil)
            .replace(b'"no balloon"', evil)
            .replace(b'"/shop"', evil)
        )
        for name, answer in (
            ("GetStatus", {"status": STATUS}),
            ("GetSettings", SETTINGS),
            ("PatchSettings", CHANGED),
            (
                "GetDoctor",
                ANSWERS["GetDoctor"],
            ),
            ("Explain", ANSWERS["Explain"]),
        )
    }
    assert main([*flags, *line.split(), *(["--all"] if line == "status" else [])]) == 0
    said = capsys.readouterr().out
    assert all(each.isprintable() for each in said.splitlines())
    assert "\nrevision 9: done" not in said
    if flags:
        assert EVIL in json.dumps(json.loads(said), ensure_ascii=False).replace(
            "\\n", "\n"
        ).replace("\\u001b", "\x1b")


def test_an_answer_of_another_shape_is_told_as_it_came(
    double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    double.answers = {"GetStatus": {"status": {"from": "the future"}}}
    assert main(["status"]) == 0
    assert capsys.readouterr().out == '{"status":{"from":"the future"}}\n'


@pytest.mark.parametrize("said", [b"", b"no varlink\0", b'{"parameters":{'])
def test_a_broken_answer_ends_with_1(
    said: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def speak(stream: socket.socket) -> None:
        stream.recv(1000)
        stream.sendall(said)

    with serving(tmp_path / "s", speak):
        assert main(["status", "--address", f"unix:{tmp_path}/s"]) == 1
    assert f"memreact-ctl: unix:{tmp_path}/s: the " in capsys.readouterr().err


def test_a_silent_guest_is_not_waited_for_longer_than_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(stream: socket.socket) -> None:
        while stream.recv(1000):
            pass

    with serving(tmp_path / "s", silent):
        assert main(["status", "--address", f"unix:{tmp_path}/s", "--timeout", "50ms"]) == 1
    assert "no answer in time" in capsys.readouterr().err


def test_a_guest_that_trickles_is_not_waited_for_longer_than_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = threading.Event()

    def trickle(stream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.02):
                stream.sendall(b" ")

    with serving(tmp_path / "s", trickle):
        words = ["status", "--address", f"unix:{tmp_path}/s", "--timeout", "200ms"]
        asking = threading.Thread(target=lambda: codes.append(main(words)), daemon=True)
        codes: list[int] = []
        asking.start()
        asking.join(20)
        over.set()
    assert codes == [1]
    assert "no answer in time" in capsys.readouterr().err


@pytest.fixture
def guests(tmp_path: Path) -> Iterator[Callable[[dict[str, VarlinkDouble]], list[str]]]:
    """Start daemons by their names; returns their addresses."""
    with contextlib.ExitStack() as stack:

        def start(doubles: dict[str, VarlinkDouble]) -> list[str]:
            for name, double in doubles.items():
                stack.enter_context(serving(tmp_path / name, double))
            return [f"unix:{tmp_path}/{name}" for name in doubles]

        yield start


Guests = Callable[[dict[str, VarlinkDouble]], list[str]]


def test_one_push_goes_to_many_and_partial_failure_is_shown(
    guests: Guests, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conflict = Failure("io.memreact.RevisionConflict", {"expected": 3, "actual": 4})
    doubles = {"a": VarlinkDouble(), "b": VarlinkDouble({"PatchSettings": conflict})}
    a, b = guests(doubles)
    gone = f"unix:{tmp_path}/none"
    flags = [part for each in (a, b, gone) for part in ("--address", each)]
    assert main(["set", "memcg.swap=true", *flags]) == 1
    *rows, end = capsys.readouterr().out.splitlines()
    said = [*sorted(rows), end]  # whoever is first is told first
    assert said[0].split() == [a, "done", "revision", "5:", "1", "changed"]
    assert said[1].startswith(f"{b}     failed  revision 4 is in force, not 3")
    assert said[2].startswith(f"{gone}  failed  there is no such socket")
    assert said[3] == "1 done, 2 failed"
    assert all(len(double.calls) == 1 for double in doubles.values())


def test_many_that_all_did_it_end_with_0(
    guests: Guests, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    doubles = {f"g{number}": VarlinkDouble() for number in range(12)}
    file = tmp_path / "addresses"
    file.write_text("# all of them\n\n" + "\n".join(guests(doubles)) + "\n")
    assert main(["--address-file", str(file), "--parallel", "3", "resume"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "12 done, 0 failed"
    assert all(double.calls == [("Resume", control.Resume())] for double in doubles.values())


def test_no_more_are_asked_at_once_than_asked_for(tmp_path: Path) -> None:
    lock, now, most = threading.Lock(), 0, 0
    pair = threading.Barrier(2)  # nobody is answered before two have asked

    def serve(stream: socket.socket) -> None:
        nonlocal now, most
        stream.recv(1000)
        with lock:
            now += 1
            most = max(most, now)
        pair.wait(20)
        with lock:
            now -= 1
        stream.sendall(b"{}\0")

    with serving(tmp_path / "s", serve):
        for number in range(6):
            (tmp_path / f"s{number}").symlink_to("s")
        flags = [part for at in range(6) for part in ("--address", f"unix:{tmp_path}/s{at}")]
        assert main(["resume", "--parallel", "2", *flags]) == 0
    assert most == 2


def test_many_for_programs_are_a_line_each(
    guests: Guests, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (a,) = guests({"a": VarlinkDouble()})
    gone = f"unix:{tmp_path}/none"
    assert main(["status", "--json", "--address", a, "--address", gone]) == 1
    lines = sorted(capsys.readouterr().out.splitlines())
    first, second = (json.loads(line) for line in lines)
    assert first["address"] == a
    assert first["answer"]["status"]["revision"] == 4
    assert "error" not in first
    assert second["address"] == gone
    assert second["error"]["code"] == "unreachable"
    assert "no such socket" in second["error"]["message"]


def test_many_for_programs_are_told_the_errors_name_and_what_it_says(
    guests: Guests, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = Failure("io.memreact.RevisionConflict", {"expected": 3, "actual": 4})
    (a,) = guests({"a": VarlinkDouble({"PatchSettings": refused})})
    (tmp_path / "addresses").write_text(f"{a}\n")
    words = ["set", "memcg.swap=true", "--json", "--address-file", f"{tmp_path}/addresses"]
    assert main(words) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["address"] == a
    assert said["error"]["code"] == "io.memreact.RevisionConflict"
    assert said["error"]["parameters"] == {"expected": 3, "actual": 4}
    assert "revision 4 is in force" in said["error"]["message"]


def test_an_address_given_twice_is_asked_once(guests: Guests) -> None:
    double = VarlinkDouble()
    (a,) = guests({"a": double})
    assert main(["resume", "--address", a, "--address", a]) == 0
    assert len(double.calls) == 1


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_each_row_is_told_before_the_last_guest_answered_and_ctrl_c_tells_the_rest(
    guests: Guests, tmp_path: Path
) -> None:
    called = threading.Event()

    def silent(stream: socket.socket) -> None:
        called.set()
        while stream.recv(1000):
            pass

    (a,) = guests({"a": VarlinkDouble()})
    addresses = [a, *(f"unix:{tmp_path}/{name}" for name in ("s", "s1"))]
    (tmp_path / "s1").symlink_to("s")
    (tmp_path / "addresses").write_text("\n".join(addresses))
    words = ["resume", "--parallel", "1", "--address-file", f"{tmp_path}/addresses"]
    with (
        serving(tmp_path / "s", silent),
        subprocess.Popen(
            [sys.executable, "-c", START, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as push,
    ):
        assert push.stdout is not None
        assert push.stdout.readline().split() == [a, "done", "resumed"]
        assert called.wait(20)
        push.send_signal(signal.SIGINT)
        said, trouble = push.communicate(timeout=9)
    assert "failed  asked, and no answer yet: it may be done\n" in said
    assert said.endswith("1 done, 0 failed\n")
    assert trouble == "memreact-ctl: interrupted: 2 asked, 1 not asked\n"
    assert push.returncode == 1


def test_for_programs_the_keys_that_were_asked_for_are_told_alone(
    here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["get", "--json", "memcg.swap"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["settings"] == {"memcg": {"swap": False}}
    assert said["origins"] == {"memcg.swap": "pushed by root"}
    assert said["revision"] == 4


def test_for_programs_what_differs_is_a_list(
    double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tables: dict[str, dict[str, object]] = {**SETTINGS.settings}  # type: ignore[dict-item]
    tables["memcg"] = {**tables["memcg"], "swap": True}
    double.answers = {"GetSettings": msgspec.structs.replace(SETTINGS, settings=tables)}
    assert main(["diff", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"key": "memcg.swap", "default": False, "value": True, "origin": "pushed by root"}
    ]


def test_a_rule_is_put_whether_or_not_it_is_there(double: VarlinkDouble, here: str) -> None:
    rule: dict[str, object] = {"path": "/a", "swap": True}
    assert main(["rule", "put", "/a", "swap=true"]) == 0
    assert double.calls == [("AddRule", control.AddRule(rule=rule))]
    double.calls.clear()
    double.answers = {"AddRule": Failure("io.memreact.RuleExists", {"path": "/a", "numa": []})}
    assert main(["rule", "put", "/a", "swap=true"]) == 0
    assert double.calls[1:] == [("SetRule", control.SetRule(rule=rule))]


def test_a_rule_that_need_not_be_there_may_be_missing(
    double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    double.answers = {"DeleteRule": Failure("io.memreact.NoSuchRule", {"path": "/a", "numa": []})}
    assert main(["rule", "del", "/a"]) == 1
    assert capsys.readouterr().err.endswith("/a has no rule\n")
    assert main(["rule", "del", "/a", "--if-there"]) == 0
    assert "there was no such rule" in capsys.readouterr().out
    denied = Failure("org.varlink.service.PermissionDenied", {})
    double.answers = {"DeleteRule": denied}
    assert main(["rule", "del", "/a", "--if-there"]) == 1


@pytest.mark.parametrize("line", ["{} # the first", "{}\t#one", "  {}  "])
def test_a_comment_may_stand_behind_an_address(line: str, guests: Guests, tmp_path: Path) -> None:
    (a,) = guests({"a": VarlinkDouble()})
    (tmp_path / "addresses").write_text(f"#all\n{line.format(a)}\n")
    assert main(["resume", "--address-file", f"{tmp_path}/addresses"]) == 0


def test_a_line_that_is_no_address_is_told_with_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "addresses").write_text("unix:/a\n\nnowhere\n")
    assert main(["resume", "--address-file", f"{tmp_path}/addresses"]) == 2
    assert f"{tmp_path}/addresses:3: 'nowhere' is not" in capsys.readouterr().err


def test_long_answers_of_many_stand_below_their_addresses(
    guests: Guests, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = guests({"a": VarlinkDouble(), "b": VarlinkDouble()})
    assert main(["get", "memcg.swap", "--address", a, "--address", b]) == 0
    said = capsys.readouterr().out
    assert f"{a}:\n  memcg.swap = false  pushed by root\n" in said
    assert f"{b}:\n  memcg.swap = false" in said


def test_a_guest_that_refuses_without_a_word_has_a_row_like_any_other(
    guests: Guests, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = guests({"a": VarlinkDouble({"Resume": Failure("", {})}), "b": VarlinkDouble()})
    assert main(["resume", "--address", a, "--address", b]) == 1
    said = capsys.readouterr().out
    assert f"{a}  failed" in said
    assert f"{b}  done" in said


HUGE = b"1" + b"0" * 400
ODD_RULES = b'{"settings":{"memcg":{"cgroup":[0]}},"revision":1,"origins":{},"warnings":[]}'


def replies(said: bytes) -> Serve:
    """Answer any call with these bytes, whatever they are."""

    def serve(stream: socket.socket) -> None:
        if stream.recv(1 << 16):
            stream.sendall(said + b"\0")

    return serve


@pytest.mark.parametrize(
    "case",
    [
        (
            "set memcg.swap=true",
            b'{"error":"x.NotEnoughMemory","parameters":'
            b'{"path":"/dev/vdc","used_bytes":%s,"available_bytes":%s,"kept_bytes":1}}'
            % (HUGE, HUGE),
            "/dev/vdc holds",
        ),
        ("set memcg.swap=true", b'{"error":"x.Refused","parameters":[0]}', "x.Refused"),
        ("get", b'{"parameters":%s}' % ODD_RULES, "cannot be told"),
        ("diff", b'{"parameters":%s}' % ODD_RULES, "cannot be told"),
        ("diff", b'{"parameters":{"settings":{"memcg":{"cgroup":[0]}}}}', "cannot be compared"),
        ("diff", b'{"parameters":{"settings":7}}', "cannot be compared"),
    ],
    ids=["number", "refusal", "rules", "diff-rules", "diff-shape", "diff-number"],
)
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_whatever_one_guest_says_the_others_are_asked_and_told(
    case: tuple[str, bytes, str],
    flags: list[str],
    guests: Guests,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line, said, why = case
    doubles = {name: VarlinkDouble() for name in "bc"}
    b, c = guests(doubles)
    odd = f"unix:{tmp_path}/a"
    with serving(tmp_path / "a", replies(said)):
        asked = [part for each in (odd, b, c) for part in ("--address", each)]
        code = main([*flags, *line.split(), "--parallel", "1", *asked])
    told = capsys.readouterr().out
    assert all(len(double.calls) == 1 for double in doubles.values())
    if flags:
        assert [each in told for each in (odd, b, c)] == [True, True, True]
        return
    assert code == 1
    row = next(each for each in told.splitlines() if each.startswith(odd))
    assert row.startswith(f"{odd}  failed")
    assert why in row
    assert told.endswith("1 failed\n")


def huge(said: object) -> object:
    """The same with all its whole numbers too large for a float."""
    if isinstance(said, dict):
        return {key: huge(value) for key, value in said.items()}
    if isinstance(said, list):
        return [huge(value) for value in said]
    return int(HUGE) if type(said) is int else said


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("status", ANSWERS["GetStatus"]),
        ("explain /shop", ANSWERS["Explain"]),
        ("squeeze cold", _squeeze_end(held_until_us=5, reported_grew_bytes=1)),
        ("swap list", ANSWERS["ListSwap"]),
        ("what-if memcg.swap=true", WHAT_IF),
    ],
)
def test_figures_without_measure_are_told(
    line: str, answer: Struct, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = json.dumps({"parameters": huge(json.loads(msgspec.json.encode(answer)))})
    with serving(tmp_path / "a", replies(said.encode())):
        assert main([*line.split(), "--address", f"unix:{tmp_path}/a"]) == 0
    assert capsys.readouterr().err == ""


def test_a_decision_at_a_moment_without_measure_is_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = huge(json.loads(msgspec.json.encode(DECISION)))
    said = json.dumps({"parameters": {"decision": decision}, "continues": True})
    with serving(tmp_path / "a", replies(said.encode())):
        assert main(["watch", "--address", f"unix:{tmp_path}/a"]) == 1
    assert "because=cold" in capsys.readouterr().out


def test_what_differs_between_guests_is_told(
    guests: Guests, capsys: pytest.CaptureFixture[str]
) -> None:
    tables: dict[str, dict[str, object]] = {**SETTINGS.settings}  # type: ignore[dict-item]
    tables["memcg"] = {**tables["memcg"], "swap": True}
    other = VarlinkDouble({"GetSettings": msgspec.structs.replace(SETTINGS, settings=tables)})
    a, b, c = guests({"a": VarlinkDouble(), "b": other, "c": VarlinkDouble()})
    assert main(["diff", "--address", a, "--address", b]) == 0
    said = capsys.readouterr().out
    assert said == f"memcg.swap\n  {a}: false\n  {b}: true\n0 failed\n"
    assert main(["diff", "--address", a, "--address", c]) == 0
    assert "the same settings" in capsys.readouterr().out


def test_only_one_guest_is_followed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--address", "unix:/a", "--address", "unix:/b"]) == 2
    assert "one guest at a time" in capsys.readouterr().err


@pytest.mark.parametrize(("content", "code"), [("# none\n", 2), ("unix:/a\nnowhere\n", 2)])
def test_a_file_of_addresses_is_read_whole_or_not(content: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "addresses").write_text(content)
    assert main(["resume", "--address-file", f"{tmp_path}/addresses"]) == code


def test_a_file_of_addresses_that_is_not_there_ends_with_1(tmp_path: Path) -> None:
    assert main(["resume", "--address-file", f"{tmp_path}/addresses"]) == 1


def test_addresses_come_from_standard_input(
    guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubles = {"a": VarlinkDouble(), "b": VarlinkDouble()}
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(guests(doubles))))
    assert main(["resume", "--address-file", "-"]) == 0
    assert all(double.calls for double in doubles.values())


def test_a_stream_that_is_refused_ends_with_1(
    double: VarlinkDouble, here: str, capsys: pytest.CaptureFixture[str]
) -> None:
    double.answers = {"Watch": Failure("io.memreact.NotPossible", {"why": "too many"})}
    assert main(["watch"]) == 1
    assert f"{here}: not possible now: too many" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["get", "status --all", "watch"])
def test_whoever_stops_reading_is_not_told_of_a_broken_pipe(
    line: str, double: VarlinkDouble, here: str
) -> None:
    double.answers = {"Watch": [control.WatchItem(dropped=1)] * 9}
    read_end, write_end = os.pipe()
    os.close(read_end)
    ended = subprocess.run(
        [sys.executable, "-c", START, *line.split(), "--address", here],
        stdout=write_end,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write_end)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_whoever_follows_a_stream_ends_it_with_ctrl_c(tmp_path: Path) -> None:
    called = threading.Event()

    def silent(stream: socket.socket) -> None:
        stream.recv(1000)
        called.set()
        stream.recv(1000)

    with serving(tmp_path / "s", silent):
        words = [sys.executable, "-c", START, "watch", "--address", f"unix:{tmp_path}/s"]
        with subprocess.Popen(words, stderr=subprocess.PIPE) as watching:
            assert called.wait(20)
            watching.send_signal(signal.SIGINT)
            assert watching.communicate(timeout=20)[1] == b""
    assert watching.returncode == 0


def test_it_starts_without_a_loop_and_without_what_one_verb_alone_needs() -> None:
    program = (
        f"{IMPORTABLE}\n"
        "from memreact_tools.ctl.__main__ import main\n"
        "main(['set', 'memcg.swap=true', '--address', 'unix:/none'])\n"
        "print(*sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True
    )
    loaded = set(answer.stdout.split())
    heavy = {
        "asyncio",
        "uvloop",
        "concurrent.futures",
        "logging",
        "subprocess",
        "tomli",
        "memreact",
        "kernelio",
        "memreact_schemas.protobuf",
    }
    assert "memreact_tools.ctl.verbs" in loaded
    assert not loaded & heavy
