"""The `rllib` command (and `k24`, the same program): arguments in, lines out. A file for each command."""
