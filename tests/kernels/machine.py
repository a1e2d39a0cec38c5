"""A virtual machine with a kernel of Debian's, and this machine's files, or others, read-only."""

import lzma
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).parents[2]
INIT = Path(__file__).with_name("init")

# What brings the files in, and what the tests mount. Some are built in, some have other names.
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "fuse", "loop", "ext4", "tun", "veth")
_DEPENDS = re.compile(rb"\0depends=([^\0]*)")


class Kernel(NamedTuple):
    """An unpacked package of a kernel; ``architecture`` in Debian's words."""

    directory: Path
    architecture: str

    @property
    def image(self) -> Path:
        """What is booted."""
        (image,) = self.directory.glob("boot/vmlinuz-*")
        return image


def boot(
    kernel: Kernel, root: Path, busybox: Path, results: Path, script: str, seconds: float
) -> str:
    """Run SCRIPT, of bash, as root of KERNEL over ROOT's files, the checkout among them.

    What it writes to /mnt is in RESULTS afterwards. Returns what came by the console; where that
    takes more than SECONDS, the machine is switched off and the last line says so.
    """
    results.mkdir(parents=True, exist_ok=True)
    end = "\necho 1 >/proc/sys/kernel/sysrq; echo o >/proc/sysrq-trigger; sleep 60\n"
    (results / "inside").write_text(script + end)
    initramfs = results / "initramfs"
    _pack(kernel, busybox, initramfs)
    share = results / "root"
    share.mkdir(exist_ok=True)
    command = [*_machine(kernel.architecture), "-kernel", kernel.image, "-initrd", initramfs]
    quiet = (
        "console=ttyS0 console=ttyAMA0 panic=-1 quiet loglevel=3 mitigations=off nokaslr audit=0"
    )
    command += ["-append", f"{quiet} checkout={TOP}"]
    command += ["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]
    shared = {
        "root": f"{share},readonly=on",
        "checkout": f"{TOP},readonly=on",
        "results": str(results),
    }
    for tag, path in shared.items():
        command += [
            "-virtfs",
            f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap",
        ]
    # Not the machine's mounts, only its files.
    mounting = f'mount --bind "{root}" "{share}" && exec "$@"'
    try:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", mounting, "-", *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return (late.output or b"").decode(errors="replace") + f"\nswitched off after {seconds} s"
    finally:
        initramfs.unlink()
        share.rmdir()
    return done.stdout.decode(errors="replace")


def _machine(architecture: str) -> list[str]:
    """Qemu for ARCHITECTURE, by KVM where a kernel that knows nothing of it can run by that."""
    same = platform.machine() == {"amd64": "x86_64", "arm64": "aarch64"}[architecture]
    # /dev/kvm without the processor's help runs only kernels that were made for that.
    helped = architecture != "amd64" or re.search(
        r"\b(vmx|svm)\b", Path("/proc/cpuinfo").read_text()
    )
    fast = same and helped and os.access("/dev/kvm", os.R_OK | os.W_OK)
    common = ["-m", "3G", "-smp", "2", "-accel", "kvm" if fast else "tcg"]
    if architecture == "amd64":
        return ["qemu-system-x86_64", "-M", "q35", "-cpu", "host" if fast else "max", *common]
    return [
        "qemu-system-aarch64",
        "-M",
        "virt",
        "-cpu",
        "host" if fast else "max,pauth-impdef=on",
        *common,
    ]


def _pack(kernel: Kernel, busybox: Path, initramfs: Path) -> None:
    """Make INITRAMFS of ``init``, BUSYBOX and the modules of KERNEL, uncompressed."""
    tree = initramfs.with_name("tree")
    for name in ("bin", "dev", "modules", "proc", "sys", "system"):
        (tree / name).mkdir(parents=True)
    shutil.copy(busybox, tree / "bin/busybox")
    shutil.copy(INIT, tree / "init")
    found = {
        path.name.split(".ko")[0].replace("-", "_"): path
        for path in kernel.directory.glob("usr/lib/modules/**/*.ko*")
    }
    order: list[str] = []
    for name in _MODULES:
        _add(name, found, tree / "modules", order)
    (tree / "modules/order").write_text("".join(f"{name}\n" for name in order))
    pack = f'cd "{tree}" && find . | cpio --quiet -o -H newc >"{initramfs}"'
    subprocess.run(["sh", "-c", pack], check=True)
    shutil.rmtree(tree)


def _add(name: str, found: dict[str, Path], directory: Path, order: list[str]) -> None:
    """Put the module NAME into DIRECTORY, and at the end of ORDER, after those that it needs."""
    if name in order or name not in found:
        return
    content = found[name].read_bytes()
    if found[name].suffix == ".xz":
        content = lzma.decompress(content)
    needed = _DEPENDS.search(content)
    for other in needed[1].decode().split(",") if needed else ():
        _add(other.replace("-", "_"), found, directory, order)
    (directory / name).write_bytes(content)
    order.append(name)
