"""What the kernel takes: the page, and what fsconfig(2) offers beside mount(2)."""

from ovl_linkd.doctor.finding import NOTE, OK, UNKNOWN, WRONG, Finding
from ovl_linkd.overlay import limits, probes


def findings() -> list[Finding]:
    """How long options may be here. Tries it, in a private mount namespace."""
    most = limits.of_this_kernel()
    found = [
        Finding(
            OK,
            f"pages of {most.mount + 1:,} bytes: mount(2) reads {most.mount:,} bytes of options",
            "what is longer is dropped without an error",
        )
    ]
    try:
        features = probes.features()
    except probes.CantTry as error:
        why = "a private mount namespace to try it in can't be had"
        found.append(Finding(UNKNOWN, f"what fsconfig(2) takes: {error}", why, "run it as root"))
        return found
    if not features.overlay:
        what = "an overlay of two empty directories does not mount"
        return [*found, Finding(WRONG, what, "nothing else here can work", "modprobe overlay")]
    return [*found, *_of(features)]


def _of(features: probes.Features) -> list[Finding]:
    if features.one_by_one:
        first = Finding(OK, "lowerdir+ works: a layer at a time, up to the kernel's 500")
    else:
        why = "it came with Linux 6.7; longer lists have to be shortened"
        first = Finding(NOTE, "lowerdir+ (a layer at a time) is not known to this kernel", why)
    if features.descriptors:
        second = Finding(OK, "layers may be given as file descriptors")
    else:
        second = Finding(NOTE, "layers as file descriptors are not known to this kernel (6.13)")
    third = Finding(OK, f"fsconfig(2) takes {features.value_limit:,} bytes as one value")
    return [first, second, third]
