"""A learner's memory: `python -m benchmarks.memory '{"agents": 3, ...}'` trains and prints its peak in MiB.

Counted is the resident memory of the learner's process, which also plays, beyond what it had when Ray was started and
everything imported. It trains until the replay buffer is full, which is when it stops growing.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

from benchmarks.end_to_end import Arrangement, build, start_quiet_ray
from benchmarks.team import Sizes

MIB = 2**20


def resident_mib() -> float:
    """Returns this process's resident memory, or the most it ever was where the system tells only that."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
    return peak_mib()


def peak_mib() -> float:
    """Returns the most resident memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def main() -> None:
    """Trains with the sizes given on the command line and prints the memory it took."""
    given = json.loads(sys.argv[1])
    sizes = Sizes(given["agents"], given["hidden"])
    start_quiet_ray(cpus=2)
    before = resident_mib()
    in_process = Arrangement(workers=0, rounds_ahead=0, threads=1)
    algo = build("K24QMix", sizes, given["copies"], 0.1, in_process)
    wanted = 200 if given["quick"] else algo.config.buffer_episodes
    while len(algo.local_replay_buffer) < wanted:
        algo.train()
    print(peak_mib() - before)
    algo.stop()


if __name__ == "__main__":
    main()
