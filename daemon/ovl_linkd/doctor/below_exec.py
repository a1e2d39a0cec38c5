"""`ovl-linkd exec`: whether this kernel can, and who runs below it."""

from ovl_linkd import supervisors
from ovl_linkd.doctor.finding import NOTE, OK, Finding
from ovl_linkd.errors import UserError
from ovl_linkd.intercept import seccomp
from ovl_linkd.intercept.saying import MESSAGE_IDS


def findings() -> list[Finding]:
    """Tries what can be tried without putting this process under a filter."""
    served = [_serving(each) for each in supervisors.running()]
    try:
        seccomp.check_machine()
    except UserError as error:
        return [Finding(NOTE, f"ovl-linkd exec does not work here: {error.what}", error.hint)]
    what = "ovl-linkd exec can catch the mounts of programs that can't be changed"
    return [Finding(OK, what), *served]


def _serving(supervisor: supervisors.Supervisor) -> Finding:
    command = " ".join(supervisor.command)
    what = f"below ovl-linkd exec: {command}, {supervisor.seen:,} calls of mount(2) seen"
    why = (
        "a seccomp listener of its own is refused to whatever runs there (EBUSY): containers with "
        "a notify profile, Incus"
    )
    if supervisor.refused:
        what += f", {supervisor.refused:,} of them refused"
        return Finding(NOTE, what, why, f"journalctl MESSAGE_ID={MESSAGE_IDS['mount-refused']}")
    return Finding(NOTE, what, why)
