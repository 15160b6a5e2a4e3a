"""The files in `cluster/`: Ray's own schema for `ray up`, the fields that KubeRay wants, and commands that parse."""

from __future__ import annotations

import copy
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from k24_rllib.cli.train import make_parser
from k24_rllib.experiments import Overrides, read_experiments

ROOT = Path(__file__).parent.parent
UP = ROOT / "cluster" / "ray_up.yaml"
KUBERAY = ROOT / "cluster" / "kuberay.yaml"
PINNED = next(line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("ray["))
RAY = PINNED.partition("==")[2]


def command_of(text: str) -> Any:
    """Returns the arguments of the `rllib train` in a text, which must be good ones."""
    words = shlex.split(text.replace("\n#", "\n").rpartition("rllib train")[2])
    return make_parser("rllib").parse(words)


def kuberay() -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load(KUBERAY.read_text())
    return job


def pods() -> list[dict[str, Any]]:
    """Returns the specification of the head's pod and of each group's."""
    cluster = kuberay()["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_the_file_for_ray_up_fits_rays_schema() -> None:
    prepared = prepare_config(copy.deepcopy(yaml.safe_load(UP.read_text())))
    validate_config({**prepared, "cluster_synced_files": []})
    assert prepared["available_node_types"]["player"]["min_workers"] == 2
    with pytest.raises(Exception, match="Additional properties"):
        validate_config({**prepared, "cluster_synced_files": [], "no_such_key": 1})


def test_both_files_have_the_ray_that_was_tested() -> None:
    assert f"rayproject/ray:{RAY}" in yaml.safe_load(UP.read_text())["docker"]["image"]
    assert f"rayproject/ray:{RAY}" in (ROOT / "cluster" / "Dockerfile").read_text()
    assert kuberay()["spec"]["rayClusterSpec"]["rayVersion"] == RAY


def test_rays_dashboard_listens_to_the_head_alone() -> None:
    (start,) = (line for line in yaml.safe_load(UP.read_text())["head_start_ray_commands"] if "ray start" in line)
    assert "--dashboard-host=127.0.0.1" in start


def test_the_manifest_has_the_fields_that_kuberay_wants() -> None:
    job = kuberay()
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["metadata"]["name"]
    for pod in pods():
        (container,) = pod["containers"]
        assert container["name"]
        assert container["image"]
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}  # every node writes where all others read


def test_the_commands_run_an_example_and_their_clusters_hold_it() -> None:
    up = command_of(UP.read_text().partition('/runs"')[0] + "/runs")
    job = command_of(kuberay()["spec"]["entrypoint"])
    cpus = sum(int(pod["containers"][0]["resources"]["limits"]["cpu"]) for pod in pods())
    assert cpus == 4  # the head's and one player's; there are two players
    for arguments, room in ((up, 3 * 4), (job, 2 + 2 * 2)):
        assert arguments.ray_address == "auto"
        file = ROOT / "tuned_examples" / Path(arguments.file).name
        (experiment,) = read_experiments(file, Overrides(set=arguments.set))
        assert 1 + experiment.config["num_env_runners"] <= room
