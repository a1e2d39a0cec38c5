"""The subcommands, a file each: `arguments(parser)` declares, `run(arguments)` acts."""
