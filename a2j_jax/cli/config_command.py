"""Print every value of a config with its meaning and where it comes from."""

import argparse
import json
import operator
from typing import TYPE_CHECKING, Any

from a2j_jax.cli.arguments import config_with_overrides, path_name
from a2j_jax.errors import printable

if TYPE_CHECKING:
    from a2j_jax.config import Config, Key

EXAMPLES = """\
examples:
  a2j config nyu
  a2j config runs/quickstart/config.json --json
  a2j config table7/no_proposals --base itop_front --config.optim.preset=paper
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `a2j config`."""
    config = "a name in configs/, a .py file, or a run's config.json"
    parser.add_argument("config", type=path_name, help=config)
    parser.add_argument("--base", type=path_name, metavar="CONFIG", help="as in a2j train")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def run(arguments: argparse.Namespace) -> None:
    """Print."""
    config = config_with_overrides(arguments.config, arguments.overrides, arguments.base)
    values = _values(config, {key for key, _ in arguments.overrides})
    if arguments.json:
        print(json.dumps({"config": config.name, "values": values}, indent=2, allow_nan=False))
        return
    for name, found in values.items():
        print(f"{name} = {_text(found['value'])}  ({found['source']})\n    {found['meaning']}")


def print_keys() -> None:
    """All keys with their defaults and meanings: `a2j train --config.help`."""
    from a2j_jax.config import keys

    for key in keys():
        print(f"--config.{key.name}={_text(key.default)}\n    {_meaning(key)}")


def _values(config: "Config", overridden: set[str]) -> dict[str, Any]:
    """Every key: its value (of a preset or the track where the config leaves it open), its source, its meaning."""
    from a2j_jax.config import keys
    from a2j_jax.runs.experiment import resolve

    experiment = resolve(config)
    preset, track = experiment.config, experiment.track
    of_track = {
        "data.crop_size": track.crop_size,
        "loss.regression_weight": track.loss_lambda,
        **{f"augment.{name}": value for name, value in vars(track.augmentation).items()},
    }
    if config.data.normalization == "published":
        of_track |= {"data.mean": track.mean, "data.std": track.std}
    found = {}
    for key in keys():
        get = operator.attrgetter(key.name)
        value = get(config)
        source = "default" if value == key.default else f"config {config.name}"
        if key.name in overridden:
            source = "command line"
        elif value is None and get(preset) is not None:
            group = key.name.partition(".")[0]
            value, source = get(preset), f"preset {getattr(config, group).preset}, {track.name}"
        elif value is None and key.name in of_track:
            value, source = of_track[key.name], f"track {track.name}"
        found[key.name] = {"value": value, "source": source, "meaning": _meaning(key)}
    return found


def _meaning(key: "Key") -> str:
    bounds = "" if key.bounds is None else ", from {:.10g} to {:.10g}".format(*key.bounds)
    return f"{key.meaning} [{key.kind}{bounds}]"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return printable(",".join(map(str, value)) if isinstance(value, tuple) else str(value))
