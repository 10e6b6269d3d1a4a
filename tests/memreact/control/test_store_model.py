"""Pushes, rules, files and restarts at random: what is in force is the merge of the layers."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from memreact.control.store import Change, NoSuchRule, RevisionConflict, RuleExists, SettingsStore
from memreact.rules import rules_of
from memreact.run_dir import PushedFile
from memreact.settings.errors import SettingsError
from memreact.settings.files import FILES, read_layers
from memreact.settings.layers import Settings, entry_key, said
from memreact_schemas.config import DEFAULTS, CgroupEntry, Config, Log, Memcg
from tests.effort import examples

Keys = dict[str, object]
Place = tuple[str, tuple[int, ...]]

REFUSALS = (SettingsError, RevisionConflict, RuleExists, NoSuchRule)

maybe_bool = st.none() | st.booleans()
period = st.none() | st.integers(0, 4)  # 0 is refused
places = st.sampled_from([("/a", ()), ("/a", (0,)), ("/init.scope", ())])
entries = st.builds(
    lambda place, swap, secs: CgroupEntry(
        path=place[0], numa=place[1], swap=swap, period_secs=secs
    ),
    places,
    maybe_bool,
    period,
)
patches = st.builds(
    lambda swap, secs, decisions, cgroup: Config(
        memcg=Memcg(swap=swap, period_secs=secs, cgroup=tuple(cgroup)),
        log=Log(decisions=decisions),
    ),
    maybe_bool,
    period,
    st.sampled_from([None, 15, 16, 17]),  # 15 is refused
    st.lists(entries, max_size=2, unique_by=lambda entry: entry.place),
)
keys = st.sampled_from(
    [
        *("memcg", "memcg.swap", "memcg.period_secs", "log", "log.decisions", "memcg.cgroup"),
        *("memcg.cgroup[/a]", "memcg.cgroup[/a 0].swap", "memcg.cgroup[/init.scope]", "nonsense"),
    ]
)


def is_right(config: Config) -> bool:
    """The bounds that these tests cross, said once more."""
    secs = [config.memcg.period_secs, *(entry.period_secs for entry in config.memcg.cgroup)]
    return 0 not in secs and config.log.decisions != 15


def toml_of(config: Config) -> str:
    """Write a layer as a person would."""
    lines = []
    for table in ("memcg", "log"):
        values = getattr(config, table)
        lines += [f"[{table}]"]
        lines += [f"{key} = {shown(getattr(values, key))}" for key in said_in(values)]
    for entry in config.memcg.cgroup:
        lines += ["[[memcg.cgroup]]", f"path = '{entry.path}'", f"numa = {list(entry.numa)}"]
        lines += [f"{key} = {shown(getattr(entry, key))}" for key in said_in(entry)]
    return "\n".join(lines)


def said_in(values: object) -> list[str]:
    names = ("swap", "period_secs", "decisions")
    return [name for name in names if getattr(values, name, None) is not None]


def shown(value: object) -> str:
    return str(value).lower()


def entry_names(place: Place, values: Keys) -> list[str]:
    name = entry_key(place)
    return [key for key in values if key == name or key.startswith(f"{name}.")]


class StoreMachine(RuleBasedStateMachine):
    """The model: keys that the file says, keys that were pushed, places that were hidden."""

    @initialize()
    def begin(self) -> None:
        """Start on an empty machine."""
        self.root = tempfile.mkdtemp()
        os.makedirs(self.root + os.path.dirname(FILES[1]))
        os.makedirs(self.root + "/run")
        self.file: Keys = {}
        self.pushed: Keys = {}
        self.hidden: set[Place] = set()
        self.applied: list[Settings] = []
        self.bad_file = False
        self.revision = 0
        self.start()

    def start(self) -> None:
        """Let a daemon begin with what there is."""
        pushed = PushedFile(self.root + "/run/pushed")
        self.store = SettingsStore(lambda: read_layers(root=self.root), self.applied.append, pushed)
        self.applied[:] = [self.store.settings]

    def teardown(self) -> None:
        """Take the files away."""
        if hasattr(self, "root"):
            shutil.rmtree(self.root)

    def merged(self) -> Keys:
        """What must be in force."""
        below = dict(said(DEFAULTS)) | self.file
        gone = {key for place in self.hidden for key in entry_names(place, below)}
        return {key: value for key, value in below.items() if key not in gone} | self.pushed

    def has(self, place: Place) -> bool:
        """Whether an entry of this place is in force."""
        return entry_key(place) in self.merged()

    def call(
        self, asked: Callable[[int], Change], *, refused: bool, change: Callable[[], None]
    ) -> None:
        """Make a call, which the model too refuses or carries out."""
        before = (self.store.settings, len(self.applied))
        try:
            answer = asked(self.store.settings.revision)
        except REFUSALS:
            assert refused
            assert (self.store.settings, len(self.applied)) == before
            return
        assert not refused
        was = self.merged()
        change()
        changed = {key for key in was | self.merged() if was.get(key) != self.merged().get(key)}
        assert {key.key for key in answer.changed} == changed
        assert answer.revision == before[0].revision + bool(changed)

    @rule(patch=patches, by=st.sampled_from(["host", "root"]))
    def patch(self, patch: Config, by: str) -> None:
        """Push keys."""
        self.call(
            lambda revision: self.store.patch(patch, by=by, expected_revision=revision),
            refused=not is_right(patch),
            change=lambda: self.pushed.update(said(patch)),
        )

    @rule(entry=entries, add=st.booleans())
    def add_or_set(self, entry: CgroupEntry, *, add: bool) -> None:
        """Push one entry."""
        layer = Config(memcg=Memcg(cgroup=(entry,)))
        self.call(
            lambda _: (self.store.add_rule if add else self.store.set_rule)(entry, by="host"),
            refused=self.has(entry.place) == add or not is_right(layer),
            change=lambda: self.pushed.update(said(layer)),
        )

    @rule(place=places)
    def delete(self, place: Place) -> None:
        """Delete one entry."""

        def change() -> None:
            for key in entry_names(place, self.pushed):
                del self.pushed[key]
            if entry_key(place) in dict(said(DEFAULTS)) | self.file:
                self.hidden.add(place)

        self.call(
            lambda _: self.store.delete_rule(*place, by="host"),
            refused=not self.has(place),
            change=change,
        )

    @rule(key=keys | places.map(entry_key))
    def drop(self, key: str) -> None:
        """Forget one key, or a table of them."""

        def change() -> None:
            below = ("memcg.cgroup[",) if key in {"memcg", "memcg.cgroup"} else ()
            prefixes = (f"{key}.", *below)
            gone = [each for each in self.pushed if each == key or each.startswith(prefixes)]
            for each in gone:
                del self.pushed[each]
            self.hidden = {place for place in self.hidden if not below and entry_key(place) != key}
            entry = key.removesuffix("].swap") + "]"
            if key in gone and not any(each.startswith(f"{entry}.") for each in self.pushed):
                self.pushed.pop(entry, None)  # it said nothing else

        self.call(
            lambda _: self.store.drop([key], by="host"), refused=key == "nonsense", change=change
        )

    @rule()
    def drop_all(self) -> None:
        """Forget all that was pushed."""

        def change() -> None:
            self.pushed.clear()
            self.hidden.clear()

        self.call(lambda _: self.store.drop(by="host"), refused=False, change=change)

    @rule(layer=patches)
    def edit_file(self, layer: Config) -> None:
        """Write the file anew and have it read."""
        with open(self.root + FILES[1], "w", encoding="utf-8") as file:
            file.write(toml_of(layer))
        self.bad_file = not is_right(layer)

        def change() -> None:
            self.file = dict(said(layer))

        self.call(lambda _: self.store.reload(), refused=self.bad_file, change=change)
        assert (self.store.problem is not None) == self.bad_file

    @rule(patch=patches)
    def ask_only(self, patch: Config) -> None:
        """A dry run and a stale revision change nothing."""
        before = (self.store.settings, len(self.applied))
        try:
            self.store.patch(patch, by="host", dry_run=True)
        except SettingsError:
            assert not is_right(patch)
        try:
            stale = self.store.settings.revision - 1
            self.store.patch(patch, by="host", expected_revision=stale)
        except RevisionConflict as conflict:
            assert conflict.actual == stale + 1  # noqa: PT017  # it must be raised: see the else
        else:
            raise AssertionError("a stale revision was taken")
        assert (self.store.settings, len(self.applied)) == before

    @rule()
    def restart(self) -> None:
        """Start anew, unless the file is wrong: then no daemon starts."""
        if not self.bad_file:
            self.start()

    @invariant()
    def what_is_in_force_is_the_merge_of_the_layers(self) -> None:
        """In the store, and in what it told to apply; revisions never fall."""
        if not hasattr(self, "store"):
            return
        settings = self.store.settings
        assert dict(said(settings.config)) == self.merged()
        assert settings.rules == rules_of(settings.config, settings.revision)
        assert settings.origins.keys() == self.merged().keys()
        by = {"pushed by host", "pushed by root"}
        pushed = {key for key, origin in settings.origins.items() if origin in by}
        assert pushed == self.pushed.keys()
        assert self.applied[-1].config == settings.config
        assert settings.revision == settings.rules.revision >= self.revision
        self.revision = settings.revision


TestStore = StoreMachine.TestCase
TestStore.settings = hypothesis_settings(
    max_examples=examples(100), stateful_step_count=30, deadline=None
)
