"""Brings up to date what the manual pages say of commands, configuration keys and the interface.

    python docs/generate.py [--check]

Those parts stand in the pages between `.. begin: PART` and `.. end: PART`, so that the pages read
well where nothing renders them. They are made of the parsers, of config/config.schema.json, of the
Varlink interface and of the journal's catalog. --check changes nothing; exit code 1 where a part is
out of date.
"""

import json
import re
import sys
from argparse import Action, ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill, indent
from typing import Any

from ovl_linkd import cli

HERE = Path(__file__).resolve().parent
SCHEMA = HERE.parent / "config" / "config.schema.json"
CATALOG = HERE.parent / "systemd" / "ovl-linkd.catalog"
Json = dict[str, Any]


def escaped(text: str) -> str:
    """TEXT with nothing in it that reStructuredText takes for markup."""
    return re.sub(r"([*`|\\])|_(?=\W|$)", lambda match: "\\" + match[0], text)


def filled(text: str, width: int = 98) -> str:
    """TEXT in lines of WIDTH columns, broken at blanks only: a path is not to be cut."""
    return fill(text, width, break_on_hyphens=False, break_long_words=False)


# --- commands ----------------------------------------------------------------------------------


def commands() -> str:
    """A section for each command of the command line."""
    return "\n\n".join(_command(name, cli.parser(name)) for name in cli.COMMANDS)


def _command(name: str, parser: ArgumentParser) -> str:
    actions = [action for action in parser._actions if action.dest not in ("help", "config")]
    synopsis = " ".join([f"**ovl-linkd {name}**", *map(_in_synopsis, actions)])
    summary = cli.COMMANDS[name]
    more = "\n\n".join(_prose(parser.epilog or ""))
    described = "\n\n".join(
        filter(None, [filled(_sentence(summary)), more, *map(_option, actions)])
    )
    return f"{name}\n{'-' * len(name)}\n\n{filled(synopsis)}\n\n{described}"


def _sentence(text: str) -> str:
    return escaped(text[0].upper() + text[1:]).rstrip(".") + "."


def _prose(epilog: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\n|\n(?=Exit codes)", epilog.strip()):
        text = escaped(" ".join(paragraph.split()))
        yield filled(re.sub(r"^Exit codes:", "**Exit codes:**", text))


def _in_synopsis(action: Action) -> str:
    if not action.option_strings:
        name = f"*{action.metavar}*"
        repeated = f"{name} ..." if action.nargs in ("*", "+", "...") else name
        return f"[{repeated}]" if action.nargs in ("*", "?") else repeated
    return f"[{_spelt(action)}]"


def _spelt(action: Action) -> str:
    names = ", ".join(f"**{name}**" for name in action.option_strings)
    if action.nargs == 0:
        return names
    value = action.metavar or "\\|".join(action.choices or [action.dest.upper()])
    more = " ..." if action.nargs == "+" else ""
    return f"{names} [*{value}*]" if action.nargs == "?" else f"{names} *{value}*{more}"


def _option(action: Action) -> str:
    name = _spelt(action) if action.option_strings else f"*{action.metavar}*"
    said = str(action.help) % {"default": action.default, "prog": "ovl-linkd"}
    return f"{name}\n{indent(filled(_sentence(said), 94), '    ')}"


# --- configuration keys ------------------------------------------------------------------------


def keys() -> str:
    """A definition for each key of the configuration."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return "\n\n".join(_keys(schema, ""))


def _keys(node: Json, prefix: str) -> Iterator[str]:
    for key, value in node.get("properties", {}).items():
        yield _key(prefix + key, value, key in node.get("required", ()))
        yield from _keys(value, f"{prefix}{key}.")
        if isinstance(each := value.get("additionalProperties"), dict):
            yield _key(f"{prefix}{key}.NAME", each, False)
            yield from _keys(each, f"{prefix}{key}.NAME.")


def _key(name: str, node: Json, required: bool) -> str:
    types = node["type"] if isinstance(node["type"], list) else [node["type"]]
    facts = [" or ".join("mapping" if each == "object" else each for each in types)]
    if "enum" in node:
        facts = [" or ".join(f"``{value}``" for value in node["enum"])]
    if required:
        facts.append("required")
    elif "default" in node:
        facts.append(f"default ``{_yaml(node['default'])}``")
    text = escaped(node["description"])
    plain = [value for value in node.get("examples", ()) if not isinstance(value, dict)]
    if plain:
        said = ", ".join(f"``{_yaml(value)}``" for value in plain)
        text += f" Example: {said}." if len(plain) == 1 else f" Examples: {said}."
    return f"**{name}** ({', '.join(facts)})\n{indent(filled(text, 94), '    ')}"


def _yaml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# --- the Varlink interface ---------------------------------------------------------------------


def interface() -> str:
    """The interface as `varlinkctl introspect` prints it, its long lines broken."""
    from ovl_linkd.service.control import Control

    lines = Control.render_interface_description().splitlines()
    broken = [part for line in lines for part in _broken(line.rstrip())]
    return "::\n\n" + indent("\n".join(broken).strip(), "    ")


def _broken(line: str) -> list[str]:
    if len(line) <= 74 or line.startswith("#"):
        return [line]
    head, fields, tail = re.fullmatch(r"(.*?\()(.*?)(\).*)", line).groups()  # type: ignore[union-attr]
    if tail.endswith(")") and len(tail) > 60:
        return [f"{head}{fields}{tail[:1]} -> (", *_fields(tail.partition("(")[2][:-1]), ")"]
    return [head, *_fields(fields), tail]


def _fields(text: str) -> list[str]:
    return indent(",\n".join(text.split(", ")), "  ").splitlines()


# --- the journal -------------------------------------------------------------------------------


def entries() -> str:
    """The MESSAGE_ID of each kind of entry, and what the catalog calls it."""
    found = re.findall(
        r"(?m)^-- ([0-9a-f]{32})\nSubject: (.*)", CATALOG.read_text(encoding="utf-8")
    )
    # The subject's variables are fields of the entry.
    named = [(number, re.sub("@([A-Z]+)@", r"*\1*", escaped(subject))) for number, subject in found]
    return "\n\n".join(f"``{number}``\n    {subject}." for number, subject in named)


PARTS = {"commands": commands, "keys": keys, "interface": interface, "entries": entries}


def renewed(page: str) -> str:
    """PAGE with its generated parts as they ought to be."""
    return re.sub(
        r"(?ms)^(\.\. begin: (\w+)[^\n]*\n).*?^(\.\. end: \2)$",
        lambda match: f"{match[1]}\n{PARTS[match[2]]()}\n\n{match[3]}",
        page,
    )


def main(arguments: list[str]) -> int:
    """Renew every page, or check that they need it not; the exit code."""
    late = []
    for page in sorted(HERE.glob("*.[1-8].rst")):
        present = page.read_text(encoding="utf-8")
        if (wanted := renewed(present)) != present:
            late.append(page)
            if arguments != ["--check"]:
                page.write_text(wanted, encoding="utf-8")
    for page in late:
        print(f"{page.name}: {'out of date: make docs' if arguments else 'brought up to date'}")
    return 1 if late and arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
