"""What a run, a comparison or a search came to, as one HTML page that needs nothing else; from Python:

page = report_on(["results/k24-spread"])
Path("report.html").write_text(render(page))
"""

from k24_rllib.report.page import Page, render
from k24_rllib.report.write import report_on, write_after_training, write_report

__all__ = ["Page", "render", "report_on", "write_after_training", "write_report"]
