"""The daemon as a process: from its start to its exit status."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from kernelio import cgroup
from kernelio.errors import KernelioError
from kernelio.inotify import Inotify
from kernelio.interruptible import install_kick_handler
from kernelio.layout import Layout
from kernelio.percpu_lists import limit_path
from kernelio.process import give_back_freed_memory, lock_memory_on_fault
from memreact.control.store import SettingsStore
from memreact.daemon import Daemon
from memreact.garbage import keep_passes_short
from memreact.put_back import put_back
from memreact.run_dir import RUN_DIR, RunDir
from memreact.settings.files import files_watched, read_layers
from memreact.sources.config_files import ConfigFiles
from memreact.systemd import Notifier, is_journal, opened_for_us, puts_back_for_us
from memreact.telemetry.journal import Journal
from memreact.telemetry.trace import Trace

__all__ = ["SWITCH_INTERVAL_S", "run"]

# The waiting thread needs the interpreter's lock: with Python's 5 ms it would wait that long.
SWITCH_INTERVAL_S = 0.0001
_STDERR = 2


def run(
    explicit: str | None, *, loop: str = "uvloop", trace: str | None = None, root: str = ""
) -> int:
    """Run the daemon until SIGTERM; returns the exit status, 1 after a bug.

    Args:
        explicit: A settings file that must exist; None for those of the machine.
        loop: "uvloop", or "asyncio" for Python's own.
        trace: A file for every event, action and decision.
        root: Prefix of every kernel file and of /run: empty outside of tests.

    Raises:
        SettingsError: The settings are refused; nothing was started.
        KernelioError: Something without which nothing runs is not to be had, such as inotify.
        OSError: The trace cannot be opened.
    """
    run_dir = RunDir(root + RUN_DIR)
    run_dir.take_lock()  # before the pushed settings are touched: they may be another one's
    served: list[Daemon] = []
    store = SettingsStore(
        lambda: read_layers(explicit, root=root),
        lambda fresh: served[0].settle(fresh),  # noqa: PLW0108  # there is none yet
        run_dir.pushed,
    )
    level = store.settings.rules.log_level
    journal = Journal(level, under_systemd=is_journal(os.environ, _STDERR))
    _prepare_process()
    layout = Layout(root, _cgroup_mount(root), _devices())
    if run_dir.locked:
        run_dir.put_back_one(limit_path(layout))  # lowered for a moment, in which one was killed

    async def main() -> bool:
        daemon = Daemon(
            store,
            files=ConfigFiles(*files_watched(explicit, root=root), Inotify()),
            layout=layout,
            run_dir=run_dir,
            journal=journal,
            notifier=Notifier(os.environ),
            trace=None if trace is None else Trace(trace),
        )
        served.append(daemon)
        return await _failed_at_the_end(daemon, journal)

    try:
        with asyncio.Runner(loop_factory=_loop_factory(loop)) as runner:
            failed = runner.run(main())
    finally:
        if run_dir.locked and not puts_back_for_us(os.environ):
            _put_back(run_dir, layout, journal)
    return _ended(journal, code=1 if failed else 0, stuck=served[0].stuck)


async def _failed_at_the_end(daemon: Daemon, journal: Journal) -> bool:
    """Have the daemon run until it is told to stop; whether there was a bug."""
    _heed_signals(daemon)
    _end_at_bugs(asyncio.get_running_loop(), daemon)
    keep_passes_short()
    _lock_memory(journal)
    try:
        await daemon.until_stopped()
    except Exception as error:
        daemon.fail(error)
        raise
    return daemon.failed


def _ended(journal: Journal, *, code: int, stuck: bool) -> int:
    """Give the exit status; a worker that is stuck in the kernel is not waited for."""
    if stuck:
        journal.say("warning", "ends_in_mid_work")  # what is left dies with the process
        os._exit(code)
    return code


def _prepare_process() -> None:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    install_kick_handler()
    # Whoever started us may ignore the ends of children, and then none could be waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _heed_signals(daemon: Daemon) -> None:
    running = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, daemon.stop)
    running.add_signal_handler(signal.SIGHUP, daemon.reload)
    # A worker that no kick ends is kicked each millisecond, and each kick wakes the loop as well.
    # A busy one has enough to wake up for: that is no error, and stderr may be read by nobody.
    signal.set_wakeup_fd(signal.set_wakeup_fd(-1), warn_on_full_buffer=False)


def _put_back(run_dir: RunDir, layout: Layout, journal: Journal) -> None:
    for error in put_back(run_dir, layout).failed:
        journal.say("warning", "not_put_back", error=error)


def _end_at_bugs(loop: asyncio.AbstractEventLoop, daemon: Daemon) -> None:
    """What nobody caught, on the loop or on a thread, is told with its trace and ends all."""

    def on_loop(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        loop.default_exception_handler(context)
        error = context.get("exception")
        daemon.fail(error if isinstance(error, BaseException) else None)

    def on_thread(args: threading.ExceptHookArgs) -> None:
        threading.__excepthook__(args)
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(daemon.fail, args.exc_value)

    loop.set_exception_handler(on_loop)
    threading.excepthook = on_thread


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    # libuv before 1.49 polls its io_uring with a kernel thread; we have no files for it to read.
    os.environ["UV_USE_IO_URING"] = "0"
    import uvloop  # noqa: PLC0415  # asked for by a switch

    return uvloop.new_event_loop


def _cgroup_mount(root: str) -> str:
    with suppress(KernelioError):
        mount = cgroup.find_cgroup2(root)
        if mount is not None:
            return mount.path
    return "/sys/fs/cgroup"


def _lock_memory(journal: Journal) -> None:
    """After all imports: what is touched stays, so that our own eviction never waits for disk."""
    give_back_freed_memory()
    try:
        lock_memory_on_fault()
    except KernelioError as error:
        journal.say("warning", "memory_not_locked", error=error)


def _devices() -> str:
    """Where nodes of devices are, as the guest has them mounted.

    The kernel names a swap area by the mount by which it was opened. Ours are gone with us, and
    then it would call it /vdb, and no swapoff would find it.
    """
    fd = opened_for_us(os.environ, os.getpid(), "dev")
    if fd is None:
        return "/dev"
    os.set_inheritable(fd, False)  # noqa: FBT003  # it takes no names
    return f"/proc/self/fd/{fd}"
