"""A run's live figures outside of it: in Ray's metrics, which Prometheus scrapes, and on a Grafana dashboard."""

from k24_rllib.monitoring.dashboard import PACKAGED, dashboard_text, grafana_dashboard
from k24_rllib.monitoring.export import TAGS, Exporter
from k24_rllib.monitoring.figures import Figure, result_value, unique

__all__ = [
    "PACKAGED",
    "TAGS",
    "Exporter",
    "Figure",
    "dashboard_text",
    "grafana_dashboard",
    "result_value",
    "unique",
]
