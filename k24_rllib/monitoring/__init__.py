"""A run's live figures outside of it: in Ray's metrics, which Prometheus scrapes, and on a Grafana dashboard."""

from k24_rllib.monitoring.export import TAGS, Exporter
from k24_rllib.monitoring.figures import Figure, result_value, unique
from k24_rllib.monitoring.grafana import PACKAGED, dashboard, dashboard_text

__all__ = [
    "PACKAGED",
    "TAGS",
    "Exporter",
    "Figure",
    "dashboard",
    "dashboard_text",
    "result_value",
    "unique",
]
