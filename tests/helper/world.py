"""A Debian with the helper in it, layers for it to mount, and a look at what is mounted."""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.kernel.world import all_of, look, make_layers, make_upper
from tests.userland import TOP, Userland
from tests.waiting import OF_A_PROGRAM

FRONT = TOP / "daemon/mount-helper/mount.overlay"

# How long a path of containerd's usually is: 85 bytes with a number of three digits.
USUAL = 85


class Machine:
    """A system with mount.overlay; its layers lie below ``place``, which we have as well."""

    def __init__(self, userland: Userland, place: Path, library: Path) -> None:
        """LIBRARY is from where we see the machine's /usr/lib/ovl-linkd."""
        self.userland = userland
        self.place = place
        self.library = library
        self.target = place / "m"
        self.target.mkdir(parents=True)

    def store(self, size: int = USUAL, name: str = "s") -> bytes:
        """A directory for layers whose paths ``STORE/NNN/fs`` have SIZE bytes; NAME begins it."""
        made = os.fsencode(self.place / name)
        room = size - len(made) - len("/NNN/fs")
        while room > 0:
            part = min(room - 1, 200)
            part -= part == room - 2  # what is left must be a name, not a lone slash
            made += b"/" + b"x" * part
            room -= part + 1
        os.makedirs(made, exist_ok=True)
        return made

    def layers(self, ids: Sequence[int], store: bytes | None = None) -> list[bytes]:
        """Make layers in STORE, the topmost first; their paths."""
        return make_layers(ids, store or self.store())

    def upper(self, store: bytes | None = None) -> bytes:
        """Make an upperdir and a workdir; the options that name them."""
        upper, work = make_upper(1000, store or self.store())
        return b"upperdir=%b,workdir=%b" % (escaped(upper, b"\\,"), escaped(work, b"\\,"))

    def run(
        self,
        *command: str | bytes | Path,
        cwd: str = "/",
        before: Callable[[], None] | None = None,
        outside: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run COMMAND inside, BEFORE in its process first; what it said and its exit code.

        OUTSIDE are the words of a command that starts it, and can't be run by chroot.
        """
        return subprocess.run(
            [*outside, "chroot", self.userland.root, "env", "-C", cwd, *command],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            errors="surrogateescape",
            stdin=subprocess.DEVNULL,
            timeout=OF_A_PROGRAM,
            preexec_fn=before,
            check=False,
        )

    def mount(
        self, options: bytes, *more: str, before: Callable[[], None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """``mount -t overlay -o OPTIONS overlay TARGET``, as a person would type it."""
        words: tuple[str | bytes, ...] = (*more, "-t", "overlay", "-o", options, "overlay")
        return self.run("mount", *words, self.target, before=before)

    def mounted(self, options: bytes, *more: str, before: Callable[[], None] | None = None) -> None:
        """The same, which must work and have nothing to say."""
        done = self.mount(options, *more, before=before)
        assert (done.returncode, done.stderr) == (0, "")

    def sees(self, ids: Sequence[int]) -> None:
        """Check that what is mounted are the layers IDS, in this order, and nothing else."""
        assert look(os.fsencode(self.userland.path(self.target))) == all_of(ids)

    def line(self) -> str:
        """The last line of mountinfo that is about the target; empty if it isn't mounted."""
        point = f" {self.userland.path(self.target)} "
        lines = Path("/proc/self/mountinfo").read_bytes().decode(errors="surrogateescape")
        return next((each for each in lines.splitlines()[::-1] if point in each), "")

    def umount(self) -> None:
        """Take it off again."""
        subprocess.run(["umount", self.userland.path(self.target)], check=True)


def escaped(path: bytes, special: bytes = b"\\:,") -> bytes:
    """PATH as an option spells it; SPECIAL is what a list of layers needs escaped."""
    return b"".join(b"\\%c" % byte if byte in special else b"%c" % byte for byte in path)


def lower(layers: Sequence[bytes], data: Sequence[bytes] = ()) -> bytes:
    """The option that names LAYERS, and DATA for those that only hold data."""
    return b"lowerdir=" + b"::".join([b":".join(map(escaped, layers)), *map(escaped, data)])


def refused(done: subprocess.CompletedProcess[str], code: int = 32) -> str:
    """What DONE, which ended with CODE, said: one line of the helper's, after its name."""
    assert (done.returncode, done.stdout) == (code, ""), done
    (line,) = done.stderr.splitlines()
    name, _, said = line.partition(": ")
    assert name == "mount.overlay"
    return said
