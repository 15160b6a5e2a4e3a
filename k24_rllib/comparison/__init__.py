"""The parts of `rllib compare`: runs read from disk, methods made of them, statistics, tables and the figure."""
