"""What this machine has: mounts, rules of cleaners, units, containerd. Read only, never judged."""
