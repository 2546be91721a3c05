"""A window of steps under JAX's profiler: `a2j train --profile_steps 100:110`."""

import re
from pathlib import Path
from typing import Any

import jax

from a2j_jax.errors import UserError
from a2j_jax.progress import say

FOLDER = "profile"


class ProfileWindow:
    """Traces some steps of a training loop, from an idle device to an idle device.

    The loop calls `before` and `after` around every step, and `close` when it ends, however it ends. Of
    several processes one has a window: traces of all, written to one folder, would be mixed up.
    """

    def __init__(self, steps: range, folder: str | Path):
        """Traces `steps`, numbered from 1 as in the log, into a folder; nothing for an empty range."""
        self._steps, self._folder = steps, Path(folder)
        self._step: jax.profiler.StepTraceAnnotation | None = None
        self._outputs: Any = None
        self._tracing = self._begun = self._traced = False

    @staticmethod
    def parse(text: str) -> range:
        """`"100:110"` → steps 100 to 109, numbered from 1 as in the log.

        Raises:
          UserError: anything else, and an empty window.
        """
        numbers = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", text)
        steps = range(int(numbers[1]), int(numbers[2])) if numbers else range(0)
        if not steps or steps[0] < 1:
            raise UserError(
                f"--profile_steps {text!r}: expected FIRST:END, for instance 100:110 for steps 100 to "
                "109 (the first step of a run is 1)"
            )
        return steps

    def before(self, step: int) -> None:
        """Called before a step is dispatched."""
        if not self._begun:
            self._begun = True
            self._say_what_cannot_be(step)
        if step in self._steps:
            if not self._tracing:
                self._start()
            self._step = jax.profiler.StepTraceAnnotation("train", step_num=step)
            self._step.__enter__()

    def after(self, step: int, outputs: Any) -> None:
        """Called once a step is dispatched; waits for it where a trace begins or ends.

        Args:
          step: its number.
          outputs: arrays that it computes and that no later step is given to overwrite: its metrics.
        """
        # The first traced step must not begin while the device still works on those before it.
        self._outputs = outputs if step + 1 in self._steps or step in self._steps else None
        if self._step is not None:
            self._step.__exit__(None, None, None)
            self._step = None
        if self._tracing and step + 1 not in self._steps:
            self._stop()

    def close(self) -> None:
        """Writes what was traced of a window that the end of training cut."""
        if self._tracing:
            self._stop()
        elif self._begun and self._steps and not self._traced:
            say(
                f"--profile_steps: nothing was traced, training ended without {_named(self._steps)}"
            )

    def _say_what_cannot_be(self, first: int) -> None:
        if not self._steps:
            return
        if first > self._steps[-1]:
            say(f"--profile_steps: this run resumes at step {first}, beyond {_named(self._steps)}")
            self._steps = range(0)
        elif first in self._steps:
            say(
                f"--profile_steps: step {first} is the first of this start: it compiles in its trace"
            )

    def _start(self) -> None:
        jax.block_until_ready(self._outputs)
        options = jax.profiler.ProfileOptions()
        # Without every call of a Python function: they fill the trace (1 M events) and slow what it shows.
        options.python_tracer_level = 0
        jax.profiler.start_trace(self._folder, create_perfetto_trace=True, profiler_options=options)
        self._tracing = self._traced = True

    def _stop(self) -> None:
        jax.block_until_ready(self._outputs)
        self._tracing, self._outputs = False, None
        try:
            jax.profiler.stop_trace()
        except (
            OSError,
            RuntimeError,
            ValueError,
        ) as error:  # a full disk is no reason to end a run here
            say(f"{self._folder}: the profile could not be written: {error}")
            return
        newest = max(self._folder.glob("plugins/profile/*"), key=lambda path: path.stat().st_mtime)
        say(
            f"profiled {_named(self._steps)}: tensorboard --logdir {self._folder} (with its plug-in: pip "
            f"install xprof), or open {newest / 'perfetto_trace.json.gz'} in https://ui.perfetto.dev"
        )


def _named(steps: range) -> str:
    return f"steps {steps[0]} to {steps[-1]}" if len(steps) > 1 else f"step {steps[0]}"
