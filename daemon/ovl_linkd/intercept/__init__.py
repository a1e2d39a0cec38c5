"""`exec`: a seccomp filter that asks about mount(2), the guard that keeps watch, the workers.

A program that mounts overlays by itself runs under the filter (seccomp). The workers (worker) each
receive a call, read what the caller means (memory), see its directories as it sees them (view),
decide (decide) and write the shorter text over the caller's own buffer; then the call goes on with
the caller's own rights. Nothing here ever mounts. Each call that was received lies in memory that
the guard (guard) shares with them (slots), so that a worker may die at any time. detach puts the
guard where nothing that ends the program ends it, too.
"""
