"""Parts of an experiment's own: found, checked, recorded, and as good as the package's in everything that runs."""

import dataclasses
import importlib
import importlib.metadata
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2j_jax.baselines import GlobalRegression, HeatMapFCN
from a2j_jax.config import Config, from_json, override, to_json
from a2j_jax.config_files import load_config
from a2j_jax.errors import UserError
from a2j_jax.inference.predictor import Predictor
from a2j_jax.parts import needed_path, only_installed, source_of
from a2j_jax.runs.checkpoints import save_variables
from a2j_jax.runs.experiment import differences, fill_in, resolve
from a2j_jax.runs.load import restore
from a2j_jax.runs.run_dir import read_config
from a2j_jax.training.run import check_run_directory, run_experiment, schedule_of
from a2j_jax.training.step import check_parts
from tests import own_parts, tiny

OURS = dataclasses.replace(tiny.config(), parts="tests.own_parts:parts")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Writes a module of parts into a folder that Python looks into."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(text: str, name: str = "theirs") -> Config:
        header = "from a2j_jax import A2J, Parts\n"
        (tmp_path / f"{name}.py").write_text(header + text)
        return dataclasses.replace(tiny.config(), parts=f"{name}:parts")

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_all_parts_are_taken() -> None:
    assert all(part is None for part in vars(resolve(tiny.config()).parts).values())
    experiment = resolve(OURS)
    assert isinstance(experiment.model, own_parts.Tiny)
    assert experiment.objective.__module__ == "tests.own_parts"
    assert experiment.prepare.__module__ == "tests.own_parts"


@pytest.mark.parametrize("name", ["synthetic_hand", "k2hpd"])
def test_the_baselines_are_parts(name: str) -> None:
    for parts, kind in (("global_regression", GlobalRegression), ("heat_maps", HeatMapFCN)):
        config = dataclasses.replace(tiny.config(track=name), parts=f"a2j_jax.baselines:{parts}")
        assert isinstance(resolve(config).model, kind)
        assert source_of(config.parts) is None


@pytest.mark.parametrize(
    ("before", "parts"),
    [
        ("regression", "a2j_jax.baselines:global_regression"),
        ("heat_maps", "a2j_jax.baselines:heat_maps"),
        ("a2j", None),
    ],
)
def test_configs_of_earlier_versions_name_a_paradigm(before: str, parts: str | None) -> None:
    values = json.loads(to_json(tiny.config()))
    values["model"]["paradigm"] = before
    del values["parts"], values["options"]
    assert from_json(json.dumps(values)).parts == parts
    assert override(tiny.config(), "model.paradigm", before).parts == parts


def test_options_reach_the_parts_by_name() -> None:
    config = override(OURS, "options.drop", "0.25")
    assert config.options == {"drop": 0.25}
    assert resolve(config).model.drop == 0.25  # type: ignore[attr-defined]
    assert from_json(to_json(config)) == config
    (found,) = differences(fill_in(OURS), fill_in(config))
    assert found.key == "options"


@pytest.mark.parametrize(
    ("hint", "value", "found"),
    [
        ("bool", "false", False), ("float", "1e-3", 1e-3), ("tuple[int, int]", [1, 2], (1, 2)), ("str", "3", "3"),
        ("float", "abc", UserError), ("tuple[int, ...]", 3, UserError), ("'str | None'", [1], UserError),
        ("'NotThere'", "abc", "abc"),  # that only a type checker can read
    ],
)  # fmt: skip
def test_options_are_what_their_annotations_say(
    module: Any, hint: str, value: Any, found: Any
) -> None:
    config = module(
        f"def parts(config, track, *, it: {hint}):\n"
        "  return Parts(schedule=lambda steps, steps_per_epoch: it)"
    )
    config = dataclasses.replace(config, options={"it": value})
    if found is UserError:
        with pytest.raises(UserError, match=r"'options\.it'"):
            resolve(config)
        return
    schedule = resolve(config).parts.schedule
    assert schedule is not None
    assert type(schedule(1, 1)) is type(found)
    assert schedule(1, 1) == found


def test_options_may_be_read_from_the_config(module: Any) -> None:
    config = module("def parts(config, track):\n  config.options.get('reach', 3)\n  return Parts()")
    resolve(override(config, "options.reach", "40"))
    with pytest.raises(UserError, match=r"'options.raech'.*did you mean 'reach'"):
        resolve(override(config, "options.raech", "40"))


NET = (
    "import jax.numpy as jnp\nfrom a2j_jax.models.anchors import Estimate\n"
    "class N(A2J):\n  def decode(self, outputs, size): {}\n"
    "def parts(config, track): return Parts(network=N(21))"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def parts(config, track): return 3", "expected a2j_jax.Parts, but it returned int"),
        ("def other(config, track): return Parts()", "no function 'parts'"),
        ("parts = 3", "no function 'parts'"),
        ("from os import system as parts", "no function 'parts'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit"),
        ("import not_there_at_all", "No module named 'not_there_at_all'"),
        ("def parts(config, track): raise ValueError('no such loss')", "no such loss"),
        ("def parts(config, track): return Parts(network=3)", "expected an a2j_jax.PoseNetwork"),
        ("def parts(config, track): return Parts(objective=3)", "objective: expected a function"),
        ("def parts(config, track): return Parts(network=A2J(5))", "joints (2, 21, 3)"),
        ("def parts(config, track): return Parts(network=A2J(21, 2))", "joints (2, 21, 3)"),
        (NET.format("return Estimate(jnp.zeros((1, 21, 3)), jnp.ones((1, 21)))"),
         "found Estimate of an array (1, 21, 3) of float32, an array (1, 21)"),  # whatever the number of crops
        (NET.format("return tuple(super().decode(outputs, size))"), "found tuple"),
        (NET.format("return Estimate(*(x.astype(int) for x in super().decode(outputs, size)))"),
         "found Estimate of an array (2, 21, 3) of int32"),
        (NET.format("return Estimate(jnp.zeros((2, 21, 3)), jnp.ones((2, 21)))").replace("N(21)", "N(5)"),
         "num_joints 5 and joint_dims 3: expected 21 and 3"),
        ("class N(A2J):\n  def __call__(self, images, train=False): return images\n"
         "def parts(config, track): return Parts(network=N(21), objective=lambda o, t, *, count, step: 0)",
         "its variables are none"),
        ("import functools\nparts = functools.partial(print)", "expected a plain function"),
        ("class N(A2J):\n  def decode(self, o, c): return o\n"
         "def parts(config, track): return Parts(network=N(21))", "expected an Estimate"),
        ("from tests.own_parts import Tiny\n"
         "def parts(config, track): return Parts(network=Tiny(21))", "expected an objective"),
        ("def parts(config, track): return Parts(objective=lambda outputs, targets: 3)",
         "objective: expected a function of (outputs, targets, *, count, step), found (outputs, targets)"),
        ("def parts(config, track): return Parts(schedule=lambda steps: 3)", "(steps, steps_per_epoch)"),
        ("def parts(config, track): return Parts(optimizer=lambda: 3)", "(schedule)"),
        ("def parts(config, track): return Parts(prepare=lambda batch: 3)", "(batch, keys)"),
        ("from a2j_jax.losses import with_terms\n"
         "def parts(config, track): return Parts(objective=with_terms(print, mine=print))", "(weight, function)"),
        ("from a2j_jax.losses import with_terms\n"
         "def parts(config, track): return Parts(objective=with_terms(print, mine=('1', print)))", "a finite weight"),
        (NET.format("return super().decode(outputs, size).joints"), "found an array (2, 21, 3)"),
        ("class N(A2J):\n  def trunk_features(self, x, train, stride): return x\n"
         "def parts(config, track): return Parts(network=N(21))", "expected a2j_jax.models.resnet.Features"),
        ("from a2j_jax.models.resnet import Features\nclass N(A2J):\n"
         "  def trunk_features(self, x, train, stride): return Features(x[:, ::16, ::16], x[:, ::8, ::8])\n"
         "def parts(config, track): return Parts(network=N(21))",
         "N.trunk_features: regression has shape (2, 4, 4, 1): expected (2, 2, 2, channels), stride 16"),
        ("def parts(config, track, *, reach=3): return Parts()", ""),
    ],
)  # fmt: skip
def test_mistakes_are_named_before_any_data_is_read(module: Any, text: str, said: str) -> None:
    config = module(text)
    if not said:
        config, said = override(config, "options.rech", "1"), "did you mean 'reach'"
    with pytest.raises(UserError) as caught:
        resolve(config)
    assert said in str(caught.value)
    assert "theirs" in str(caught.value)
    assert "\n" not in str(caught.value)


ABOUT = "outputs, targets, *, count, step"


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (f"objective=lambda {ABOUT}: outputs.offset.mean()", "returned an array ()"),
        (f"objective=lambda {ABOUT}: Losses(outputs.offset.mean(0), {{}})", "'total' is an array ("),
        (f"objective=lambda {ABOUT}: Losses(outputs.offset.mean(), {{'own': targets['joints']}})",
         "'own' is an array ("),
        (f"objective=lambda {ABOUT}: targets['jonts']", "KeyError: 'jonts' (/"),
        (f"objective=lambda {ABOUT}: Losses(outputs.offset.mean(), None)", "terms are NoneType"),
        (f"objective=lambda {ABOUT}: Losses(outputs.offset.mean(), {{3: 1.0}})", "dict of names"),
        (f"objective=lambda {ABOUT}: Losses(outputs.offset.mean(), {{'x': None}})", "'x' is NoneType"),
        (f"objective=lambda {ABOUT}: Losses(outputs.offset.mean(), {{'x': 1j * count}})", "of complex64"),
        (f"objective=lambda {ABOUT}: Losses(count, {{}})", "'total' is an array () of int32"),
        (f"objective=lambda {ABOUT}: Losses(outputs.offset.mean(), {{'step': step}})", "term 'step'"),
        (f"objective=lambda {ABOUT}: Losses(outputs.offset.mean(), {{'loss': step}})", "term 'loss'"),
        ("make_step=lambda *p, **s: lambda state, *_: (state, {'time': state.step})", "'time'"),
        ("schedule=lambda steps, epoch: lambda step: None", "at step 0 is NoneType"),
        ("schedule=lambda steps, epoch: lambda step: float('nan')", "at step 0 is nan"),
        ("prepare=lambda batch, keys: batch['canvas']", "expected (images, targets)"),
        ("prepare=lambda batch, keys: (batch['canvas'], batch['valid'])", "targets a dict"),
        ("prepare=lambda batch, keys: (batch['canvas'], batch)", "expected (4, 32, 32, 1)"),
        ("prepare=lambda batch, keys: (jnp.zeros((4, 32, 32, 2)), batch)", "expected (4, 32, 32,"),
        ("prepare=lambda batch, keys: (jnp.zeros((2, 32, 32, 1)), batch)", "expected (4, 32, 32,"),
        ("prepare=lambda batch, keys: (jnp.zeros((4, 32, 32, 1), int), batch)", "of int32 as images"),
        ("objective=with_terms(objective_of(config.loss, track), regression=(1.0, print))", "'regression' already"),
        ("objective=with_terms(objective_of(config.loss, track), mine=(1.0, lambda *a, **b: jnp.ones(3)))",
         "mine has shape (3,)"),
        ("optimizer=lambda schedule: 3", "optimizer returned int"),
        ("schedule=lambda steps, epoch: 1e-3", "schedule returned float"),
        ("make_step=lambda *parts, **settings: None", "make_step returned NoneType"),
        ("make_step=lambda *parts, **settings: lambda state, *_: state", "returned TrainState"),
        ("make_step=lambda *p, **s: lambda state, *_: (state.params, {})", "other shapes"),
    ],
)  # fmt: skip
def test_the_step_is_traced_before_any_data_is_read(module: Any, part: str, said: str) -> None:
    names = "import jax.numpy as jnp\nfrom a2j_jax import Losses, with_terms\nfrom a2j_jax.losses import objective_of"
    config = module(f"{names}\ndef parts(config, track): return Parts({part})")
    with pytest.raises(UserError) as caught:
        check_parts(resolve(config))
    assert said in str(caught.value)
    assert "theirs:parts" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_schedule_is_tried_with_the_length_of_the_run(module: Any) -> None:
    config = module(
        "import optax\ndef parts(config, track): return Parts(\n"
        "  schedule=lambda steps, epoch: optax.cosine_decay_schedule(1e-3, steps - 500))"
    )
    check_parts(resolve(override(config, "optim.steps", "600")))
    check_parts(resolve(override(config, "optim.steps", "none")))  # not known yet
    with pytest.raises(UserError, match="decay_steps=-494"):
        check_parts(resolve(config))
    with pytest.raises(UserError, match=r"theirs:parts failed.*decay_steps=-494"):
        schedule_of(resolve(config), 8)


def test_right_parts_pass() -> None:
    check_parts(resolve(tiny.config()))
    check_parts(resolve(OURS))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ("nobody.has.this:parts", "no module 'nobody'"),
        ("a2j_jax.baselines:heatmaps", "did you mean 'heat_maps'"),
        ("tests.own_part:parts", r"did you mean 'tests\.own_parts'"),
        ("tests.own_parts", "expected MODULE:FUNCTION"),
        ("../own_parts.py:parts", "expected MODULE:FUNCTION"),
    ],
)
def test_wrong_paths(parts: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve(override(tiny.config(), "parts", parts))


def test_options_without_parts_or_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(UserError, match="options are of a config with parts"):
        resolve(override(tiny.config(), "options.reach", "1"))
    for text in ("1e999", "1j", "b'x'", "{1, 2}"):
        with pytest.raises(UserError, match=r"'options'.*values that JSON has"):
            override(OURS, "options.drop", text)


def test_a_config_that_was_edited_is_named_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_variables(tmp_path / "run", tiny.variables(), tiny.config())
    path = tmp_path / "run" / "config.json"
    before = path.read_text()
    for name in ("os:system", "a2j_jax.__main__:console", "a2j_jax.parts:built"):
        path.write_text(before.replace('"parts": null', f'"parts": "{name}"'))
        with pytest.raises(UserError) as caught:
            restore(tmp_path / "run")
        assert str(caught.value).startswith(f"{path}: ")
        assert str(caught.value).count(name) <= 2
    assert capsys.readouterr().out == ""


def test_a_config_may_import_its_neighbors(tmp_path: Path) -> None:
    (tmp_path / "neighbor_parts.py").write_text(
        "from a2j_jax import Parts\ndef parts(config, track): return Parts()\n"
    )
    (tmp_path / "mine.py").write_text(
        "from a2j_jax import Config\nimport neighbor_parts\n"
        "def get_config():\n  return Config(name='x', track='nyu', parts='neighbor_parts:parts')\n"
    )
    before = sys.path[:]
    try:
        assert resolve(load_config(str(tmp_path / "mine.py"))).config.name == "x"
    finally:
        sys.modules.pop("neighbor_parts", None)
    assert sys.path == before


def test_a_recorded_name_is_not_looked_up_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brought.py").write_text("raise SystemError('code of a checkpoint ran')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    config = dataclasses.replace(tiny.config(), parts="brought:parts")
    with pytest.raises(UserError, match="no module 'brought'"), only_installed(config.parts):
        resolve(config)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # the reader's own choice
    with pytest.raises(UserError, match="code of a checkpoint ran"), only_installed(config.parts):
        resolve(config)


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all parts its own."""
    workdir = tmp_path_factory.mktemp("runs") / "own"
    config = dataclasses.replace(tiny.config(tiny_data, ema_decay=0.9), parts=OURS.parts)
    run_experiment(config, workdir)
    return workdir


@pytest.mark.slow
def test_a_run_of_own_parts_trains_and_is_read(trained: Path) -> None:
    records = map(json.loads, (trained / "metrics.jsonl").read_text().splitlines())
    steps = [record for record in records if record["kind"] == "train"]
    assert [record["step_seen"] for record in steps] == [0, 1, 2, 3, 4, 5]
    assert all(record["own_step"] == 1 for record in steps)
    assert all(record["loss"] == pytest.approx(record["of_ours"]) for record in steps)
    assert steps[-1]["learning_rate"] == pytest.approx(1e-2 / 6)
    predictor = Predictor.from_checkpoint(trained)
    assert isinstance(restore(trained).model, own_parts.Tiny)
    depth = np.full((480, 640), 2000.0, np.float32)
    depth[200:260, 300:360] = 600
    assert np.isfinite(predictor(depth).joints_uvd).all()


@pytest.mark.slow
def test_the_run_records_their_source(trained: Path) -> None:
    record = json.loads((trained / "parts.json").read_text())
    source = source_of(OURS.parts)
    assert source is not None
    assert record.keys() == source.record.keys()
    for key in ("parts", "package", "version"):
        assert record[key] == source.record[key]
    # Which other modules of the package are imported, and what these import, depends on the tests that ran before.
    name = "tests/own_parts.py"
    assert record["digests"][name] == source.record["digests"][name]
    assert record["packages"]["flax"] == importlib.metadata.version("flax")
    kept = trained / "parts" / "tests" / "own_parts.py.txt"
    assert kept.read_text() == Path(own_parts.__file__).read_text()


@pytest.mark.slow
def test_another_experiment_does_not_continue_it(trained: Path) -> None:
    config = read_config(trained)
    for key, text in {"parts": "none", "options.drop": "0.3"}.items():
        with pytest.raises(UserError, match=key.partition(".")[0]):
            check_run_directory(trained, fill_in(override(config, key, text)))


def test_a_changed_source_is_said(
    module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = module("def parts(config, track): return Parts()")
    resolve(config)
    save_variables(tmp_path / "run", tiny.variables(), config)
    (tmp_path / "beside.py").write_text("import theirs\n")
    importlib.import_module("beside")  # another module of theirs does not count
    restore(tmp_path / "run")
    assert "has changed" not in capsys.readouterr().err
    with (tmp_path / "theirs.py").open("a") as file:
        file.write("\n# another loss\n")
    restore(tmp_path / "run")
    said = " ".join(capsys.readouterr().err.split())
    assert "theirs:parts: theirs.py has changed since step 0 was saved" in said


def test_parts_composed_of_others_are_recorded_with_them(module: Any, tmp_path: Path) -> None:
    """A module without `a2j_jax`, of parts from another package, one of them imported in the function."""
    package = tmp_path / "elsewhere" / "lab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "losses.py").write_text("from . import terms\n")
    (package / "terms.py").write_text("TERM = 1\n")
    (package / "unused.py").write_text("")
    module("import numpy\ndef parts(config, track): return Parts()", "base")
    config = module("")
    (tmp_path / "theirs.py").write_text(
        "import dataclasses\nimport sys\nimport base\n"
        f"def parts(config, track):\n  sys.path.append({str(package.parent)!r})\n  import lab.losses\n"
        "  return dataclasses.replace(base.parts(config, track))\n"
    )
    try:
        resolve(config)
    finally:
        sys.path.remove(str(package.parent))
    source = source_of(config.parts)
    assert source is not None
    assert list(source.files) == [
        "base.py",
        "lab/__init__.py",
        "lab/losses.py",
        "lab/terms.py",
        "theirs.py",
    ]
    assert source.record["packages"]["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("start", "encoding"), [("# -*- coding: latin-1 -*-\n# é", "latin-1"), ("# é", "utf-8-sig")]
)
def test_files_of_other_encodings_are_recorded(
    module: Any, tmp_path: Path, start: str, encoding: str
) -> None:
    module("", "beside")
    config = module("")
    text = f"{start}\nimport beside\nfrom a2j_jax import Parts\ndef parts(config, track): return Parts()\n"
    (tmp_path / "theirs.py").write_text(text, encoding=encoding)
    resolve(config)
    source = source_of(config.parts)
    assert source is not None
    assert list(source.files) == ["beside.py", "theirs.py"]
    assert source.files["theirs.py"] == text


def test_parts_beside_a_config_need_their_folder_later(module: Any, tmp_path: Path) -> None:
    assert needed_path(None) == needed_path("a2j_jax.baselines:heat_maps") == ""
    config = module("def parts(config, track): return Parts()")
    resolve(config)
    assert needed_path(config.parts) == f"PYTHONPATH={tmp_path} "


def test_a_function_of_something_else_is_refused(module: Any, tmp_path: Path) -> None:
    config = module("")
    (tmp_path / "theirs.py").write_text("def parts(config, track): return None\n")
    with pytest.raises(UserError, match=r"theirs:parts: neither theirs nor .* has a2j_jax"):
        resolve(config)


def test_parts_that_are_not_here_are_named_with_their_package(
    trained: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    for path in (copy / "config.json", *copy.glob("checkpoints/*/manifest.json")):
        path.write_text(path.read_text().replace("tests.own_parts", "gone.away"))
    (copy / "parts.json").write_text(json.dumps({"package": "their-paper", "version": "1.2"}))
    with pytest.raises(UserError, match=r"no module 'gone'.*package their-paper 1.2"):
        restore(copy)
