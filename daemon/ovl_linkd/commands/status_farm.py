"""The farm in `ovl-linkd status`: as it is on disk, and what only the daemon knows of it."""

from typing import Any

from ovl_linkd.commands.daemon import FARM
from ovl_linkd.text import printable

Json = dict[str, Any]


def row(path: str, said: Json | None) -> Json:
    """The farm at PATH, of which the daemon SAID so much, None without one."""
    from ovl_linkd.links.plot import Plot

    plot = Plot(path)
    found: Json = dict.fromkeys(FARM) if said is None else {key: said[key] for key in FARM}
    obstacle = plot.obstacle()
    if obstacle:
        found |= {"path": path, **obstacle._asdict()}
    elif not plot.there():
        reason, remedy = f"nothing at {path}", "ovl-linkd repair, or start the daemon"
        found |= {"path": path, "state": "missing", "reason": reason, "remedy": remedy}
    elif said is None:
        found |= {"path": path, "state": "ok"}
    return found


def line(farm: Json) -> str:
    """What FARM is, in one line for a person."""
    text = f"farm  {farm['state']}  {farm['path']}"
    if farm["entries"] is not None:
        text += f"  {farm['entries']:,} of {farm['most']:,} entries"
        if farm["guard"] != "none":
            text += f", {farm['guard']}" + ("" if farm["guarded"] else ": not set")
        if farm["oldest"]:
            day, time = farm["oldest"][:10], farm["oldest"][11:19]
            text += f", the oldest last asked for {day} {time}"
    return printable(text)
