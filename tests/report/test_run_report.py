"""The report of one run: what is in it, and what it says of what is not there."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from k24_rllib.checks import ConfigError
from k24_rllib.experiments.checkpoints import policy_of
from k24_rllib.experiments.experiment import read_experiments
from k24_rllib.report import render, report_on, write_report
from k24_rllib.report.masks import masks_section
from tests.checkpoint_damage import flip_bit, lay_checkpoint
from tests.report.pages import Tags, charts_of, data_of, lay_run
from tests.trials import line


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    return lay_run(tmp_path / "exp" / "K24QMix_0")


def page(*given: Path | str) -> str:
    return render(report_on([str(each) for each in given]))


def test_the_return_has_its_interval_over_episodes_and_its_events(trial: Path) -> None:
    charts = charts_of(page(trial))
    greedy, training = charts["Return"]["lines"]
    assert greedy["x"] == list(range(100, 1001, 100))
    assert greedy["y"][0] == -59.0
    margin = 1.96 * 10.0 / 3**0.5  # the episodes' standard deviation is 10
    assert greedy["high"][0] - greedy["y"][0] == pytest.approx(margin, rel=1e-4)
    assert greedy["y"][0] - greedy["low"][0] == pytest.approx(margin, rel=1e-4)
    assert training["y"][-1] == -60.0
    marks = [(mark["x"], mark["name"]) for mark in charts["Return"]["marks"]]
    assert marks == [(400, "reset"), (800, "reset"), (900, "masks frozen")]
    assert all(chart["marks"] == charts["Return"]["marks"] for chart in charts.values())


def test_every_metric_is_somewhere(trial: Path) -> None:
    charts = charts_of(page(trial))
    assert [each["name"] for each in charts["Loss"]["lines"]] == ["loss", "loss_td"]
    assert charts["my_own_metric"]["lines"][0]["y"][-1] == pytest.approx(1000 / 7, rel=1e-5)


def test_the_score_is_on_the_right_where_it_is_known(tmp_path: Path) -> None:
    three = lay_run(tmp_path / "exp" / "QMix_0", checkpoints=0, env_config={"N": 3})
    label, scale, shift = charts_of(page(three))["Return"]["second"]
    assert label.startswith("score")
    assert scale * (-81.4 + shift) == pytest.approx(0.0, abs=1e-4)
    assert scale * (-25.0 + shift) == pytest.approx(1.0, abs=1e-4)
    assert charts_of(page(lay_run(tmp_path / "two" / "QMix_0", checkpoints=0)))["Return"]["second"] is None


def test_the_masks_in_the_page_are_those_of_the_checkpoint(trial: Path) -> None:
    pictures = next(section["masks"] for section in data_of(page(trial)) if section["masks"])
    layers = policy_of(trial / "checkpoint_000000").model.agent.layers()
    assert len(pictures) == len(layers)
    for picture, layer in zip(pictures, layers, strict=True):
        masks = layer.masks(explore=False).bool().numpy()
        owners, outputs, inputs = masks.shape
        assert (len(picture["owners"]), picture["outputs"], picture["inputs"]) == (owners, outputs, inputs)
        rows = np.frombuffer(base64.b64decode(picture["bits"]), np.uint8).reshape(owners, outputs, -1)
        assert (np.unpackbits(rows, axis=-1)[..., :inputs] == masks).all()


def test_owners_that_differ_are_told_apart(trial: Path) -> None:
    agent = policy_of(trial / "checkpoint_000000").model.agent
    alike = {table.caption.partition(":")[0]: table for table in masks_section(agent, ()).tables}["Alike"]
    assert alike.rows[1:] == [["owner 0", "1.00", "1.00"], ["owner 1", "1.00", "1.00"]]
    first = agent.layers()[0]
    first.hetero_alpha.data[1] = -8.0
    first.hetero_alpha.data[1, :, 2:4] = 8.0  # the second owner keeps columns 2 and 3 of the first group
    alike = {table.caption.partition(":")[0]: table for table in masks_section(agent, ()).tables}["Alike"]
    kept = [layer.masks(explore=False).flatten(1) for layer in agent.layers()]
    same = sum(float((its[0] == its[1]).sum()) for its in kept) / sum(its.shape[1] for its in kept)
    assert same < 1
    assert alike.rows[1][2] == alike.rows[2][1] == f"{same:.2f}"


def test_patterns_are_counted(trial: Path) -> None:
    agent = policy_of(trial / "checkpoint_000000").model.agent
    table = next(each for each in masks_section(agent, ()).tables if each.caption.startswith("Patterns"))
    assert table.rows[0] == ["owner", "1100", "1010", "1001", "0110", "0101", "0011"]
    for owner, row in enumerate(table.rows[1:]):
        groups = [
            layer.masks(explore=False)[owner, :, : 4 * layer.num_choice_groups].unflatten(-1, (-1, 4)).flatten(0, 1)
            for layer in agent.layers()
            if layer.in_features % 4 == 0
        ] + [
            layer.masks(explore=False)[owner, :, : layer.in_features // 4 * 4].unflatten(-1, (-1, 4)).flatten(0, 1)
            for layer in agent.layers()
            if layer.in_features % 4 != 0
        ]
        found = ["".join(str(int(kept)) for kept in group) for each in groups for group in each]
        assert row[1] == f"{found.count('1100') / len(found):.1%}"
        assert sum(float(cell.rstrip("%")) for cell in row[1:]) == pytest.approx(100, abs=0.4)


def test_layers_without_masks_are_not_drawn(small: Callable) -> None:
    from k24_rllib import QMixConfig

    section = masks_section(small(QMixConfig()).build_policy().model.agent, ())
    assert not section.masks
    assert section.notes == ["no layer has masks that differ between owners or leave weights out"]


def test_kaleidoscopes_masks_are_drawn_too(tmp_path: Path) -> None:
    agent = policy_of(lay_checkpoint(tmp_path / "c", "KaleidoscopeQMix")).model.agent
    section = masks_section(agent, ())
    captions = [table.caption.partition(":")[0] for table in section.tables]
    assert "Alike" in captions
    assert "Patterns" not in captions


def test_the_episode_is_the_policys_own(trial: Path) -> None:
    episode = next(section["episode"] for section in data_of(page(trial)) if section["episode"])
    steps = len(episode["actions"])
    assert len(episode["frames"]) == steps + 1
    assert episode["agents"] == ["agent_0", "agent_1"]
    for values, actions in zip(episode["values"], episode["actions"], strict=True):
        for its, action in zip(values, actions, strict=True):
            assert max(value for value in its if value is not None) == its[action]


def test_the_file_in_the_page_trains_the_same_run(trial: Path, tmp_path: Path) -> None:
    text = report_on([str(trial)]).sections[-1].text
    content = text[: text.index("\nrllib evaluate")]
    (tmp_path / "again.yaml").write_text(content)
    (experiment,) = read_experiments(tmp_path / "again.yaml")
    assert (experiment.name, experiment.run) == ("exp", "K24QMix")
    given = json.loads((trial / "params.json").read_text())
    assert {key: experiment.config[key] for key in given} == given
    assert list(experiment.stop.values()) == [1000]
    assert yaml.safe_load(content)


def test_a_run_without_evaluations(tmp_path: Path) -> None:
    trial = lay_run(tmp_path / "exp" / "QMix_0", checkpoints=0, evaluation_interval=None)
    (trial / "result.json").write_text(line(100, None, {"loss": 1.0}) + "\n" + line(200, None, {"loss": 0.5}) + "\n")
    html = page(trial)
    assert "has no greedy evaluation in 2 iterations: set evaluation_interval to have some" in html
    assert charts_of(html)["Loss"]["lines"][0]["y"] == [1.0, 0.5]


def test_a_half_written_file(trial: Path) -> None:
    written = (trial / "result.json").read_text().splitlines()
    written[3] = written[3][:40]
    (trial / "result.json").write_text("\n".join(written) + "\n" + written[-1][:50])
    html = page(trial)
    assert "result.json: line 4: is not a result, expected JSON" in html
    assert "line 11" not in html  # being written just now
    assert len(charts_of(html)["Return"]["lines"][0]["x"]) == 9


def test_files_that_are_none_at_all(trial: Path) -> None:
    (trial / "result.json").write_bytes(b"\xff\xfe\x00 no text")
    (trial / "params.json").write_text("{")
    text = Tags(page(trial)).text
    assert "params.json: can't be read" in text
    assert "result.json: is not a text file" in text
    assert "has no results yet" in text


def test_a_run_that_goes_on(trial: Path) -> None:
    text = (trial / "result.json").read_text().splitlines()
    (trial / "result.json").write_text("\n".join(text[:5]) + "\n")
    html = Tags(page(trial)).text
    assert (
        "not finished: still going on, or stopped: this is what there is at 500 environment steps, after 0:05" in html
    )


def test_a_run_that_failed_or_was_never_built(trial: Path, tmp_path: Path) -> None:
    (trial / "error.txt").write_text("boom")
    text = (trial / "result.json").read_text().splitlines()
    (trial / "result.json").write_text("\n".join(text[:5]) + "\n")
    assert "failed (error.txt says why)" in Tags(page(trial)).text
    unbuilt = tmp_path / "other" / "QMix_0"
    unbuilt.mkdir(parents=True)
    (unbuilt / "error.pkl").write_bytes(b"")
    assert "could not be built, so there is nothing to show" in Tags(page(unbuilt)).text


def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    trial = lay_run(tmp_path / "exp" / "K24QMix_0", checkpoints=2)
    state = "policies/default_policy/policy_state.pkl"
    flip_bit(trial / "checkpoint_000001" / state, 9999)
    html = page(trial)
    assert "checkpoint_000001 is damaged; what follows is of checkpoint_000000, the one before" in html
    assert any(section["masks"] for section in data_of(html))
    flip_bit(trial / "checkpoint_000000" / state, 9999)
    html = page(trial)
    assert f"are not here: {trial}/checkpoint_000001: {state} is damaged" in Tags(html).text
    assert "Loss" in charts_of(html)


def test_a_checkpoint_of_another_version(trial: Path) -> None:
    """Written by a version to come, as far as its manifest is concerned."""
    from k24_rllib.qmix import manifest

    content = manifest.read_manifest(trial / "checkpoint_000000")
    assert content is not None
    newer = manifest._render({**content, "format_version": 99})
    (trial / "checkpoint_000000" / "manifest.json").write_bytes(newer)
    assert "expected k24_rllib checkpoint 1" in Tags(page(trial)).text


def test_a_path_that_is_no_run(trial: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file or directory.*did you mean 'exp'"):
        report_on([str(tmp_path / "exq")])
    inside = trial / "checkpoint_000000" / "policies"
    with pytest.raises(ConfigError, match=f"holds no trial.*the nearest directory with some is {trial}$"):
        report_on([str(inside)])
    (tmp_path / "a.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match="is a YAML file, expected a run's directory"):
        report_on([str(tmp_path / "a.yaml")])


def test_what_comes_from_a_run_is_text(tmp_path: Path) -> None:
    evil = "<script>document.title='evil'</script><img src=x onerror=alert(1)>"
    trial = lay_run(tmp_path / "<b>exp&amp;" / "K24QMix_0", note=evil)
    results = [json.loads(text) for text in (trial / "result.json").read_text().splitlines()]
    for result in results:
        result["info"]["learner"]["default_policy"]["<script>x"] = 1.0
    (trial / "result.json").write_text("".join(json.dumps(result) + "\n" for result in results))
    html = page(trial)
    tags = Tags(html)
    assert [name for name, _ in tags.tags].count("script") == 5  # the data, and our four
    assert not any("onerror" in attributes for _, attributes in tags.tags)
    assert evil in tags.text
    assert "<script>x" in charts_of(html)
    assert "<b>exp&amp;: K24QMix on" in tags.text


def test_the_page_needs_nothing_else(trial: Path) -> None:
    html = page(trial)
    tags = Tags(html)
    for name, attributes in tags.tags:
        for key in ("src", "href"):
            value = attributes.get(key)
            assert value is None or value.startswith(("data:", "#")), (name, value)
    policy = next(its["content"] for name, its in tags.tags if its.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/2000/svg)", html)


def test_it_is_written_whole_or_not_at_all(trial: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.html"
    write_report([str(trial)], file)
    assert file.read_text().endswith("</html>\n") or file.read_text().endswith("</html>")
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["a.html"]
    with pytest.raises(ConfigError, match="can't be written"):
        write_report([str(trial)], tmp_path / "nowhere" / "a.html")


def test_it_costs_little(trial: Path) -> None:
    """Once RLlib is imported, as it is at the end of a training."""
    page(trial)
    began = time.process_time()
    html = page(trial)
    assert time.process_time() - began < 5
    assert len(html) < 1_000_000
