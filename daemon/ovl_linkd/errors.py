"""The one exception that a person is meant to see."""


class UserError(Exception):
    """Something a person can mend: what is wrong, what to do, and the exit code.

    ``what`` names the thing and the cause in one line; ``hint`` says what to do about it and may
    be empty. The command line prints both and exits with ``code``.
    """

    def __init__(self, what: str, hint: str = "", code: int = 1) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.code = code
