"""Options of commands that many processes run together: who they are, from flags, environment or cluster."""

import argparse
import os
import sys
from typing import Any

from a2j_jax import processes, progress
from a2j_jax.cli.arguments import whole
from a2j_jax.errors import UserError
from a2j_jax.text import printable

# Option -> the environment variable that stands in for it.
_VARIABLES = {
    "coordinator_address": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
}


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how processes find each other."""
    group = parser.add_argument_group(
        "several processes",
        "The same command is run on every host, or once per GPU. The last three are also read from "
        "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, if all of them are set.",
    )
    group.add_argument(
        "--distributed",
        action="store_true",
        help="find the others by what Slurm, Open MPI, a TPU slice or Kubernetes says of this job",
    )
    group.add_argument("--coordinator_address", metavar="HOST:PORT", help="where process 0 listens")
    group.add_argument(
        "--num_processes", type=whole(1, 100_000), metavar="N", help="how many there are"
    )
    group.add_argument("--process_id", type=whole(0), metavar="I", help="which one this is, from 0")


def join_processes(arguments: argparse.Namespace) -> None:
    """Join the other processes, if there are any; from then on only the first one tells how it goes.

    Raises:
      UserError: options or variables that are missing, contradict each other or lead nowhere.
    """
    given = [getattr(arguments, name) for name in _VARIABLES]
    address, count, index = (
        _or_variable(value, variable)
        for value, variable in zip(given, _VARIABLES.values(), strict=True)
    )
    asked_for = arguments.distributed or any(value is not None for value in given)
    if not asked_for and None in (address, count, index):
        found = (address, count, index)
        absent = [v for v, x in zip(_VARIABLES.values(), found, strict=True) if x is None]
        # The address alone is JAX's own, for a cluster.
        if (count, index) != (None, None):
            raise UserError(
                f"{' and '.join(absent)} not set, where the other JAX_* variables of several processes are: set all "
                "three of them, or none, or give --distributed where the cluster says the rest"
            )
        return
    processes.initialize(
        address, _whole(count, "num_processes"), _whole(index, "process_id"), arguments.distributed
    )
    if processes.several():
        _keep_stdout_for_results()
    if not processes.is_first():
        progress.be_quiet()


def _keep_stdout_for_results() -> None:
    """From here on, what a C++ library prints goes to stderr: gloo greets every other process on stdout."""
    sys.stdout.flush()
    results = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    os.dup2(2, 1)
    sys.stdout = results


def _or_variable(value: Any, variable: str) -> Any:
    """An option, or the text of the environment variable that stands in for it; None: neither."""
    return value if value is not None else os.environ.get(variable) or None


def _whole(value: int | str | None, name: str) -> int | None:
    if not isinstance(value, str):
        return value
    try:
        return whole(0)(value)
    except argparse.ArgumentTypeError as error:
        shown = printable(value, 40)
        raise UserError(f"{_VARIABLES[name]}={shown}: expected a whole number") from error
