"""Compiling the kernels: once, and never in the way."""

from pathlib import Path

import pytest
import torch

from k24_rllib import kernels
from k24_rllib.models.gru import GRU
from k24_rllib.sparsity import JointPatterns, SemiStructuredLinear24


@pytest.fixture
def fresh_cache(monkeypatch, tmp_path: Path):
    """Lets a test compile anew, into a directory of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernels.library.cache_clear()
    yield tmp_path / "k24_rllib"
    kernels.library.cache_clear()


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "false"])
def test_without_a_working_compiler_pytorch_does_it(compiler: str, monkeypatch, fresh_cache: Path) -> None:
    torch.manual_seed(0)
    cell, plain = GRU(6, 16), GRU(6, 16, compiled=False)
    plain.load_state_dict(cell.state_dict())
    x, hidden = torch.randn(7, 5, 6), torch.zeros(1, 5, 16)
    layers = [SemiStructuredLinear24(8, 4, 2)]
    monkeypatch.setenv("CC", compiler)
    assert kernels.library() is None
    torch.testing.assert_close(cell(x, hidden), plain(x, hidden), rtol=0, atol=0)
    (made,), _ = JointPatterns(layers).make_weights(layers, explore=True)
    assert ((made.weights != 0).sum(-1) == 4).all()
    layers[0].observe(torch.full((2, 3, 8), 5.0), torch.ones(2, 3), made)
    assert (layers[0].tracker.value == 5.0).all()


def test_they_are_compiled_once(fresh_cache: Path) -> None:
    if kernels.library() is None:
        pytest.skip("no C compiler here")
    (compiled,) = fresh_cache.glob("kernels-*.so")
    written = compiled.stat().st_mtime_ns
    kernels.library.cache_clear()
    kernels.library()
    assert compiled.stat().st_mtime_ns == written
    assert list(fresh_cache.iterdir()) == [compiled]


def test_a_directory_that_cannot_be_written_to_is_no_error(monkeypatch, fresh_cache: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert kernels.library() is None


def test_a_machine_without_home_directories_is_no_error(monkeypatch, fresh_cache: Path) -> None:
    def nobody(cls: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", classmethod(nobody))
    assert kernels.library() is None
