"""Configs: found by name or path, overridden with checks, and complaints that name the way out."""

import dataclasses
import json
import re
from operator import attrgetter
from pathlib import Path

import pytest

from a2j_jax.config import Config, OptimConfig, from_dict, from_json, keys, override, to_json
from a2j_jax.config_files import load_config
from a2j_jax.errors import UserError

BASE = Config(name="base", track="nyu")
CONFIG_FILE = """\
from a2j_jax.config import Config, OptimConfig

def get_config():
    return Config(name="mine", track="icvl", optim=OptimConfig(batch_size={batch_size}))
"""


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def complaint(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_quickstart_is_found_by_name_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config("quickstart")
    assert (config.name, config.track) == ("quickstart", "synthetic_hand")


def test_the_papers_config_is_the_paper() -> None:
    config = load_config("nyu")
    assert (config.name, config.track, config.model.backbone) == ("nyu", "nyu", "resnet50")
    assert (config.model.width, config.model.head_features, config.model.head_depth) == (64, 256, 4)
    optim = config.optim
    assert (optim.batch_size, optim.preset, optim.learning_rate) == (64, "official", 3.5e-4)
    assert (optim.schedule, optim.weight_decay) == ("step", 1e-4)


def test_a_config_is_loaded_by_path_and_the_working_directorys_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "configs" / "quickstart.py", CONFIG_FILE.format(batch_size=7))
    config = load_config(path)
    assert (config.name, config.track, config.optim.batch_size) == ("mine", "icvl", 7)
    assert load_config("quickstart") == config


def test_an_unknown_config_names_the_nearest_and_lists_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "configs" / "body.py", CONFIG_FILE.format(batch_size=7))
    write(tmp_path / "configs" / "_shared.py", "")
    message = complaint(load_config, "quikstart")
    assert "'quikstart'; did you mean 'quickstart'?" in message
    listed = message.split("(there are: ")[1].rstrip(")").split(", ")
    assert "body" in listed
    assert "quickstart" in listed
    assert "_shared" not in listed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "defines no get_config"),
        ("def get_config():\n    return {}", "must return a Config, not dict"),
        ("x = 1\ny = undefined", "line 2: NameError"),
        ("def get_config(:", "SyntaxError"),
        ("import no_such_module_at_all", "no_such_module_at_all"),
        ("def get_config():\n    raise ValueError('one\\ntwo')", "line 2: ValueError: one two"),
        (CONFIG_FILE.format(batch_size="'7'"), "'optim.batch_size': '7'"),
        (CONFIG_FILE.format(batch_size=0), "'optim.batch_size': 0"),
        (CONFIG_FILE.replace("batch_size=", "batchsize="), "batchsize"),
    ],
)
def test_a_broken_config_file_is_named_with_its_mistake(
    tmp_path: Path, text: str, said: str
) -> None:
    path = write(tmp_path / "broken.py", text.replace("{batch_size}", "7"))
    message = complaint(load_config, path)
    assert message.startswith(path)
    assert said in message


@pytest.mark.parametrize(
    ("dotted", "text", "value"),
    [
        ("name", "other", "other"),
        ("name", "2017", "2017"),
        ("optim.learning_rate", "1e-4", 1e-4),
        ("optim.learning_rate", "1", 1.0),
        ("optim.freeze", "('trunk/',)", ("trunk/",)),
        ("optim.freeze", "trunk/layer1,trunk/layer2", ("trunk/layer1", "trunk/layer2")),
        ("optim.batch_size", "32", 32),
        ("optim.steps", "None", None),
        ("optim.steps", "none", None),
        ("optim.schedule", "cosine", "cosine"),
        ("augment.enabled", "False", False),
        ("augment.enabled", "true", True),
        ("augment.scale_range", "(0.8, 1.2)", (0.8, 1.2)),
        ("augment.scale_range", "[1, 2]", (1.0, 2.0)),
        ("augment.scale_range", "1,2", (1.0, 2.0)),
        ("model.init_from", "weights/NYU.pth", "weights/NYU.pth"),
        ("data.dir", "/data/a b", "/data/a b"),
        ("data.dir", "'quoted'", "quoted"),
        ("data.eval_split", "test[:100]", "test[:100]"),
    ],
)
def test_overrides_take_the_type_of_their_key(dotted: str, text: str, value: object) -> None:
    changed = override(BASE, dotted, text)
    found, before = (attrgetter(dotted)(config) for config in (changed, BASE))
    assert found == value
    assert type(found) is type(value)
    assert override(changed, dotted, text) == changed
    assert override(changed, dotted, repr(before)) == BASE  # nothing else has changed


@pytest.mark.parametrize(
    ("dotted", "text", "wanted"),
    [
        # Of another type.
        ("optim.batch_size", "many", "integer"),
        ("optim.batch_size", "3.5", "integer"),
        ("optim.batch_size", "1e9", "integer"),
        ("optim.batch_size", "True", "integer"),
        ("optim.batch_size", "None", "integer"),
        ("optim.batch_size", "", "integer"),
        ("optim.learning_rate", "fast", "number"),
        ("optim.learning_rate", "True", "number"),
        ("augment.enabled", "1", "boolean"),
        ("augment.scale_range", "0.8", "tuple"),
        ("augment.scale_range", "(1, 2, 3)", "2 items"),
        ("augment.scale_range", "('a', 'b')", "number"),
        # Not one of the words.
        ("optim.schedule", "linear", "'constant', 'step' or 'cosine'"),
        ("model.backbone", "resnet101", "'resnet50'"),
        ("model.stem_channels", "True", "1 or 3"),
        ("model.dtype", "bf16", "did you mean 'bfloat16'"),
        ("model.dtype", "float16", "did you mean 'bfloat16'"),
        ("model.backbone", "resnet51", "did you mean 'resnet5"),
        # Of another size.
        ("optim.batch_size", "0", "1"),
        ("optim.learning_rate", "-1e-3", "0"),
        ("optim.learning_rate", "1e999", "finite"),
        ("optim.ema_decay", "99.9", "1"),
        ("augment.scale_range", "1.5,1.2", "the smaller one first"),
        ("augment.scale_range", "-1,1", "0.01"),
        ("data.frame_size", "9,99999", "8192"),
        ("run.seed", "4294967296", "4294967295"),
        # No paths of this machine.
        ("data.dir", "hdfs://bucket/x", "not supported"),
        ("model.init_from", "", "is empty"),
        ("name", "../elsewhere", "name of a folder"),
    ],
)
def test_a_wrong_value(dotted: str, text: str, wanted: str) -> None:
    message = complaint(override, BASE, dotted, text)
    assert f"config key {dotted!r}: " in message
    assert wanted in message


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("optim.learning_rat", "optim.learning_rate"),
        ("optim.lerning-rate", "optim.learning_rate"),
        ("optim.batchsize", "optim.batch_size"),
        ("opim.batch_size", "optim.batch_size"),
        ("batch_size", "optim.batch_size"),
        ("model.learning_rate", "optim.learning_rate"),
        ("optm", "optim"),
        ("trak", "track"),
    ],
)
def test_an_unknown_key_names_the_nearest_in_full(wrong: str, right: str) -> None:
    message = complaint(override, BASE, wrong, "1")
    assert f"unknown config key {wrong!r}; did you mean {right!r}?" in message


def test_a_key_like_no_other_lists_what_there_is() -> None:
    message = complaint(override, BASE, "zzz", "1")
    assert "did you mean" not in message
    assert (
        "valid here: augment, data, loss, model, name, optim, options, parallel, parts, run, track"
        in message
    )


def test_a_group_is_not_a_value() -> None:
    message = complaint(override, BASE, "optim", "1")
    assert "is a group" in message
    assert "optim.learning_rate" in message
    for dotted in ("", ".", "optim.", "optim.steps.more"):
        assert "unknown config key" in complaint(override, BASE, dotted, "1")


def test_json_keeps_everything() -> None:
    config = load_config("quickstart")
    assert config.augment.scale_range is not None  # a tuple, which JSON does not have
    assert from_json(to_json(config)) == config
    assert from_json(to_json(BASE)) == BASE


def test_json_without_a_newer_key_takes_its_default() -> None:
    values = json.loads(to_json(BASE))
    del values["run"]["keep_best"]
    del values["loss"]
    assert from_json(json.dumps(values)) == BASE


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"optim": {"momentum": 0.9}}, "'optim.momentum' is unknown"),
        ({"color": 1, "taste": 2}, "'color' is unknown; config key 'taste' is unknown"),
        ({"optim": {"batch_size": "8"}}, "'optim.batch_size': '8'"),
        ({"optim": {"batch_size": 0}}, "'optim.batch_size': 0"),
        ({"augment": {"scale_range": [1, 2, 3]}}, "'augment.scale_range'"),
        ({"model": 3}, "'model': 3"),
    ],
)
def test_json_of_another_version(edit: dict, said: str) -> None:
    message = complaint(from_json, json.dumps({**json.loads(to_json(BASE)), **edit}))
    assert "not a config of this version" in message
    assert said in message


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '"config"', '{"track": "nyu"}'])
def test_json_that_is_no_config(text: str) -> None:
    said = r"not a config of this version of a2j_jax: .|not readable as JSON"
    message = complaint(from_json, text)
    assert re.search(said, message)
    assert ("'name' is missing" in message) == ("nyu" in text)


def test_of_thousands_of_faults_some_are_told() -> None:
    message = complaint(from_json, json.dumps({f"k{i}": 1 for i in range(2000)}))
    assert "'k0' is unknown" in message
    assert "'k1000'" not in message
    assert message.endswith("; and 1,982 more")


def test_a_runs_own_config_is_loaded(tmp_path: Path) -> None:
    changed = override(BASE, "optim.batch_size", "7")
    path = write(tmp_path / "config.json", to_json(changed))
    assert load_config(path) == changed


def test_a_track_beside_a_runs_config_is_its_track(tmp_path: Path) -> None:
    own = write(tmp_path / "run" / "track.json", "{}")
    made_elsewhere = override(BASE, "track", "/of/another/machine/track.json")
    assert load_config(write(tmp_path / "run" / "c.json", to_json(made_elsewhere))).track == own
    assert load_config(write(tmp_path / "run" / "b.json", to_json(BASE))).track == "nyu"


def test_a_json_file_that_is_no_config(tmp_path: Path) -> None:
    path = write(tmp_path / "config.json", '{"name": "x", "track": "nyu", "optim": {"batch": 7}}')
    message = complaint(load_config, path)
    assert message.startswith(f"{path}: ")
    assert "'optim.batch' is unknown; did you mean 'optim.batch_size'" in message
    for name in ("none.json", "none.py"):
        assert f"config file not found: {name}" in complaint(load_config, name)


def test_every_number_has_a_range_and_every_key_a_meaning() -> None:
    for key in keys():
        assert key.meaning, key
        assert (key.bounds is None) == (key.kind.split(" or ")[0] not in ("int", "float")), key
        if isinstance(key.default, int | float) and key.bounds is not None:
            assert key.bounds[0] <= key.default <= key.bounds[1]


@pytest.mark.parametrize("name", [key.name for key in keys() if re.match("int|float", key.kind)])
def test_numbers_out_of_range_are_refused(name: str) -> None:
    count = {"augment.scale_range": 2, "data.camera": 4, "data.frame_size": 2}.get(name, 1)
    for text in ("-1e30", "1e30", "nan", "inf", "1e999", "9" * 5000, "1" + "0" * 400):
        message = complaint(override, BASE, name, ",".join([text] * count))
        assert f"config key {name!r}" in message
        assert len(message) < 400
    for value in (float("nan"), float("inf"), 10**12, -1e9):
        group, key = name.split(".")
        edited = dataclasses.asdict(BASE)
        edited[group][key] = [value] * count if count > 1 else value
        with pytest.raises(UserError, match=name):
            from_dict(edited)


def test_a_config_made_in_python_is_checked() -> None:
    with pytest.raises(ValueError, match="batch_size"):
        OptimConfig(batch_size=0)
    with pytest.raises(ValueError, match="batch_size"):
        dataclasses.replace(BASE.optim, batch_size="8")  # type: ignore[arg-type]
