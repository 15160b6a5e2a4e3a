"""The `rllib` command (and `k24`, the same program): read an experiment file, check it, hand over to Ray Tune."""
