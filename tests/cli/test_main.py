"""The command line as a whole: help, mistakes in one line, and what is never imported."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from a2j_jax.cli import console, data_commands
from a2j_jax.cli import main as entry
from a2j_jax.cli.main import COMMANDS


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_has_examples(a2j, command):
    outcome = a2j(*filter(None, [command]), "--help")
    options, examples = outcome.out.split("examples:\n")
    name = command or r"\w+"
    assert len(re.findall(rf"^  a2j {name} .*", examples, re.MULTILINE)) >= 2
    if command is not None:
        declared, used = (set(re.findall(r"--\w+", text)) for text in (options, examples))
        assert used <= declared | {"--help", "--config"}
    assert outcome.err == ""


def test_overview_and_version(a2j):
    text = a2j("--help").out
    for command, (_, line) in COMMANDS.items():
        assert re.search(rf"^  {command} +{re.escape(line)}$", text, re.MULTILINE)
    assert re.fullmatch(r"a2j_jax \d+\.\d+\.\d+\n", a2j("--version").out)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "required: COMMAND; see a2j --help"),
        ("trian --config quickstart", "invalid choice: 'trian'"),
        ("--colour red", "COMMAND"),
        ("eval", "--workdir/--checkpoint/--model --predictions is required; see a2j eval --help"),
        ("eval --predictions a.txt --track nyu --lables b.mat", "--lables"),
        ("eval --workdir runs/x --step newest", "'newest': expected best, latest or a step number"),
        ("eval --workdir runs/x --config.optim.steps=3", "a2j eval takes no --config.optim.steps"),
        ("predict --checkpoint c --depth f.png --center 1,2", "'1,2': expected U,V,D"),
        ("predict --checkpoint c --depth f.png --box a,b,c,d", "expected X0,Y0,X1,Y1"),
        ("predict --checkpoint c --depth f.png --center 1,2,3 --box 1,2,3,4", "not allowed with"),
        ("convert weights.npz out", "one of the arguments --track --imagenet is required"),
        ("build synthetic_hands", "did you mean 'synthetic_hand'?"),
        ("build synthetic_hand --data_dir file.txt/runs", "file.txt"),
        ("show synthetic_hnad", "did you mean 'synthetic_hand'?"),
        ("train", "required: --config"),
        ("train --config quikstart", "did you mean 'quickstart'?"),
        ("train --config none.py", "config file not found: none.py"),
        ("train --config quickstart --config.optim.lerning_rate=1", "'optim.learning_rate'?"),
        ("train --config quickstart --config.batch_size 8", "did you mean 'optim.batch_size'?"),
        ("train --config quickstart --config.optim.steps=few", "'optim.steps': 'few'"),
        ("train --config quickstart --config.optim.steps", "--config.optim.steps=VALUE"),
        ("train --config quickstart --config.model.backbone=vgg16", "'resnet18', 'resnet34' or"),
        ("train --config quickstart --config.track=nuy", "did you mean 'nyu'?"),
        ("train --config quickstart --config.track=nyu", "no data directory"),
        ("train --config quickstart --resume", "no run with a checkpoint in runs/quickstart"),
        ("train --config quickstart --workdir file.txt", "file.txt is a file; name a folder"),
        ("train --config none.json", "config file not found: none.json"),
        ("train --config quickstart --profile_steps 10", "'10': expected FIRST:END"),
        ("train --config quickstart --process_id 1", "missing here: --coordinator_address"),
        ("show nyu --frame x.png", "'nyu' is not rendered"),
        ("show synthetic_hand --frame x.npy", ".png"),
        ("show synthetic_hand --frame there.png", "not written by a2j_jax"),
        ("show synthetic_hand --frame x.png --out sheet.png", "--out goes without --frame"),
        ("show synthetic_hand --frame x.png --frames 3", "--frames goes without --frame"),
        ("show synthetic_hand --seed 3", "--seed goes with --frame"),
        ("show synthetic_hand --frame x.png --seed -1", "--seed"),
        ("show nyu --scenes varied", "'nyu' is not rendered"),
        ("show synthetic_body --scenes varied", "no varied scenes"),
        ("show synthetic_hand --scenes varied --data_dir data", "leave one out"),
        ("reproduce table77", "did you mean 'table7'?"),
        ("reproduce table7 --data k2hpd", "is run on one of"),
        ("reproduce 7 --budget day", "there are: full, hour, smoke"),
        ("reproduce 7 --config.track=synthetic_body", "--data names the track"),
        ("reproduce 7 --config.model.paradigm=regression", "the rows of Tables 7 and 8 set"),
        ("reproduce 9 --config.model.init_from=mine.npz", "None, weights/resnet50.safetensors"),
        ("reproduce 7 --config.optim.step=3", "did you mean 'optim.steps'?"),
        ("reproduce table3", "nothing could be run; not run: weights/resnet50"),
        ("bench --backbone resnet18,resnet18", "'resnet18,resnet18': expected some of"),
        ("bench --paradigm a2j,heatmaps", "regression,heat_maps; did you mean 'heat_maps'?"),
        ("bench --batch 1,many", "'many': expected a whole number"),
        ("bench --batch 8,8", "'8,8': expected different numbers"),
        ("bench --track nuy", "did you mean 'nyu'?"),
        ("bench --checkpoint runs/none", "runs/none"),
        ("bench --checkpoint runs/none --backbone resnet18", "--backbone goes without"),
        ("bench --checkpoint CHECKPOINTS/nyu CHECKPOINTS/itop_front", "'itop_front' at 32 px"),
        ("bench --checkpoint CHECKPOINTS/nyu CHECKPOINTS/nyu", "twice"),
        ("bench --out speed.txt", "--out speed.txt: expected a Markdown file"),
        ("bench --out x.md", "is a folder"),
    ],
)
def test_mistakes_are_told_in_one_line(mistake, line, said):
    for name in ("file.txt", "there.png"):
        Path(name).write_text("mine")
    Path("x.md").mkdir()
    mistake(line, said)


# Files by name; a line of `ODD` names some of them, and whatever it names, nothing is to change.
STRANGE = {
    "garbage": b"\xff\0garbage",
    "syntax.py": b"def get_config(:",
    "exit.py": b"raise SystemExit(3)",
    "base.py": b"class Theirs(BaseException): pass\nraise Theirs",
    "mute.py": b"class Mute(Exception):\n  def __str__(self): 1 / 0\ndef get_config(): raise Mute",
    "endless.py": b"def get_config(): return get_config()",
    "five.py": b"def get_config(): return 5",
    "deep.json": b"[" * 99_999,
    "list.json": b"[1]",
    "group.json": b'{"name": "x", "track": "nyu", "optim": []}',
    "nul.json": b'{"name": "a\\u0000b", "track": "nyu"}',
    "half.json": b'{"name": "x", "track": "a/\\ud800"}',
    "twice.json": b'{"name": "x", "name": "y", "track": "nyu"}',
    "long.json": b'{"' + b"k" * 9999 + b'": 1}',
    "many.json": ("{" + ", ".join(f'"k{i}": 1' for i in range(9999)) + "}").encode(),
    "foreign/config.json": b'{"scripts": {}}',
}
ODD = [
    *(f"config {name}" for name in STRANGE if not name.startswith("foreign")),
    *(f"train --config {n}" for n in ("", "circle", "pipe", "foreign", "\udcff", "~nobody_/x")),
    *(f"eval --workdir {n}" for n in ("circle", "pipe", "a\x1b[31mb", "x" * 300, "x/" * 3000)),
    *(f"build synthetic_hand --seed={n}" for n in ("--", "-1", "9" * 5000, "²", "nan", "0x10")),
    *(f"bench --batch {text}" for text in ("0", ",", "1,1", "1e3", "999999", "inf", "\udcff")),
    *(f"predict none garbage --fy={text}" for text in ("nan", "1e999", "--", "")),
    *(f"predict none garbage --depth_unit_mm {text}" for text in ("0", "-1", "inf", "1e-9")),
    *(f"show synthetic_hand --frames {text}" for text in ("0", "-1", "1.5", "\x1b")),
    *(f"config quickstart --config.{text}" for text in ("=1", "optim", "a.b.c.d=1", "run.seed=-1")),
    *(f"config quickstart --config.name={text}" for text in ("..", "a\0b", "x" * 999, "\udcff")),
    "config quickstart --config.data.camera=nan,1,1,1",
    "eval --predictions =garbage --track nyu --labels garbage",
    "eval --predictions garbage --track garbage/x --labels garbage",
    "train --config quickstart --workdir foreign",
    "train --config quickstart --profile_steps 9:1",
    "plan --config quickstart --topology cpu:99999999999 --sweep batch=0",
    "reproduce 7 --data synthetic_hand --budget \udcff",
    "convert garbage circle --track nyu",
    "figure 7 --checkpoint a= --out pipe",
    "-- train",
    "nonsense --config.help",
    "x" * 9999,
]


@pytest.mark.parametrize("line", ODD, ids=range(len(ODD)))
def test_odd_lines_are_refused_and_change_nothing(line, mistake):
    Path("foreign").mkdir()
    for name, contents in STRANGE.items():
        Path(name).write_bytes(contents)
    Path("circle").symlink_to("circle")
    os.mkfifo("pipe")
    told = mistake(line, "")
    assert all(character.isprintable() for character in told)
    assert len(told) < 1100


def test_without_a_temporary_folder_there_is_one_line(refused, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/missing"])
    show = data_commands.SHOW._replace(run=lambda _: tempfile.TemporaryDirectory())
    monkeypatch.setattr(data_commands, "SHOW", show)
    assert "No usable temporary directory found in ['/missing']" in refused("show", "nyu")


PROGRAM = "import sys; from a2j_jax.cli import console; console(sys.argv[1:])"


# The command `show` becomes a function `run`.
TAKE = "data_commands.SHOW = data_commands.SHOW._replace(run=run)"


def program(run: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A program whose command `show` is this function `run`."""
    head = "from a2j_jax.cli import console, data_commands, main\n"
    text = f"{head}{run}\n{TAKE}\nconsole(['show', 'synthetic_hand'])\n"
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


CLOSING = """
import atexit, os
atexit.register(os._exit, 99)  # the interpreter being taken down, a thread still at work

def run(_):
    try:
        print("half a line", end="")
        raise KeyboardInterrupt
    finally:
        print(", closed", end="")

data_commands.SHOW = data_commands.SHOW._replace(run=run)
if main(["show", "synthetic_hand"]) != 130:
    os._exit(98)
"""


def test_after_an_interruption_the_program_ends_at_once():
    """All output is there, everything that was open is closed, and no thread can crash the rest."""
    done = program(CLOSING)
    assert done.returncode == 130
    assert done.stdout == "half a line, closed" * 2
    assert done.stderr == "a2j: interrupted\n" * 2


SWALLOWED = """
import gc, sys, threading, time

def callback(phase, info):
    gc.callbacks.remove(callback)
    raise KeyboardInterrupt

def slowly(thread, start=threading.Thread.start):
    start(thread)
    time.sleep(float(sys.argv[1]))

def run(_):
    threading.Thread.start = slowly  # as on a busy machine
    gc.callbacks.append(callback)
    started = time.monotonic()
    try:
        gc.collect()
        time.sleep(60)
    finally:
        print(time.monotonic() - started)
"""


@pytest.mark.parametrize("delay", [0, 0.3])
def test_an_interruption_in_a_callback_is_not_lost(delay):
    done = program(SWALLOWED, delay)
    assert float(done.stdout) < 50  # what waited was woken
    assert (done.returncode, done.stderr) == (130, "a2j: interrupted\n")


ENDED = """
import os, signal, sys

def run(_):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        if sys.argv[1] == "as a library in C":
            raise KeyboardInterrupt
        raise
    finally:
        print("closed")
"""


@pytest.mark.parametrize("how", ["plain", "as a library in C"])
def test_sigterm_where_nothing_else_listens_for_it(how):
    """As Ctrl-C: what is open is closed, one line, and a shell's status."""
    done = program(ENDED, how)
    assert (done.returncode, done.stdout, done.stderr) == (143, "closed\n", "a2j: SIGTERM: ended\n")


COMPILING = """
import hashlib, os, signal, sys, threading
from a2j_jax.cli.main import ends_within

def run(_):
    with ends_within(0.2, unless=lambda: sys.argv[1] == "a step"):
        signal.signal(signal.SIGTERM, lambda *_: None)  # as a run listens for it
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 4 * 10**6)  # as a compilation: Python hears no signal in it
        print("saved")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "status", "out"), [("a step", 0, "saved\n"), ("nothing", 143, "")]
)
def test_sigterm_waits_for_what_is_to_be_saved(work, status, out):
    done = program(COMPILING, work)
    assert (done.returncode, done.stdout) == (status, out)


@pytest.mark.parametrize(("word", "status"), [("--version", 0), ("trian", 2)])
def test_the_program_ends_with_the_status_of_its_command(word, status):
    with pytest.raises(SystemExit) as caught:
        console([word])
    assert (caught.value.code or 0) == status


def test_our_own_bugs_keep_their_traceback(monkeypatch):
    monkeypatch.setattr(data_commands, "SHOW", data_commands.SHOW._replace(run=lambda _: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        entry(["show", "synthetic_hand"])


IMPORTS = """
import sys, time

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "tensorflow"):
            print("wanted", name)  # it would have been imported, were it installed

sys.meta_path.insert(0, Watch())
started = time.perf_counter()
import a2j_jax
print("seconds", time.perf_counter() - started)
import a2j_jax.cli.main, a2j_jax.evaluation.evaluate_run, a2j_jax.inference.predictor
import a2j_jax.training.run, a2j_jax.weights.convert, tfds_builders.build
from a2j_jax.training.logs import RunLog
RunLog(sys.argv[1]).close()
print("loaded", sorted({"torch", "tensorflow"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_imports_are_light(tmp_path):
    command = [sys.executable, "-c", IMPORTS, str(tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "wanted" not in printed
    seconds, loaded = printed.splitlines()
    assert loaded == "loaded []"
    assert float(seconds.removeprefix("seconds ")) < 2


@pytest.mark.parametrize(
    ("command", "how", "status"),
    [
        ("--version", "> /dev/full", 2),
        ("--version", ">&-", 2),
        ("train --help", "> /dev/full", 2),
        ("train --help", "2>&-", 0),
        ("train --help", "<&- 2>&-", 0),
        ("nonsense", "2> /dev/full", 2),
        ("nonsense", ">&- 2>&-", 2),
        ("train --config nonsense", "< /dev/null; status=$?; exit $status", 2),
    ],
)
def test_a_result_that_is_lost_is_no_success(command, how, status):
    line = f'"{sys.executable}" -c "{PROGRAM}" {command} {how}'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.returncode == status, done
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    if status and "2>" not in how:
        (line,) = done.stderr.splitlines()
        assert line.startswith("a2j: error: ")
        assert "stdout" in line or "non" in line


def test_a_working_directory_that_is_gone_is_one_line(tmp_path):
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        ["bash", "-c", f'cd gone && rmdir ../gone && "{sys.executable}" -c "{PROGRAM}" show nyu'],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done
    assert "working directory" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
