"""The command line: one module a command, each an options dataclass and a run function."""
