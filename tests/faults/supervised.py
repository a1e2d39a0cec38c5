"""A program whose every system call asks first: it goes on, fails as the test likes, or dies there.

Seccomp user notification (seccomp_unotify(2)) by way of libseccomp, which every Debian has: the
same on each architecture, and a tenth of what a stop by ptrace(2) costs. The program is forked from
the test process, not started anew: its imports are done, so that a hundred deaths take seconds.
"""

import contextlib
import ctypes
import fcntl
import gc
import os
import select
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection
from typing import NamedTuple

_NOTIFY, _ALLOW = 0x7FC00000, 0x7FFF0000  # linux/seccomp.h SECCOMP_RET_*
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_PIDFD_GETFD = 438  # asm-generic/unistd.h, the same number everywhere
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_NATIVE = 0  # seccomp.h SCMP_ARCH_NATIVE

# What changes nothing that outlives the process and can't fail in a way that a program could
# notice. The rest of these is called so often that nothing else would be seen.
_UNASKED = (
    "brk", "mmap", "munmap", "mprotect", "madvise", "mremap",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
    "clock_gettime", "gettimeofday", "getpid", "gettid", "getuid", "geteuid", "getgid", "getegid",
    "futex", "sched_yield", "set_robust_list", "rseq", "exit", "exit_group",
)  # fmt: skip

# system call -> which of its arguments is a path, for people to read
_PATHS = {
    **dict.fromkeys(("open", "stat", "lstat", "readlink", "unlink", "mkdir", "rmdir"), 0),
    **dict.fromkeys(("access", "chmod", "chdir", "rename", "execve"), 0),
    **dict.fromkeys(("openat", "newfstatat", "readlinkat", "unlinkat", "mkdirat", "statx"), 1),
    **dict.fromkeys(("fchmodat", "faccessat", "inotify_add_watch", "renameat", "renameat2"), 1),
    "symlink": 1,
    "symlinkat": 2,
}

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_OPENING = ("open", "openat")
_CHANGING = frozenset((
    "symlink", "symlinkat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "mkdir",
    "mkdirat", "rmdir", "chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "truncate",
    "ftruncate", "write", "fsync", "bind", "listen", "flock", "sendto", "sendmsg", "mount",
    "fsopen", "fsmount", "move_mount", "umount2",
))  # fmt: skip

#: The names of all calls that may be one that `Call.changes`.
MAY_CHANGE = _CHANGING | {*_OPENING}


# linux/seccomp.h struct seccomp_notif: id, pid, flags; nr, arch, instruction pointer, arguments
_ASKED = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")  # struct seccomp_notif_resp: id, value, error, flags
_RECEIVE = 0xC0000000 | _ASKED.size << 16 | ord("!") << 8  # SECCOMP_IOCTL_NOTIF_RECV
_SEND = 0xC0000000 | _ANSWER.size << 16 | ord("!") << 8 | 1


class Call(NamedTuple):
    """A system call that is about to be made: ``path`` if it names one.

    ``forked`` where not the program itself makes it but a process that it forked.
    """

    name: str
    path: str
    arguments: tuple[int, ...]
    forked: bool

    def __str__(self) -> str:
        return f"{self.name}({self.path})"

    @property
    def changes(self) -> bool:
        """Whether the program may leave something behind by it: on disk, or with others."""
        if self.forked:
            return False  # what it forks only reads
        if self.name in _OPENING:
            return bool(self.arguments[1 if self.name == "open" else 2] & _WRITING)
        return self.name in _CHANGING


#: What is to become of a call: None goes on, a number of errno.h fails it, KILL kills the program,
#: KILL_CALLER just the process that calls, which may be one that the program forked.
Policy = Callable[[Call], int | None]
KILL, KILL_CALLER = -1, -2


def go_on(_: Call) -> None:
    """The policy that changes nothing."""


def _libseccomp() -> ctypes.CDLL:
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p,
    ]  # fmt: skip
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p  # a string to free()
    return library


class Supervised:
    """MAIN in a child process of its own; POLICY is asked before each of its system calls.

    MAIN's result is the exit code. Standard output and error go to the file LOG. Every process
    that it forks is asked about, too. Without a POLICY nobody is asked; where ASKED names calls,
    about these alone, which is quicker: each question is two turns at a processor.
    """

    def __init__(
        self,
        main: Callable[[], int],
        log: str,
        policy: Policy | None,
        asked: Collection[str] | None = None,
    ) -> None:
        self.policy = policy
        self._asked = asked
        self.code: int | None = None
        self.trouble: list[BaseException] = []  # of POLICY
        self._library = _libseccomp()
        self._names: dict[int, str] = {}
        self.pid = os.fork()
        if self.pid == 0:
            self._become(main, log)
        self._thread: threading.Thread | None = None
        if policy:
            self._listener = self._fetch_listener()
            self._thread = threading.Thread(target=self._serve)
            self._thread.start()

    # -- the child ----------------------------------------------------------------------------

    def _become(self, main: Callable[[], int], log: str) -> None:
        code = 99
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.dup2(output, 1)
            os.dup2(output, 2)
            for number in map(int, os.listdir("/proc/self/fd")):
                if number > 2:
                    with contextlib.suppress(OSError):
                        os.close(number)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - pytest's own led elsewhere
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            gc.freeze()  # or its collections would walk through all that pytest holds
            if self.policy:
                self._install()
            code = main()
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _install(self) -> None:
        library = self._library
        if self._asked is None:
            others, action, names = _NOTIFY, _ALLOW, set(_UNASKED)
        else:
            # And about close(2), or the one below would be done before anybody has the listener.
            others, action, names = _ALLOW, _NOTIFY, {*self._asked, "close"}
        context = library.seccomp_init(others)
        for name in names:
            number = library.seccomp_syscall_resolve_name(name.encode())
            library.seccomp_rule_add_array(context, action, number, 0, None)
        if result := library.seccomp_load(context):
            raise OSError(-result, os.strerror(-result))
        # From here on somebody else holds the listener: with our own copy we'd wait for ourselves.
        os.close(library.seccomp_notify_fd(context))

    # -- the supervisor -----------------------------------------------------------------------

    def _fetch_listener(self) -> int:
        """The child's listener, as a descriptor of ours."""
        directory = f"/proc/{self.pid}/fd"
        while True:
            for name in os.listdir(directory):
                with contextlib.suppress(FileNotFoundError):
                    if os.readlink(f"{directory}/{name}").endswith("seccomp notify"):
                        pidfd = os.pidfd_open(self.pid)
                        libc = ctypes.CDLL(None, use_errno=True)
                        fetched: int = libc.syscall(_PIDFD_GETFD, pidfd, int(name), 0)
                        os.close(pidfd)
                        if fetched >= 0:
                            return fetched
            time.sleep(0.0005)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        while True:
            (_, events), *_ = poll.poll()
            if not events & select.POLLIN:
                return  # nobody is left who could call
            asked = bytearray(_ASKED.size)
            try:
                fcntl.ioctl(self._listener, _RECEIVE, asked)
                self._answer(*_ASKED.unpack(asked))
            except FileNotFoundError:
                pass  # it was killed meanwhile

    def _answer(
        self, number: int, pid: int, _flags: int, call: int, _arch: int, _at: int, *arguments: int
    ) -> None:
        name = self._name(call)
        path = _path(pid, name, arguments)
        try:
            policy = self.policy or go_on
            verdict = policy(Call(name, path, arguments, pid != self.pid))
        except BaseException as error:
            self.trouble.append(error)
            verdict = KILL
        if verdict in (KILL, KILL_CALLER):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid if verdict == KILL else pid, signal.SIGKILL)
            verdict = None  # for who is left
        answer = (number, 0, 0, _CONTINUE) if verdict is None else (number, 0, -verdict, 0)
        fcntl.ioctl(self._listener, _SEND, _ANSWER.pack(*answer))  # ENOENT: it is dead

    def _name(self, number: int) -> str:
        if number not in self._names:
            found = self._library.seccomp_syscall_resolve_num_arch(_NATIVE, number)
            text = ctypes.cast(found, ctypes.c_char_p).value if found else None
            self._names[number] = text.decode() if text else str(number)
        return self._names[number]

    # -- its end ------------------------------------------------------------------------------

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Wait TIMEOUT seconds for its end; the exit code, negative for a signal.

        Raises TimeoutError, and what POLICY raised.
        """
        if self.code is None:
            self._await_end(timeout)
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            if self._thread:
                self._thread.join()
                os.close(self._listener)
        if self.trouble:
            raise self.trouble[0]
        return self.code

    def _await_end(self, timeout: float | None) -> None:
        end = os.pidfd_open(self.pid)
        try:
            if not select.select([end], [], [], timeout)[0]:
                raise TimeoutError
        finally:
            os.close(end)


def _path(pid: int, name: str, arguments: tuple[int, ...]) -> str:
    """What PID's call of NAME names, absolute also if it goes by the descriptor of a directory."""
    which = _PATHS.get(name)
    if which is None:
        return ""
    path = _text(pid, arguments[which])
    if path.startswith("/") or not name.endswith(("at", "at2")):
        return path
    with contextlib.suppress(OSError):  # AT_FDCWD, or none
        return f"{os.readlink(f'/proc/{pid}/fd/{arguments[which - 1]}')}/{path}"
    return path


def _text(pid: int, address: int) -> str:
    """The string at ADDRESS in the memory of PID, as far as it can be read."""
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return os.fsdecode(memory.read(256).split(b"\0")[0])
    except (OSError, OverflowError, ValueError):
        return "?"
