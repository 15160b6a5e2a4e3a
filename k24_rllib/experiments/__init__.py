"""Experiment files: reading and checking them, running them through Ray Tune, evaluating what they leave."""
