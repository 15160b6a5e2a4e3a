"""A cluster of three nodes on this machine: workers spread over them, a node that goes, what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from k24_rllib import K24QMixConfig
from k24_rllib.checks import ConfigError
from k24_rllib.experiments.cluster import check_room, code_for_nodes

Spec = dict[str, Any]
Write = Callable[..., Path]

PATIENCE_S = 300
STEPS = 40_000
"""Enough that a node can go when the first results are there and the run still goes on for long."""

MODULE = """\
import k24_rllib
from beside import factory

k24_rllib.register_team_env("from_a_module", factory)
"""
BESIDE = """\
from k24_rllib.envs import make_team_env


def factory(num_envs: int, N: int = 2):
    return make_team_env("mpe_simple_spread", num_envs, N=N, max_cycles=5)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head with one CPU and two nodes with two: room for a trial with two workers when one node is gone."""
    # In a directory of its own: what Ray notes in the usual one makes every `ray.init()` of this machine join it.
    temp = tempfile.mkdtemp(prefix="k24")
    cluster = Cluster(True, head_node_args={"num_cpus": 1, "include_dashboard": False, "temp_dir": temp})
    for _ in range(2):
        cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    shutil.rmtree(temp, ignore_errors=True)


def places() -> dict[str, list[str]]:
    """Returns the nodes on which actors live, by the name of their class."""
    found: dict[str, list[str]] = {}
    for actor in ray._private.state.actors().values():
        if actor["State"] == "ALIVE":
            found.setdefault(actor["ActorClassName"].split(".")[-1], []).append(actor["Address"]["NodeID"])
    return found


def steps_of(directory: Path) -> list[int]:
    """Returns the steps of every result that a trial has written."""
    lines = [line for file in directory.glob("**/result.json") for line in file.read_text().splitlines()]
    return [json.loads(line)["num_env_steps_sampled_lifetime"] for line in lines if line.endswith("}")]


def start_run(cluster: Cluster, file: Path, results: Path) -> subprocess.Popen[str]:
    """Starts `rllib train` on the cluster, with an environment that only a module beside the file knows."""
    (file.parent / "my_module.py").write_text(MODULE)
    (file.parent / "beside.py").write_text(BESIDE)
    words = ["train", "-f", str(file), "--storage-path", str(results), "--ray-address", cluster.address]
    return subprocess.Popen(
        [sys.executable, "-m", "k24_rllib.cli.main", *words, "--import", "my_module"],
        cwd=file.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_results(run: subprocess.Popen[str], results: Path) -> None:
    while not steps_of(results):
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)


def test_workers_spread_over_nodes_and_a_run_outlives_one_of_them(
    cluster: Cluster, write: Write, tiny: Spec, tmp_path: Path
) -> None:
    tiny |= {"env": "from_a_module", "stop": {"timesteps_total": STEPS}}
    tiny["config"] |= {"num_env_runners": 2, "placement_strategy": "SPREAD", "rollouts_ahead": 1}
    results = tmp_path / "results"
    with start_run(cluster, write(tiny), results) as run:
        wait_for_results(run, results)
        before = places()
        victim = next(
            node
            for node in cluster.worker_nodes
            if node.node_id in before["QMixRolloutWorker"] and node.node_id not in before["K24QMix"]
        )
        steps_before = steps_of(results)[-1]
        cluster.remove_node(victim, allow_graceful=False)
        try:
            out, errors = run.communicate(timeout=PATIENCE_S)
        finally:
            cluster.add_node(num_cpus=2)  # as it was, for the next test
    assert run.returncode == 0, (out, errors)
    assert len({*before["K24QMix"], *before["QMixRolloutWorker"]}) == 3
    steps = steps_of(results)
    assert steps_before < STEPS <= steps[-1]
    assert steps == sorted(set(steps))
    assert "greedy return" in out


def bundles(**config: Any) -> Any:
    request = K24QMixConfig().apply_dict({"env": "mpe_simple", "total_env_steps": 1, **config})
    return request.algo_class.default_resource_request(request)


def test_a_trial_that_fits_no_cluster_is_refused(cluster: Cluster) -> None:
    check_room(bundles(num_env_runners=4).bundles)
    with pytest.raises(ConfigError, match=r"the cluster has 5 CPUs, a trial needs 9 \(8 workers beside"):
        check_room(bundles(num_env_runners=8).bundles)
    with pytest.raises(ConfigError, match="no node with 3 CPUs"):
        check_room(bundles(num_env_runners=1, num_cpus_per_env_runner=3).bundles)
    with pytest.raises(ConfigError, match="no node with 3 CPUs"):
        check_room(bundles(num_env_runners=2).bundles, "STRICT_PACK")
    with pytest.raises(ConfigError, match="has 3 nodes, a trial with STRICT_SPREAD needs 4"):
        check_room(bundles(num_env_runners=3).bundles, "STRICT_SPREAD")


def test_a_learner_takes_a_share_of_a_gpu_and_its_workers_none(cluster: Cluster) -> None:
    request = bundles(num_env_runners=2, num_gpus=0.25)
    assert [bundle.get("GPU", 0) for bundle in request.bundles] == [0.25, 0, 0]
    with pytest.raises(ConfigError, match=r"the cluster has 0 GPUs, a trial needs 0\.25"):
        check_room(request.bundles)


def test_nodes_get_the_package_and_the_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own.py").write_text("import my_other\n")
    (tmp_path / "my_other.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("my_own")
    shipped = [Path(path) for path in code_for_nodes(["my_own", "json"])["py_modules"]]
    assert {path.name for path in shipped} >= {"k24_rllib", "my_own.py", "my_other.py"}
    assert not any(path.suffix == ".py" and path.parent.name == "site-packages" for path in shipped)
