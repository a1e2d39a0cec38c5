"""Each finding comes with the line that mends it. Nothing on this machine is changed: what the
kernel and mount(8) take is tried in a private mount namespace. Works without the daemon; without
root it says what it could not look into.

Exit codes: 0 nothing to mend, 1 something is wrong. What only may be wrong doesn't change it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from ovl_linkd.doctor.finding import Finding
    from ovl_linkd.links.link import Link

Json = dict[str, Any]


def arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    parser.add_argument("--json", action="store_true", help="for programs")


def run(options: "Namespace") -> int:
    """Look at everything and print it; 1 if something is to be mended."""
    groups = examine(options.config)
    wrong = any(one.level == "wrong" for _, found in groups for one in found)
    if options.json:
        import json

        print(json.dumps(_json(groups, ok=not wrong), indent=2))
    else:
        from ovl_linkd.commands.doctor_text import report

        print(report(groups))
    return int(wrong)


def examine(config_file: str | None) -> "list[tuple[str, list[Finding]]]":
    """(concern, its findings), in the order in which they are shown."""
    from functools import cache

    from ovl_linkd import client
    from ovl_linkd.doctor import (
        below_exec,
        cleaners,
        containerd,
        fstab,
        kernel,
        mount8,
        mounts,
        units,
        watches,
    )
    from ovl_linkd.doctor import links as kept
    from ovl_linkd.machine import containerd as machine

    links, farmed, others, faulty = _configured(config_file)

    @cache
    def containerds() -> "list[machine.Containerd]":
        return [machine.read(), *machine.others()]

    def runs() -> bool:
        return any(map(client.listens, others[:1]))  # the control socket's path

    concerns: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("kernel", kernel.findings),
        ("mount(8)", mount8.findings),
        ("links", lambda: faulty or kept.findings(links, runs())),
        ("cleaners", lambda: cleaners.findings([*links, *farmed])),
        ("containerd", lambda: containerd.findings(links, containerds())),
        ("units", lambda: units.findings(links, others, containerds())),
        ("exec", below_exec.findings),
        ("fstab", fstab.findings),
        ("inotify", watches.findings),
        ("mounts", mounts.findings),
    ]
    return [(name, _findings(name, look)) for name, look in concerns]


def _findings(name: str, look: "Callable[[], list[Finding]]") -> "list[Finding]":
    """What LOOK finds; what it can't cope with hides nothing of what the others find."""
    from ovl_linkd.doctor.finding import UNKNOWN, Finding

    try:
        return look()
    except Exception as error:
        what = f"{name} could not be looked into: {type(error).__name__}: {error}"
        return [Finding(UNKNOWN, what, "the other concerns are not affected")]


def _configured(
    config_file: str | None,
) -> "tuple[tuple[Link, ...], list[Link], list[str], list[Finding]]":
    """The links, what stands for the farm's, what else the daemon makes, and what is wrong with the
    configuration.

    Where it is faulty there are no links.
    """
    from ovl_linkd.config import ConfigError, check_of, load
    from ovl_linkd.doctor.finding import UNKNOWN, WRONG, Finding
    from ovl_linkd.links.ledger import path_of
    from ovl_linkd.links.link import Link

    why = "nothing that depends on the links could be looked at"
    try:
        config = load(config_file)
    except ConfigError as error:
        what = f"the configuration is faulty: {error.problems[0]}"
        return (), [], [], [Finding(WRONG, what, why, check_of(config_file))]
    except Exception as error:
        what = f"the configuration could not be read: {type(error).__name__}: {error}"
        return (), [], [], [Finding(UNKNOWN, what, why)]
    farm = config.farm.path if config.farm else None
    farmed = [Link("farm", path, "/") for path in (f"{farm}/*", path_of(farm))] if farm else []
    return config.links, farmed, config.others, []


def _json(groups: "list[tuple[str, list[Finding]]]", ok: bool) -> Json:
    return {
        "schema_version": 1,
        "ok": ok,
        "findings": [
            {
                "concern": name,
                "level": one.level,
                "what": one.what,
                "why": one.why or None,
                "mend": one.mend or None,
            }
            for name, found in groups
            for one in found
        ],
    }
