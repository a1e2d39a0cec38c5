"""The mount(8) of this machine: how it hands options to the kernel."""


def takes_by_value() -> bool:
    """Whether this machine's mount(8) hands options over by fsconfig(2), 255 bytes a value.

    Asked of mount(8) itself: libmount lists ``fd-based-mount`` among its features where it has the
    new mount API built in (libmount/src/version.c). Without a mount(8) the answer is no.
    """
    import subprocess

    try:
        answer = subprocess.run(
            ["mount", "--version"], capture_output=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"fd-based-mount" in answer
