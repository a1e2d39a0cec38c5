"""What lies on disk: one symlink, all of them, and the events that tell of a change.

Nothing here knows an event loop, systemd or the configuration's files.
"""
