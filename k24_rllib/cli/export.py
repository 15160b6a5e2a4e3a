"""`rllib export`: a checkpoint's team as one file that acts without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from k24_rllib.checks import ConfigError, check_choice
from k24_rllib.cli.modules import add_import, import_modules
from k24_rllib.command_line import Parser, whole_number
from k24_rllib.experiments.checkpoints import find_network
from k24_rllib.experiments.export import FORMATS, OBSERVATIONS, export_checkpoint
from k24_rllib.experiments.ray_session import quiet_ray
from k24_rllib.serve.number_types import DTYPES


def make_parser(program: str) -> Parser:
    """Returns the parser of `rllib export`."""
    parser = Parser(
        prog=f"{program} export",
        usage=f"{program} export CHECKPOINT [options]",
        description="Write a checkpoint's team to one file that acts without Ray, and compare both.",
        epilog=f"{program} inspect FILE says what is in it; docs/serving.md how to act with it.",
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        nargs="?",
        help="a checkpoint's directory, or a trial's or experiment's, whose newest checkpoint is taken; or a file of "
        "weights alone (weights.safetensors in a checkpoint)",
    )
    parser.add_argument(
        "--format",
        default="packed",
        metavar="NAME",
        help="packed (the default): shared weights once, and each owner's patterns as bits; safetensors: each owner's "
        "weights as they are multiplied; onnx: a graph for onnxruntime; torch: a program of torch.export",
    )
    parser.add_argument(
        "--dtype", default="float32", metavar="NAME", help=f"what weights are rounded to: {', '.join(DTYPES)}"
    )
    parser.add_argument("--out", metavar="FILE", help="the file (default team.safetensors, team.onnx or team.pt2)")
    parser.add_argument(
        "--observations",
        default=OBSERVATIONS,
        metavar="N",
        help=f"agents' observations on which the file is compared with the checkpoint (default {OBSERVATIONS})",
    )
    add_import(parser)
    parser.add_verbose()
    return parser


def run(program: str, words: Sequence[str]) -> int:
    """Runs `rllib export` and returns its exit code."""
    arguments = make_parser(program).parse(words)
    if arguments.checkpoint is None:
        raise ConfigError(f"which checkpoint? expected {program} export CHECKPOINT")
    form = check_choice("--format", arguments.format, FORMATS)
    dtype = check_choice("--dtype", arguments.dtype, DTYPES)
    observations = whole_number("--observations", arguments.observations, 1)
    out = Path(arguments.out or f"team{FORMATS[form]}")
    import_modules(arguments.modules)
    if arguments.verbose == 0:
        quiet_ray()
    kind, checkpoint = find_network(arguments.checkpoint)
    print(f"{kind:<15}{checkpoint}", flush=True)
    done = export_checkpoint(checkpoint, out, form, dtype, observations)
    share, agreement = done.nbytes / done.weight_bytes, done.agreement
    print(f"{'file':<15}{done.path} ({form}, {dtype})")
    print(f"{'bytes':<15}{done.nbytes:,}, {share:.3f} of the {done.weight_bytes:,} of all that the checkpoint learns")
    print(
        f"{'same actions':<15}{agreement.equal:,} of {agreement.observations:,} (values differ by at most "
        f"{agreement.difference:.2g}, the largest is {agreement.magnitude:.3g})"
    )
    if form != "torch":
        print(f"{'inspect it':<15}{program} inspect {done.path}")
    return 0
