"""What is on disk is looked at by this command itself, the daemon is asked for the rest.

The farm, if there is one, is a single line, however many entries it has.

Exit codes: 0 all ok, 1 some link isn't, or the farm, where no NAME is given; 3 the daemon is not
running, 4 can't tell.
"""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ovl_linkd import client, published, supervisors
from ovl_linkd.commands.daemon import (
    CANT_TELL,
    NOT_RUNNING,
    daemon_of,
    farm_of,
    links_of,
    refusal,
    socket_path,
)
from ovl_linkd.errors import UserError
from ovl_linkd.links.link import Link, Observation, observe

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

Json = dict[str, Any]

FAILED = CANT_TELL  # also where its own output can't be written: 1 would speak of the links


def arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="links; all if none is named")
    parser.add_argument("--json", action="store_true", help="for programs; --watch: a line each")
    parser.add_argument("--watch", action="store_true", help="go on and show each change")


def quick(words: list[str]) -> SimpleNamespace | None:
    """The options of WORDS that are only `--json` and names; None where argparse has to look.

    Monitoring asks for these again and again, and argparse is a seventh of the time it takes.
    """
    names = [word for word in words if word != "--json"]
    if any(name.startswith("-") for name in names):
        return None
    return SimpleNamespace(config=None, names=names, json="--json" in words, watch=False)


def run(options: "Namespace | SimpleNamespace") -> int:
    """Print the status of the links; the exit code says the worst of it."""
    state, code = look(options.config, options.names)
    if options.json:
        import json

        print(json.dumps(state, indent=None if options.watch else 2), flush=True)
    else:
        from ovl_linkd.commands.status_text import table

        print(table(state), flush=True)
    return _watch(options, state["links"]) if options.watch and code < NOT_RUNNING else code


def look(config_file: str | None, names: list[str]) -> tuple[Json, int]:
    """What `status --json` prints, and the exit code. Raises UserError for unknown NAMES."""
    said, code, trouble = _ask(config_file)
    if said is not None:
        told = {link["name"]: link for link in said["links"]}
        links = [_kept(link) for link in said["links"]]
        place = said["farm"] and said["farm"]["path"]
    else:
        told = {}
        configured = _configured(config_file)
        links, place = list(configured.links), configured.farm
    if unknown := set(names) - {link.name for link in links}:
        raise UserError(f"no link is named {min(unknown)}", "ovl-linkd status", 2)
    rows = [_row(link, told.get(link.name)) for link in links if not names or link.name in names]
    daemon = {"running": code != NOT_RUNNING, **(said["daemon"] if said else {})}
    if trouble:
        daemon["trouble"] = trouble
    farm = _farm(place, said) if place else None
    served = [_served(each) for each in supervisors.running()]
    state = {
        "schema_version": 1,
        "daemon": daemon,
        "links": rows,
        "farm": farm,
        "exec": served,
    }
    judged = rows if names or not farm else [*rows, farm]
    if not code and any(row["state"] != "ok" for row in judged):
        code = 1
    return state, code


def _ask(config_file: str | None) -> tuple[Json | None, int, str | None]:
    """The daemon's answer, or the exit code and the sentence that stand for its absence."""
    try:
        reply = client.call(socket_path(config_file), "Status")
        said = {"links": links_of(reply), "daemon": daemon_of(reply), "farm": farm_of(reply)}
        return said, 0, None
    except client.NotRunning as error:
        return None, NOT_RUNNING, str(error)
    except client.NoAnswer as error:
        return None, CANT_TELL, str(error)
    except client.CallError as error:
        raise refusal(error) from None


def _configured(config_file: str | None) -> published.Published:
    try:
        return published.known(config_file)
    except UserError as error:
        raise UserError(error.what, error.hint, CANT_TELL) from None


def _farm(path: str, said: Json | None) -> Json:
    from ovl_linkd.commands import status_farm

    return status_farm.row(path, said and said["farm"])


def _kept(said: Json) -> Link:
    # A daemon of before an upgrade doesn't say how it is guarded.
    guard = said.get("guard", "none")
    return Link(said["name"], said["path"], said["target"], guard=guard)


def _row(link: Link, said: Json | None) -> Json:
    """One link: as it is on disk, and what only the daemon knows of it."""
    seen = observe(link)
    row = {
        "name": link.name,
        "path": link.path,
        "target": link.target,
        "state": seen.state,
        "actual": seen.actual,
        "target_exists": seen.target_exists,
        "since": None,
        "reason": seen.reason,
        "remedy": seen.remedy,
        "next_try": None,
        "repairs": None,
        "last_repair": None,
        "layers": _layers(link),
        "guard": link.guard,
        "guarded": None,
    }
    if link.guard != "none":
        row |= _guarded(link, seen)
    if said is None:
        return row
    for key in ("next_try", "repairs", "last_repair"):
        row[key] = said[key]
    if said["actual"] == seen.actual and seen.state not in ("ok", "dangling"):
        # The disk says what is there; only the daemon can say why it leaves it so.
        row |= {key: said[key] for key in ("state", "reason", "remedy")}
    row["since"] = said["since"] if row["state"] == said["state"] else None
    return row


def _guarded(link: Link, seen: Observation) -> Json:
    """Whether LINK's directory is append-only, and what to do if it isn't."""
    import os

    from ovl_linkd.links.flags import NOT_SET, SET, is_append_only

    guarded = is_append_only(os.path.dirname(link.path))
    if guarded or seen.reason:
        return {"guarded": guarded}
    return {"guarded": guarded, "reason": NOT_SET, "remedy": SET}


def _served(supervisor: supervisors.Supervisor) -> Json:
    shown = supervisor._asdict()
    del shown["born"]
    return shown


def _layers(link: Link) -> Json:
    """How many layers TARGET/NNN/fs one mount(2) takes, by the long and by the short name."""
    import os

    from ovl_linkd.overlay.limits import capacity, of_this_kernel

    limits = of_this_kernel()
    return {
        "plain": capacity(os.fsencode(link.target), limits),
        "short": capacity(os.fsencode(link.path), limits),
    }


def _watch(options: "Namespace | SimpleNamespace", rows: list[Json]) -> int:
    """Print each change since ROWS were, first what the daemon did meanwhile, until it ends."""
    import json

    from ovl_linkd.commands.status_text import change

    shown = {row["name"]: (row["state"], row["repairs"]) for row in rows}
    try:
        for reply in client.follow(socket_path(options.config), "Monitor"):
            for said in links_of(reply):
                if options.names and said["name"] not in options.names:
                    continue
                row = _row(_kept(said), said)
                if shown.get(row["name"]) != (row["state"], row["repairs"]):
                    print(json.dumps(row) if options.json else change(row), flush=True)
            shown = {}
    except client.NoAnswer as error:
        raise UserError(str(error), "see the daemon's log", CANT_TELL) from None
    except client.CallError as error:
        raise refusal(error) from None
    except client.NotRunning:
        pass
    raise UserError("the daemon has stopped", "systemctl status ovl-linkd", NOT_RUNNING)
