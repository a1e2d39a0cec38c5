"""`ovl-linkd-runc`: what it does when it is called as an OCI runtime.

    ovl-linkd-runc [--ovl-linkd-runtime PROGRAM] [OPTION ...] COMMAND ...

On `create` and `run` the overlay mounts of the bundle that are too long are shortened; then, and
for anything else at once, this process becomes the real runtime, with all arguments.
"""

import errno
import os
import signal
import stat
import sys

from ovl_linkd.errors import UserError
from ovl_linkd.oci_runtime import arguments
from ovl_linkd.oci_runtime.arguments import BUNDLE, CONFIG, RUNTIME, Call

VARIABLE = "OVL_LINKD_RUNTIME"
_DEFAULTS = ("runc", "crun")  # Debian's Podman brings the second alone
_IN_BUNDLE = "config.json"
_NO_FILES = ("journald:", "syslog:")  # what else than files --log may name (crun(1))
_MOST = 16 << 20  # bytes of a config.json that are read (formats.spelling.MOST_JSON)
_REFUSED = 1  # as runc ends where it refuses
# As a shell has it.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def main(words: list[str] | None = None) -> int:
    """Become the runtime; the exit code where that can't be."""
    call = arguments.read(sys.argv[1:] if words is None else words)
    runtime = call.value(RUNTIME) or os.environ.get(VARIABLE) or _installed()
    call = call.without(RUNTIME)
    given = list(call.words)
    if call.name in ("create", "run"):
        try:
            given = _shortened(call, runtime)
        except (UserError, OSError) as error:
            _complain(call, error)
            return _REFUSED
    return _become(runtime, given)


def script() -> None:
    """What the installed command calls."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)


def _installed() -> str:
    """The first of the runtimes that we know which is on the PATH; the first of all if none is."""
    return next(filter(_found, _DEFAULTS), _DEFAULTS[0])


def _found(runtime: str) -> str | None:
    """Where execvp(3) finds RUNTIME; None where it doesn't."""
    places = [os.path.join(each, runtime) for each in os.get_exec_path()]
    return next((each for each in places if os.access(each, os.X_OK)), None)


def _is_this(runtime: str) -> bool:
    """Whether RUNTIME is this very program, perhaps by another name."""
    path = runtime if "/" in runtime else _found(runtime)
    try:
        return path is not None and os.path.samefile(path, sys.argv[0])
    except OSError:
        return False


def _shortened(call: Call, runtime: str) -> list[str]:
    """Return the words of CALL, for a bundle that can be mounted. Raises UserError, OSError."""
    directory = call.value(BUNDLE) or "."
    config = call.value(CONFIG)
    if config == _IN_BUNDLE:
        config = None  # any other name counts from the working directory (crun's create.c)
    file = config or os.path.join(directory, _IN_BUNDLE)
    given = _with_overlays(file)
    if given is None:
        return list(call.words)
    from ovl_linkd.oci_runtime import bundle

    text = bundle.shortened(given)
    if text is None:
        return list(call.words)
    if config is not None or os.path.basename(runtime).startswith("crun"):
        made = bundle.beside(directory, text, file)
        return call.with_value(CONFIG, os.path.join(made, bundle.CONFIG))
    made = bundle.beside(directory, bundle.relocated(text, directory), file)
    return call.with_value(BUNDLE, made)


def _with_overlays(path: str) -> bytes | None:
    """Return what the file PATH says, if overlays may be in it: most bundles have none.

    None as well where it can't be read, the runtime has its own words for that; and where it can be
    read only once, as a pipe.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            text = file.read(_MOST + 1)
    except OSError:
        return None
    maybe = b"overlay" in text or b"\\u" in text or len(text) > _MOST
    return text if maybe else None


def _become(runtime: str, words: list[str]) -> int:
    # Python ignores these, and what it executes would go on doing so.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        if _is_this(runtime):
            raise OSError(errno.ELOOP, "it is ovl-linkd-runc itself")
        os.execvp(runtime, [runtime, *words])
    except FileNotFoundError:
        why, code = "is not installed", _NOT_FOUND
    except OSError as error:
        why, code = f"can't be executed: {error.strerror}", _NOT_EXECUTABLE
    _say(f"{runtime} {why}; --{RUNTIME} or {VARIABLE} names another runtime")
    return code


def _complain(call: Call, error: UserError | OSError) -> None:
    """Say ERROR where the caller looks for it: engines read the log that they have named."""
    said = str(error)
    if isinstance(error, UserError) and error.hint:
        said += f"; {error.hint}"
    _say(said)
    log = call.value("log")
    if not log or log.startswith(_NO_FILES):
        return
    import json
    import time

    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = json.dumps({"level": "error", "msg": f"ovl-linkd-runc: {said}", "time": at})
    if call.value("log-format") != "json":
        line = f"time={json.dumps(at)} level=error msg={json.dumps(f'ovl-linkd-runc: {said}')}"
    try:
        with open(log.removeprefix("file:"), "a", encoding="utf-8", errors="replace") as file:
            print(line, file=file)
    except OSError:
        pass  # it stands on standard error as well


def _say(text: str) -> None:
    from ovl_linkd.text import printable

    if sys.stderr is not None:
        print(f"ovl-linkd-runc: {printable(text)}", file=sys.stderr)
