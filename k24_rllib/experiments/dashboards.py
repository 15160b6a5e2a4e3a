"""The Grafana dashboard of every algorithm's live figures: where it is kept, and where Ray's Grafana finds it.

`python -m k24_rllib.experiments.dashboards` writes the package's own file anew after a figure has changed.
"""

from __future__ import annotations

import os
from pathlib import Path

from k24_rllib.monitoring import PACKAGED, Figure, dashboard_text, unique


def all_figures() -> tuple[Figure, ...]:
    """Returns the figures of all registered algorithms, the user's own with them."""
    from k24_rllib import ALGORITHMS

    order = sorted(ALGORITHMS.in_order(), key=lambda algorithm: algorithm.__name__)
    return unique(figure for algorithm in order for figure in getattr(algorithm, "figures", ()))


def place_dashboard(session: Path | str) -> Path:
    """Writes the dashboard beside Ray's own, from where the Grafana that Ray's settings describe loads all of them.

    Args:
        session: The directory of the Ray session, whose dashboard has been started.

    Returns:
        The file.
    """
    # Ray's own switches, see ray/dashboard/modules/metrics/metrics_head.py; Ray has its files there by now.
    metrics = Path(os.environ.get("RAY_METRICS_OUTPUT_ROOT", Path(session) / "metrics"))
    folder = Path(os.environ.get("RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR", metrics / "grafana" / "dashboards"))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / PACKAGED.name
    file.write_text(dashboard_text(all_figures(), os.environ.get("RAY_PROMETHEUS_NAME", "Prometheus")))
    return file


if __name__ == "__main__":
    PACKAGED.write_text(dashboard_text(all_figures()))
    print(PACKAGED)
