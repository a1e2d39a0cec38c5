"""What people write with python3-watchdog to keep links, for the daemon to be compared with.

watchdog_loop.py DIRECTORY TARGET: each name that is removed from DIRECTORY is made again, as a
symlink to TARGET. For Debian's own library, and its Python.
"""

import os
import sys
import threading
from typing import Any

from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer


class Keeper(FileSystemEventHandler):  # type: ignore[misc]
    """Makes again what was removed."""

    def on_deleted(self, event: Any) -> None:
        """Called by the library, in a thread of its own."""
        os.symlink(sys.argv[2], event.src_path)


observer = Observer()
observer.schedule(Keeper(), sys.argv[1])
observer.start()
threading.Event().wait()
