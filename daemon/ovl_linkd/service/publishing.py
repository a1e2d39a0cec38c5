"""What the daemon of the standard configuration leaves for short-lived commands to read."""

from collections.abc import Callable

from ovl_linkd import published
from ovl_linkd.published import Published


class Publication:
    """The published file, if ``wanted``: a daemon that was given `--config FILE` has none.

    ``told`` is called with the path and what is wrong, or None after a success.
    """

    def __init__(self, wanted: bool, told: Callable[[str, str | None], None]) -> None:
        self.paths = (published.PATH,) if wanted else ()
        self._told = told
        self._word: Published | None = None

    def write(self, word: Published) -> None:
        """Publish WORD from now on."""
        self._word = word
        for path in self.paths:
            try:
                published.write(word, path)
                self._told(path, None)
            except OSError as error:
                self._told(path, f"commands will be slower: {error}")

    def ensure(self) -> None:
        """Publish it again if it was removed."""
        if self._word and any(published.read(path) is None for path in self.paths):
            self.write(self._word)
