"""The long-running process: the event loop and all that logs, waits and notifies."""
