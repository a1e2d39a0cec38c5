"""containerd's ``root_path`` against the kept links.

containerd from 1.5 on mounts by the name that root_path gives. It makes a directory there if
nothing is there, and opens an empty store if it is given ``snapshots`` itself.
"""

import json
import os
import re
import shlex
import stat
from collections.abc import Sequence

from ovl_linkd.doctor.finding import MAYBE, NOTE, OK, UNKNOWN, WRONG, Finding
from ovl_linkd.links.link import Link, observe
from ovl_linkd.machine import units
from ovl_linkd.machine.containerd import PLUGIN, Containerd
from ovl_linkd.machine.containerd_mounts import makes_relative, room, takes_root_path
from ovl_linkd.overlay.limits import capacity, of_this_kernel

_INIT = "ovl-linkd init --containerd"


def findings(links: Sequence[Link], containerds: Sequence[Containerd]) -> list[Finding]:
    """What is wrong with root_path, where it is set; CONTAINERDS: the machine's own first."""
    found = _of(links, containerds[0])
    for other in containerds[1:]:
        if other.root_path or other.trouble:
            found += _of(links, other)
    return found


def _of(links: Sequence[Link], containerd: Containerd) -> list[Finding]:
    if containerd.trouble is not None:
        what = f"containerd's configuration can't be read: {containerd.trouble}"
        mend = "run it as root" if os.geteuid() else ""
        return [Finding(UNKNOWN, what, containerd.source, mend)]
    if containerd.refused is not None:
        what = f"containerd refuses its configuration: {containerd.refused}"
        return [
            Finding(
                WRONG, what, f"it doesn't start ({containerd.source})", "containerd config dump"
            )
        ]
    path = containerd.root_path
    if path is None:
        return _without(links, containerd)
    if containerd.release and not takes_root_path(containerd.release):
        what = f"{_who(containerd)} knows no root_path, and pays no heed to the one that is set"
        return [Finding(WRONG, what, f"it came with 1.5 ({containerd.source})", _INIT)]
    path = path.rstrip("/") or "/"
    for link in links:
        if link.path == path:
            return _by_link(link, containerd)
    return _elsewhere(path, links, containerd)


def kept_root(links: Sequence[Link], containerd: Containerd) -> Link | None:
    """The link that names the overlay snapshotter's root, as root_path has to; None without one."""
    path = (containerd.root_path or "").rstrip("/")
    for link in links:
        if link.path == path and not leads_to_snapshots(link):
            return link
    wanted = os.path.normpath(containerd.snapshotter)
    fitting = [link for link in links if os.path.normpath(link.target) == wanted]
    return min(fitting, key=lambda link: len(link.path), default=None)


def leads_to_snapshots(link: Link) -> bool:
    """Whether LINK's target is the ``snapshots`` directory within a snapshotter's root."""
    parent, name = os.path.split(os.path.normpath(link.target))
    if name != "snapshots":
        return False
    return os.path.basename(parent) == PLUGIN or os.path.exists(f"{parent}/metadata.db")


def _without(links: Sequence[Link], containerd: Containerd) -> list[Finding]:
    here = containerd.found or containerd.release or os.path.isdir(containerd.snapshotter)
    if not here:
        return [Finding(OK, "containerd is not configured here")]
    link = kept_root(links, containerd)
    mend = _INIT if link else "ovl-linkd init --print"
    if containerd.release and not takes_root_path(containerd.release):
        return [_older(links, containerd)]
    what = (
        f"{_who(containerd)} mounts by its long paths: root_path is not set ({containerd.source})"
    )
    why = (
        "from 1.5 on it can mount by a kept link" if not containerd.release else _needs(containerd)
    )
    why += f"; {_through(link, containerd)}" if link else "; none leads to its root yet"
    return [Finding(NOTE, what, why, mend)]


def _older(links: Sequence[Link], containerd: Containerd) -> Finding:
    """What a containerd needs that can't be told to mount by a link."""
    if _is_wrapped(containerd):
        return Finding(OK, f"{_who(containerd)} is started by ovl-linkd exec")
    if containerd.release and makes_relative(containerd.release):
        why = "it needs no help, unless somebody has to follow these paths: then `ovl-linkd exec`"
        return Finding(NOTE, f"{_who(containerd)} knows no root_path: {_needs(containerd)}", why)
    layers = room(containerd, containerd.snapshotter, of_this_kernel()).absolute
    what = f"{_who(containerd)} mounts {layers} layers, and pulls no image that has more"
    why = "it knows neither root_path (1.5) nor relative paths (1.1.4): it needs `ovl-linkd exec`"
    short = [link for link in links if link.target == f"{containerd.snapshotter}/snapshots"]
    if short:
        most = capacity(os.fsencode(short[0].path), of_this_kernel())
        why += f", under which {short[0].path} makes room for {most}"
    return Finding(WRONG, what, why, _INIT)


def _is_wrapped(containerd: Containerd) -> bool:
    """Whether its unit starts it by `ovl-linkd exec`."""
    loaded = filter(None, map(units.load, containerd.units))
    starts = [unit.values("ExecStart")[-1:] for unit in loaded]
    return any(re.search(r"ovl-linkd\s+exec\b", line) for lines in starts for line in lines)


def _needs(containerd: Containerd) -> str:
    """What it has room for as it is."""
    fits = room(containerd, containerd.snapshotter, of_this_kernel())
    return (
        f"it mounts {fits.relative} layers without it, but past {fits.absolute} by relative paths, "
        "which nobody else can follow"
    )


def _through(link: Link, containerd: Containerd) -> str:
    fits = room(containerd, link.path, of_this_kernel())
    return f"through {link.path} {fits.absolute} stay absolute"


def _who(containerd: Containerd) -> str:
    return " ".join(filter(None, ["containerd", ".".join(map(str, containerd.release or ()))]))


def _by_link(link: Link, containerd: Containerd) -> list[Finding]:
    if leads_to_snapshots(link):
        return [_at_snapshots(link.path, os.path.dirname(os.path.normpath(link.target)))]
    seen = observe(link)
    if seen.state == "ok":
        what = f"root_path is the kept link {link.name}, {link.path}"
        why = _through(link, containerd)
        if link.guard == "none":
            why += "; a cleaner may take it for a moment, but not with guard: append-only"
        return [Finding(OK, what, why)]
    what = f"root_path is the link {link.name}, which is {seen.state}: {seen.reason}"
    why = {
        "dangling": "containerd starts without its overlayfs snapshotter",
        "missing": "containerd makes a directory there when it starts: an empty store",
        "waiting": "containerd makes a directory there when it starts: an empty store",
        "blocked": "containerd has an empty store there, or made one",
    }.get(seen.state, "containerd's images are not there")
    mend = seen.remedy or f"ovl-linkd repair {shlex.quote(link.name)}"
    if seen.state == "dangling":
        why += f"; `{_INIT}` prints the drop-in that makes its target at each start"
        mend = f"mkdir -p -m 0700 -- {shlex.quote(link.target)}"
    return [Finding(WRONG, what, f"{why} ({containerd.source})", mend)]


def _yaml(path: str) -> str:
    return path if re.fullmatch(r"/[\w/.@+-]*", path, re.ASCII) else json.dumps(path)


def _at_snapshots(path: str, root: str) -> Finding:
    what = f"root_path = {path} leads to snapshots, not to its parent, the snapshotter's root"
    why = f"containerd opens an empty store in {root}/snapshots/snapshots"
    mend = f"a link that leads to {root}, and root_path set to it: {_INIT}"
    return Finding(WRONG, what, why, mend)


def _elsewhere(path: str, links: Sequence[Link], containerd: Containerd) -> list[Finding]:
    """root_path names no kept link: a directory of somebody's choice, or a link nobody keeps."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        mode = 0
    except OSError as error:
        return [Finding(UNKNOWN, f"root_path = {path}: {error.strerror}", "", "run it as root")]
    for link in links:
        if path.startswith(f"{link.path}/"):
            inside = link._replace(target=link.target.rstrip("/") + path[len(link.path) :])
            if leads_to_snapshots(inside):
                return [_at_snapshots(path, os.path.dirname(os.path.normpath(inside.target)))]
            return [Finding(OK, f"root_path goes through the kept link {link.name}, {link.path}")]
    if stat.S_ISLNK(mode):
        target = os.path.realpath(path)
        if leads_to_snapshots(Link("", path, target)):
            return [_at_snapshots(path, os.path.dirname(target))]
        what = f"root_path = {path} is a symlink that nobody keeps"
        why = "once it is gone containerd makes a directory there: an empty store"
        line = f"links: {{ctrd: {{path: {_yaml(path)}, target: {_yaml(target)}}}}}"
        return [Finding(WRONG, what, why, line)]
    if not mode and path.startswith("/run/"):
        what = f"root_path = {path} is not there, and no kept link"
        why = "containerd makes a directory there, whose content a boot takes away"
        return [Finding(WRONG, what, why, "ovl-linkd init --print")]
    if os.path.basename(path) == "snapshots" and os.path.exists(f"{path}/../metadata.db"):
        return [_at_snapshots(path, os.path.dirname(path))]
    if not mode:
        return [Finding(MAYBE, f"root_path = {path} is not there yet", containerd.source)]
    return [Finding(OK, f"root_path = {path} is a directory of its own")]
