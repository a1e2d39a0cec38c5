"""What limits overlay mounts on this machine, and what of it to mend; one module a concern."""
