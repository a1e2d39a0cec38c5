"""What the commands that ask the daemon share."""

from typing import Any

from ovl_linkd import client, published
from ovl_linkd.errors import UserError

NOT_RUNNING = 3  # exit codes of DESIGN 4
CANT_TELL = 4


def socket_path(config_file: str | None) -> str:
    """Where the daemon of CONFIG_FILE listens: as it published itself, else as configured.

    What it published counts even when the configuration on disk has changed since, or is broken.
    """
    said = published.read() if config_file is None else None
    return (said or published.known(config_file)).control_socket


def ask(config_file: str | None, method: str, **parameters: Any) -> dict[str, Any]:
    """Call METHOD of the daemon. Raises UserError, also for what the daemon refuses."""
    path = socket_path(config_file)
    try:
        return client.call(path, method, **parameters)
    except client.NotRunning as error:
        hint = "systemctl start ovl-linkd; or use --offline where there is one"
        raise UserError(f"the daemon is not running: {error}", hint, NOT_RUNNING) from None
    except client.NoAnswer as error:
        raise UserError(str(error), "see the daemon's log", CANT_TELL) from None
    except client.CallError as error:
        raise refusal(error) from None


def refusal(error: client.CallError) -> UserError:
    """What the daemon's ERROR means to a person."""
    said = error.parameters
    if error.name == "NoSuchLink":
        return UserError(f"no link is named {said.get('name')}", "ovl-linkd status", 2)
    if error.name == "ConfigInvalid":
        problems = [
            f"{problem['file']}:{problem['line']}:{problem['column']}: {problem['what']}, "
            f"{problem['hint']}"
            for problem in said.get("problems", [])
        ]
        hint = "the daemon goes on with the configuration it has; ovl-linkd check"
        return UserError("\n".join(problems) or "the configuration is faulty", hint)
    if error.name.endswith(".PermissionDenied"):
        return UserError("only root and the daemon's user may do this", "use sudo")
    return UserError(f"the daemon refused: {error.name} {said or ''}".rstrip())
