"""A daemon whose every system call can be made to fail, or to be its last one."""

import os
import signal
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import IO

from ovl_linkd import cli, client
from tests.daemon.world import Daemon, Process
from tests.faults.supervised import Policy, Supervised, go_on
from tests.waiting import PATIENCE, wait_until

# What the daemon, and the process that reads its configuration, import when they need it: here, so
# that the fork has it all.
for _name in (
    *("argparse", "difflib", "encodings.ascii", "encodings.utf_8_sig", "jsonschema", "yaml"),
    *(f"ovl_linkd.commands.{name}" for name in ("repair", "run", "tmpfiles")),
    *(f"ovl_linkd.config.{name}" for name in ("guards", "paths", "rules", "yaml_tree")),
    "ovl_linkd.service.loop",
):
    import_module(_name)


class Forked(Daemon):
    """A daemon of the standard configuration, forked from the test process.

    ``policy`` rules over its system calls, and may be changed while it runs; None, at the start,
    asks nobody, which is quicker. ``asked``: as of Supervised.
    """

    def __init__(
        self,
        directory: Path,
        policy: Policy | None = go_on,
        asked: Collection[str] | None = None,
    ) -> None:
        super().__init__(directory)
        self.socket = "/run/ovl-linkd/control.sock"
        self._policy = policy
        self._asked = asked

    def rule(self, policy: Policy | None) -> None:
        """Ask POLICY from now on."""
        self._policy = policy
        if isinstance(self._process, Supervised):
            self._process.policy = policy

    def begin(self) -> bool:
        """Start; whether it came as far as READY=1."""
        return self._launch(["run"])

    def start_by_default(self) -> None:
        """Start; return when it says READY=1."""
        self._start(["run"])

    @property
    def dead(self) -> bool:
        """Whether it has ended, though nobody may have asked why yet."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return self.running and os.waitid(os.P_PID, self.pid, options) is not None

    def settled(self) -> bool:
        """Whether it answers a call, after all that it had to do before; False if it died."""
        try:
            self.call("Status")
        except (client.NotRunning, client.NoAnswer):
            return False
        return True

    def reloaded(self, seconds: float = PATIENCE) -> bool:
        """Have the configuration read anew; whether it was taken, as far as a client waits."""
        try:
            client.call(self.socket, "Reload", timeout=seconds)
        except (client.NotRunning, client.NoAnswer, client.CallError):
            return False
        return True

    def reloaded_in_the_end(self) -> bool:
        """As reloaded(), or by the next attempt, made as soon as somebody listens."""
        if self.reloaded(client.TIMEOUT):  # nobody may have heard, and nobody answer
            return True
        # What failed may have been a look at the socket, which is made anew then.
        wait_until(lambda: client.listens(self.socket), "somebody listens")
        return self.reloaded()

    def terminate(self) -> None:
        """SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)

    def end(self) -> int:
        """Wait for its end; the exit code."""
        assert self._process
        code = self._process.wait(PATIENCE)
        self._process = None
        return code

    def _spawn(self, words: list[str], environment: dict[str, str], log: IO[bytes]) -> Process:
        def main() -> int:
            os.environ.clear()
            os.environ.update(environment)
            return cli.main(words)

        return Supervised(main, log.name, self._policy, self._asked)
