"""Settings as operators write them: one struct for each TOML table.

Every key may be left out. `None` means "this layer does not say it", so that layers can be laid
over one another; `DEFAULTS` says everything. Values are checked as they are decoded, whether they
come from a file or off a socket. Past `memreact.rules.rules_from` nobody checks again.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from msgspec import Meta, Struct
from msgspec.structs import asdict, force_setattr, replace

__all__ = [
    "DEFAULTS",
    "ENTRIES_MAX",
    "LEFT_ALONE",
    "NEVER",
    "SECS_MAX",
    "U64_MAX",
    "CgroupEntry",
    "Compact",
    "CompactPolicy",
    "Config",
    "Control",
    "Log",
    "Memcg",
    "MemcgKeys",
    "Pressure",
    "Reclaim",
    "Swap",
    "TableName",
    "is_never",
    "is_silent",
    "normal_path",
    "overlay",
    "overlay_cgroups",
    "overlay_table",
]

U64_MAX = 2**64 - 1
SECS_MAX = 10 * 365 * 86_400  # ten years: far from where microseconds leave 64 bits
NEVER = 2**63 - 1  # of compact_force_times, and every larger one: TOML written elsewhere ends here
ENTRIES_MAX = 10_000
_PATH_BYTES_MAX = 4095  # PATH_MAX without its NUL
_ONE_ENTRY = "Expected one entry for each path and numa: an earlier one has the same"
_NODE_MAX = 1023  # MAX_NUMNODES of the largest kernels
_PORT_MAX = 2**32 - 2  # above it stands VMADDR_PORT_ANY
_TCP_PORT_MAX = 2**16 - 1
_METRICS_CGROUPS_MAX = 1000  # each has a dozen lines
_GROUP_NAME_MAX = 32  # LOGIN_NAME_MAX of useradd and groupadd
_ZRAM_PERCENT_MAX = 200
_ALGORITHM = re.compile(r"[a-z0-9-]{0,31}", re.ASCII)

Percent: TypeAlias = Annotated[float, Meta(ge=0, le=100)]
Seconds: TypeAlias = Annotated[int, Meta(ge=1, le=SECS_MAX)]
# msgspec's bounds end at int64: _refuse_over_u64 looks at the upper end of these.
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Node: TypeAlias = Annotated[int, Meta(ge=0, le=_NODE_MAX)]
Port: TypeAlias = Annotated[int, Meta(ge=1, le=_PORT_MAX)]
LogLevel: TypeAlias = Literal["error", "warning", "notice", "info", "debug"]
TableName: TypeAlias = Literal[
    "memcg", "compact", "compact_policy", "pressure", "reclaim", "swap", "control", "log"
]

_Said = TypeVar("_Said", bound=Struct)


def _refuse_over_u64(table: Struct, *keys: str) -> None:
    for key in keys:
        value = getattr(table, key)
        if value is not None and value > U64_MAX:
            raise ValueError(f"Expected `int` <= {U64_MAX} for `{key}`")


def _in_a_group_name(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character in "_.-")


def is_never(compact_force_times: int) -> bool:
    """Whether this count of skipped checks forces no compaction at all."""
    return compact_force_times >= NEVER


def normal_path(path: str) -> str:
    """Write a cgroup's path as the kernel does: one leading "/", no trailing one, "/" for the root.

    Raises:
        ValueError: It could leave the cgroup tree, or no cgroup can have this name.
    """
    if "\0" in path or "\n" in path:
        raise ValueError("Expected a name without NUL or newline for `path`")
    if not {".", ".."}.isdisjoint(path.split("/")):
        raise ValueError("Expected a path without `.` or `..` for `path`")
    normal = "/" + path.strip("/")
    if len(normal.encode()) > _PATH_BYTES_MAX:
        raise ValueError(f"Expected at most {_PATH_BYTES_MAX} bytes for `path`")
    return normal


class MemcgKeys(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How memory of a memcg is aged and evicted.

    Args:
        disabled: Neither age nor evict.
        swap: Anonymous memory may go too.
        swappiness_max: Upper bound of the swappiness that we compute, of 200.
        period_secs: Seconds between turns.
        period_psi_percent_limit: Skip a turn when more of the period than this was stalled.
        eviction_psi_percent_limit: Stop an eviction when more of a window than this is stalled.
        eviction_run_aging_count_min: Periods that memory is untouched before it is cold.
    """

    disabled: bool | None = None
    swap: bool | None = None
    swappiness_max: Annotated[int, Meta(ge=0, le=200)] | None = None
    period_secs: Seconds | None = None
    period_psi_percent_limit: Percent | None = None
    eviction_psi_percent_limit: Percent | None = None
    eviction_run_aging_count_min: Count | None = None

    def __post_init__(self) -> None:
        """Check what msgspec cannot."""
        _refuse_over_u64(self, "eviction_run_aging_count_min")


class CgroupEntry(MemcgKeys, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[memcg.cgroup]]`: what differs for a cgroup, and what is below it, on some nodes.

    Args:
        path: Of the cgroup, from the mount point of the tree.
        numa: Nodes that it speaks of, sorted; none named means all.
        no_subdir: Speak of this cgroup alone, not of those below.
        floor_bytes: Never take the cgroup below this.
        floor_percent: Nor below this share of its memory.max.
    """

    path: str
    numa: Annotated[tuple[Node, ...], Meta(max_length=_NODE_MAX + 1)] = ()
    no_subdir: bool | None = None
    floor_bytes: Count | None = None
    floor_percent: Percent | None = None

    def __post_init__(self) -> None:
        """Bring path and nodes into the one form that is compared, and check the counts."""
        _refuse_over_u64(self, "eviction_run_aging_count_min", "floor_bytes")
        force_setattr(self, "path", normal_path(self.path))
        force_setattr(self, "numa", tuple(sorted(set(self.numa))))

    @property
    def place(self) -> tuple[str, tuple[int, ...]]:
        """What it is the entry of; layers are merged by it."""
        return self.path, self.numa


class Memcg(MemcgKeys, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[memcg]`: the base that holds wherever no `[[memcg.cgroup]]` says otherwise."""

    cgroup: Annotated[tuple[CgroupEntry, ...], Meta(max_length=ENTRIES_MAX)] = ()

    def __post_init__(self) -> None:
        """Check the counts, and that no two entries speak of the same place."""
        _refuse_over_u64(self, "eviction_run_aging_count_min")
        seen = set()
        for index, entry in enumerate(self.cgroup):
            if entry.place in seen:
                raise ValueError(f"{_ONE_ENTRY} for `cgroup[{index}]`")
            seen.add(entry.place)


class Compact(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[compact]`: when free memory is gathered into blocks that reporting hands to the host.

    Args:
        disabled: Never compact.
        period_secs: Seconds between checks.
        period_psi_percent_limit: Skip a check when more of the period than this was stalled.
        compact_psi_percent_limit: Stop a compaction when more of a window than this is stalled.
        compact_sec_max: Seconds that one compaction may take; where it is 0 or less none begins.
        compact_order: Blocks below this order count as fragments; "auto" asks the kernel.
        compact_threshold: Pages by which free memory must have changed.
        compact_force_times: Compact after so many skipped checks; 2^63-1 and more mean never.
    """

    disabled: bool | None = None
    period_secs: Seconds | None = None
    period_psi_percent_limit: Percent | None = None
    compact_psi_percent_limit: Percent | None = None
    compact_sec_max: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    compact_order: Annotated[int, Meta(ge=0, le=255)] | Literal["auto"] | None = None
    compact_threshold: Count | None = None
    compact_force_times: Count | None = None

    def __post_init__(self) -> None:
        """Check what msgspec cannot."""
        _refuse_over_u64(self, "compact_threshold", "compact_force_times")


class CompactPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[compact_policy]`: what decides whether a compaction is worth it.

    Args:
        rule: "gain" compacts when more becomes reportable than it costs; "threshold" is Kata's.
    """

    rule: Literal["gain", "threshold"] | None = None


class Pressure(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[pressure]`: stall elsewhere in the guest, and when a pause ends.

    Args:
        system_psi_percent_limit: Stop when more of a window is stalled in the whole guest.
        window_ms: Length of the sliding window that limits are compared over.
        resume: A cgroup's own stall pauses it until its next "period", or until it is "quiet".
    """

    system_psi_percent_limit: Percent | None = None
    window_ms: Annotated[int, Meta(ge=500, le=10_000)] | None = None
    resume: Literal["period", "quiet"] | None = None


class Reclaim(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[reclaim]`: what to do where the multi-gen LRU is missing, or somebody else reclaims.

    Args:
        without_mglru: "memory.reclaim" takes a small share a period, blindly; "off" nothing.
        percent_per_period: That share, of memory.current.
        beside_others: Work although DAMON or another agent reclaims in this guest.
    """

    without_mglru: Literal["off", "memory.reclaim"] | None = None
    percent_per_period: Annotated[float, Meta(gt=0, le=20)] | None = None
    beside_others: bool | None = None


class Swap(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[swap]`: disks that are taken into use as swap, and what goes there.

    Args:
        device_wait_secs: How long a disk is waited for that is to become swap; 0 not at all.
        max_promotion_percent_per_min: Swap out no more of a cgroup while more than this share of
            what it touches comes back from swap each minute; 0 is no limit.
        zram_percent: Swap to zram first, which holds so much of the guest's memory before it is
            compressed; 0 is none.
        zram_algorithm: By which zram compresses, such as zstd; empty is the kernel's own choice.
    """

    device_wait_secs: Annotated[int, Meta(ge=0, le=60)] | None = None
    max_promotion_percent_per_min: Percent | None = None
    zram_percent: Annotated[int, Meta(ge=0, le=_ZRAM_PERCENT_MAX)] | None = None
    zram_algorithm: str | None = None

    def __post_init__(self) -> None:
        """Check the name: it is written to a file of the kernel's."""
        if not _ALGORITHM.fullmatch(self.zram_algorithm or ""):
            raise ValueError("Expected the name of an algorithm for `zram_algorithm`")


class Control(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[control]`: where calls are taken, and from whom.

    Args:
        vsock: Listen on AF_VSOCK, where the host calls.
        varlink_port: Port there of the Varlink service.
        ttrpc_port: Port there of Kata's calls; 1024 takes the place of kata-agent.
        metrics_port: Port there of the metrics.
        allow_guest: Take calls of the guest's own processes there too, by loop-back.
        group: Its members may read over the unix sockets; empty means root alone.
        metrics_tcp_port: Port of 127.0.0.1 where any process of this guest may read the metrics
            too; 0 for none.
        metrics_cgroups: Cgroups that the metrics name; the rest is summed up as one.
    """

    vsock: bool | None = None
    varlink_port: Port | None = None
    ttrpc_port: Port | None = None
    metrics_port: Port | None = None
    allow_guest: bool | None = None
    group: str | None = None
    metrics_tcp_port: Annotated[int, Meta(ge=0, le=_TCP_PORT_MAX)] | None = None
    metrics_cgroups: Annotated[int, Meta(ge=0, le=_METRICS_CGROUPS_MAX)] | None = None

    def __post_init__(self) -> None:
        """Check the name: it is looked up in the group database, and is nothing else."""
        group = self.group or ""
        if len(group) > _GROUP_NAME_MAX or not all(map(_in_a_group_name, group)):
            raise ValueError("Expected the name of a group for `group`")


class Log(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[log]`: what is written down.

    Args:
        level: The least important that reaches the journal.
        decisions: Decisions that are kept in memory, the oldest leaving first.
        flight_kib: KiB of memory that the flight recorder may take; 0 records nothing.
        flight_minutes: How far back it reaches at the most.
        flight_files: Files that it leaves in /run/memreact, of bugs and of breached limits each.
    """

    level: LogLevel | None = None
    decisions: Annotated[int, Meta(ge=16, le=1_000_000)] | None = None
    flight_kib: Annotated[int, Meta(ge=0, le=65_536)] | None = None
    flight_minutes: Annotated[int, Meta(ge=1, le=1440)] | None = None
    flight_files: Annotated[int, Meta(ge=0, le=16)] | None = None


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One layer of settings, or all of them merged."""

    memcg: Memcg = Memcg()
    compact: Compact = Compact()
    compact_policy: CompactPolicy = CompactPolicy()
    pressure: Pressure = Pressure()
    reclaim: Reclaim = Reclaim()
    swap: Swap = Swap()
    control: Control = Control()
    log: Log = Log()


_SILENT = {
    type(table): table for table in (getattr(Config(), name) for name in Config.__struct_fields__)
}


def is_silent(table: Struct) -> bool:
    """Whether a table of a layer says none of its keys, as most do."""
    return table == _SILENT.get(type(table))


def overlay_table(lower: _Said, upper: _Said) -> _Said:
    """Lay one table over the same of a weaker layer: each key is taken from where it is said."""
    if is_silent(upper):
        return lower
    return replace(lower, **_said_in(upper))


def _said_in(table: Struct) -> dict[str, Any]:
    return {key: value for key, value in asdict(table).items() if value is not None}


def overlay_cgroups(
    lower: tuple[CgroupEntry, ...], upper: tuple[CgroupEntry, ...]
) -> tuple[CgroupEntry, ...]:
    """Lay entries over entries: those of the same path and nodes key by key, others are added."""
    merged = {entry.place: entry for entry in lower}
    for entry in upper:
        below = merged.get(entry.place)
        merged[entry.place] = entry if below is None else overlay_table(below, entry)
    return tuple(merged.values())


def _overlay_memcg(lower: Memcg, upper: Memcg) -> Memcg:
    if is_silent(upper):
        return lower
    # Entries are compared and checked with each Memcg that is made: there may be thousands.
    said = _said_in(upper)
    del said["cgroup"]
    if upper.cgroup:
        said["cgroup"] = overlay_cgroups(lower.cgroup, upper.cgroup)
    return replace(lower, **said)


def overlay(lower: Config, upper: Config) -> Config:
    """Lay one layer over a weaker one, key by key."""
    return Config(
        memcg=_overlay_memcg(lower.memcg, upper.memcg),
        compact=overlay_table(lower.compact, upper.compact),
        compact_policy=overlay_table(lower.compact_policy, upper.compact_policy),
        pressure=overlay_table(lower.pressure, upper.pressure),
        reclaim=overlay_table(lower.reclaim, upper.reclaim),
        swap=overlay_table(lower.swap, upper.swap),
        control=overlay_table(lower.control, upper.control),
        log=overlay_table(lower.log, upper.log),
    )


# What controls the guest is left alone: it is small, and it is missed at the worst moment. An entry
# of one's own with the same path says otherwise, key by key (disabled = false).
LEFT_ALONE = (
    "/init.scope",
    *(
        f"/system.slice/{name}.service"
        for name in (
            "systemd-journald",
            "systemd-udevd",
            "dbus",
            "ssh",
            "sshd",
            "qemu-guest-agent",
            "containerd",
            "docker",
            "crio",
            "kubelet",
            "kata-agent",
        )
    ),
)

DEFAULTS = Config(
    memcg=Memcg(
        disabled=False,
        swap=False,
        swappiness_max=50,
        period_secs=600,
        period_psi_percent_limit=1.0,
        eviction_psi_percent_limit=1.0,
        eviction_run_aging_count_min=3,
        cgroup=tuple(CgroupEntry(path=path, disabled=True) for path in LEFT_ALONE),
    ),
    compact=Compact(
        disabled=False,
        period_secs=600,
        period_psi_percent_limit=1.0,
        compact_psi_percent_limit=5.0,
        compact_sec_max=180,
        compact_order="auto",
        compact_threshold=1024,
        compact_force_times=U64_MAX,
    ),
    compact_policy=CompactPolicy(rule="gain"),
    pressure=Pressure(system_psi_percent_limit=10.0, window_ms=1000, resume="period"),
    reclaim=Reclaim(without_mglru="off", percent_per_period=2.0, beside_others=False),
    swap=Swap(
        device_wait_secs=3,
        max_promotion_percent_per_min=0.2,
        zram_percent=0,
        zram_algorithm="",
    ),
    control=Control(
        vsock=True,
        varlink_port=1050,
        ttrpc_port=1051,
        metrics_port=1052,
        allow_guest=False,
        group="memreact",
        metrics_tcp_port=0,
        metrics_cgroups=100,
    ),
    log=Log(level="info", decisions=4096, flight_kib=512, flight_minutes=60, flight_files=2),
)
