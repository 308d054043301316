"""Fork server, `python -m studio.fork_server MODULE...`: processes as forks of one, whose imports they share.

What a camera or the server imports takes seconds to load; here that is done once, with the modules that are named.
Each fork is a process of its own all the same: it has pipes and a log of its own, ends alone, and is started again
alone.

Standard input is a Unix socket, of which each message comes with three descriptors that become the standard
input, output and error of what is started:

    {"name": ..., "module": ..., "arguments": [...]}    runs `main` of the module, with these in `sys.argv`

Answered in JSON lines on standard output:

    {"event": "began", "pid": P}                  to each message
    {"event": "ended", "pid": P, "status": S}     once that one has; S as of `subprocess.Popen.returncode`

When the socket ends, as it does with whoever holds its other end, or on SIGTERM, it has what is left end, kills
what does not in time, and ends.

A fork has one thread: what another one held would stay held for ever. So nothing is done here that starts one: no
event loop, no channel, no inference; and linear algebra keeps to the thread that calls it.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

MOST_MESSAGE_BYTES = 1 << 16
DESCRIPTORS = 3
END_SECONDS = 5.0
"""Until what has not ended by itself is killed."""


@dataclass
class Forks:
    """Forks that run."""

    pids: set[int] = field(default_factory=set)
    _wakes: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)

    def serve(self) -> dict[str, Any] | None:
        """Forks as it is told; returns in each fork the message that it is of, and None at the end."""
        control, (woken, wake) = socket.socket(fileno=0), self._wakes
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)  # it wakes `select`
        while True:
            ready, _, _ = select.select([control, woken], [], [])
            if woken in ready:
                if signal.SIGTERM in woken.recv(MOST_MESSAGE_BYTES):
                    return None
                for pid, status in self._reap():
                    _answer(event="ended", pid=pid, status=status)
            if control in ready:
                message, descriptors, _, _ = socket.recv_fds(control, MOST_MESSAGE_BYTES, DESCRIPTORS)
                if not message:
                    return None
                if self._fork(descriptors):
                    control.detach()  # its descriptor is the fork's standard input by now
                    told: dict[str, Any] = json.loads(message)
                    return told

    def end(self) -> None:
        """Has those that are left end, and kills those that do not in time."""
        for pid in self.pids:
            os.kill(pid, signal.SIGTERM)
        woken, latest = self._wakes[0], time.monotonic() + END_SECONDS
        while self.pids and (left := latest - time.monotonic()) > 0:
            if not self._reap() and select.select([woken], [], [], left)[0]:
                woken.recv(MOST_MESSAGE_BYTES)
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        for pid in self.pids:
            os.waitpid(pid, 0)

    def _fork(self, descriptors: list[int]) -> bool:
        """Whether this is the fork."""
        # A SIGTERM that meets the fork before it has its own way with it would be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        if pid := os.fork():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            self.pids.add(pid)
            for descriptor in descriptors:
                os.close(descriptor)
            _answer(event="began", pid=pid)
            return False
        self.pids.clear()  # they are none of this one's
        signal.set_wakeup_fd(-1)
        for each in self._wakes:
            each.close()
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.setsid()
        for standard, descriptor in enumerate(descriptors):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        return True

    def _reap(self) -> list[tuple[int, int]]:
        """Process ids and exit statuses of those that have ended since."""
        ended = []
        for pid in list(self.pids):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self.pids.remove(pid)
                ended.append((pid, os.waitstatus_to_exitcode(status)))
        return ended


def load(modules: Iterable[str]) -> None:
    """Imports modules."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy, which is why nothing above imports it
    for module in modules:
        with contextlib.suppress(ImportError):  # who needs it explains it
            import_module(module)
    gc.collect()
    gc.freeze()  # a later collection writes to no object from before, whose memory forks share


def main() -> None:
    """Loads, forks, and is what it was told of in each fork."""
    load(sys.argv[1:])
    forks = Forks()
    try:
        told = forks.serve()
    finally:
        forks.end()
    if told is not None:
        with contextlib.suppress(OSError):
            # For ps and top: the command line stays this process's.
            Path("/proc/self/comm").write_text(told["name"])
        sys.argv = [told["module"], *told["arguments"]]
        import_module(told["module"]).main()


def _answer(**line: Any) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
