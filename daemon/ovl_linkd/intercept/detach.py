"""How the supervisor comes to be: apart from the command that it serves, which execs in its place.

The command keeps the process that was started. The supervisor is a grandchild of it, in a session
and, with systemd, in a scope of its own: nothing that ends the command, its session or its service
ends what its containers still need, and no wait(2) of the command meets a child it didn't make.
"""

import ctypes
import os
import resource
import signal
import socket
import struct
from collections.abc import Callable

from ovl_linkd.errors import UserError
from ovl_linkd.intercept import manager, proc, seccomp

_PR_SET_NAME = 15
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37  # linux/prctl.h

# linux/capability.h
_CAPABILITY_VERSION = 0x20080522
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH, _CAP_SYS_PTRACE = 1 << 1, 1 << 2, 1 << 19

_libc = ctypes.CDLL(None, use_errno=True)

#: told the listener and what to call when it may begin, returns when nobody is under the filter
Supervise = Callable[[int, Callable[[], None]], None]


def put_under_filter(
    supervise: Supervise, stderr: int | None, no_new_privs: bool, unit: str | None
) -> None:
    """Put this process under the filter, with SUPERVISE at its other end in a process of its own.

    STDERR: a descriptor that this one keeps. UNIT: systemd's, that this process belongs to. Raises
    UserError.
    """
    seccomp.check_machine()
    proc.find()  # so that the error is said here
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            _fork_off(lambda: _be_supervisor(theirs, supervise, stderr, unit))
        _hear(ours)
        listener = seccomp.install(no_new_privs)
        socket.send_fds(ours, [b"listener"], [listener])
        os.close(listener)
        _hear(ours)


def _hear(supervisor: socket.socket) -> None:
    """Wait until the supervisor has done a step. Raises UserError if it could not."""
    said = supervisor.recv(4096)
    if said != b"done":
        why = said.decode(errors="replace") or "it died"
        raise UserError(f"no supervisor: {why}", "", seccomp.FAILED)


def _fork_off(become: Callable[[], None]) -> None:
    """Have a process that is no child of this one BECOME something; return in this one."""
    reaper = ctypes.c_int(0)
    _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(reaper), 0, 0, 0)
    if reaper.value:  # then the orphan would come back to us
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    child = os.fork()
    if child == 0:
        try:
            if os.fork() == 0:
                become()
        finally:
            os._exit(0)
    try:
        os.waitpid(child, 0)
    except ChildProcessError:
        pass  # SIGCHLD is ignored here: it was reaped by the kernel
    if reaper.value:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _be_supervisor(
    command: socket.socket, supervise: Supervise, stderr: int | None, unit: str | None
) -> None:
    """Leave everything that is the command's, take its listener, supervise."""
    try:
        kept = command.fileno()
        os.setsid()
        os.chdir("/")
        os.umask(0o022)
        _keep_only({kept} | ({stderr} if stderr is not None else set()))
        proc.find()
        for number in (
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGHUP,
            signal.SIGQUIT,
            signal.SIGPIPE,
        ):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would leave nobody to wait for
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _libc.prctl(_PR_SET_NAME, b"ovl-linkd-exec", 0, 0, 0)
        _be_spared()
        manager.enter_scope(unit)
        _lift_limits()
        _give_up_power()
        command.send(b"done")
        _, listeners, _, _ = socket.recv_fds(command, 64, 1)
    except Exception as error:
        command.send(f"{type(error).__name__}: {error}".encode())
        return
    if not listeners:
        return  # the command could not be put under the filter, and has said so
    # It waits at the other end: that we are dead must not be hidden by those whom we have forked.
    os.register_at_fork(after_in_child=command.close)
    supervise(listeners[0], lambda: _begin(command))


def _begin(command: socket.socket) -> None:
    command.send(b"done")
    command.close()


def _keep_only(kept: set[int]) -> None:
    """Close all descriptors but KEPT, with /dev/null in place of the standard ones."""
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        if number not in kept:
            os.dup2(null, number)
    start = 3
    for number in [*sorted(each for each in kept if each > 2), os.sysconf("SC_OPEN_MAX")]:
        os.closerange(start, number)
        start = number + 1


def _lift_limits() -> None:
    """Of what the command may use up; where they can't be lifted they stay."""
    for limit in (resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
        most = resource.getrlimit(limit)[1]
        for value in (resource.RLIM_INFINITY, most):
            try:
                resource.setrlimit(limit, (value, value))
                break
            except (OSError, ValueError):
                continue


def _give_up_power() -> None:
    """Keep the capabilities to look at any process and its files, and to write to its memory.

    CAP_SYS_ADMIN goes among the rest: the kernel sees to it that the supervisor never mounts.
    """
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    held = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; twice 32 of each
    _libc.capget(header, held)
    permitted = struct.unpack("=6I", held.raw)[1]
    kept = permitted & (_CAP_DAC_OVERRIDE | _CAP_DAC_READ_SEARCH | _CAP_SYS_PTRACE)
    _libc.capset(header, struct.pack("=6I", kept, kept, 0, 0, 0, 0))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _be_spared() -> None:
    """Be the last that dies for want of memory: as much as this user may ask for."""
    try:
        with open("/proc/self/oom_score_adj") as file:
            now = int(file.read())
    except (OSError, ValueError):
        return
    for score in (-1000, 0):
        try:
            if score < now:
                with open("/proc/self/oom_score_adj", "w") as file:
                    file.write(str(score))
            return
        except OSError:
            continue
