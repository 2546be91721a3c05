"""One training step, as a pure function of state, batch and key; how devices share it is decided in `sharding`.

Before it, its optimizer: Adam with coupled L2 or LAMB, learning-rate schedules (their presets belong to the track), and
parameters that do not train, chosen by the beginning of their names.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, path_aware_map
from jax import lax

from a2j_jax.config import OptimConfig, listed
from a2j_jax.data.augment import example_keys
from a2j_jax.data.crops import Batch, abstract_batch
from a2j_jax.errors import UserError
from a2j_jax.losses import Losses, Objective
from a2j_jax.lowering import island
from a2j_jax.models.a2j import PoseNetwork
from a2j_jax.models.layers import BatchNorm
from a2j_jax.parts import Prepare, explained, kind_of, own_module
from a2j_jax.runs.experiment import Experiment
from a2j_jax.runs.sharding import Metrics, TrainState, TrainStep
from a2j_jax.tracks import TrackSpec
from a2j_jax.training.logs import SPEED


def learning_rate_schedule(
    kind: str,
    peak: float,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    decay_every: int | None = None,
    decay_factor: float | None = None,
) -> optax.Schedule:
    """Step -> learning rate.

    "step" multiplies by `decay_factor` every `decay_every` steps, "cosine" falls to zero at `total_steps`, "constant"
    stays. A warm-up rises linearly from zero before the peak; the falls of "step" stay where they are, and those during
    the warm-up apply when it ends.
    """
    if kind == "constant":
        main: optax.Schedule = optax.constant_schedule(peak)
    elif kind == "cosine":
        main = optax.cosine_decay_schedule(peak, max(total_steps - warmup_steps, 1))
    else:
        assert decay_every is not None
        assert decay_factor is not None
        falls = range(decay_every, total_steps, decay_every)
        main = optax.piecewise_constant_schedule(
            peak, {step - warmup_steps: decay_factor for step in falls}
        )
    if not warmup_steps:
        return main
    return optax.join_schedules(
        [optax.linear_schedule(0.0, peak, warmup_steps), main], [warmup_steps]
    )


def adam_with_l2(
    learning_rate: optax.ScalarOrSchedule, weight_decay: float
) -> optax.GradientTransformation:
    """PyTorch's `Adam(weight_decay=...)`: the L2 gradient joins before the moments, on every parameter.

    Not AdamW: the decay is scaled by the adaptive step like any other gradient, biases and batch norm included.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.scale_by_learning_rate(learning_rate),
    )


def is_frozen(path: tuple[Any, ...], prefixes: tuple[str, ...]) -> bool:
    """Whether a parameter or module, ("trunk", "layer1_0", "conv1"), is below a prefix such as "trunk/layer1"."""
    return "/".join(path).startswith(prefixes)


def check_prefixes(prefixes: tuple[str, ...], params: Any) -> None:
    """Refuse a prefix that names no parameter, as a misspelled one would freeze nothing, and all of them together."""
    paths = list(flatten_dict(params))
    for prefix in prefixes:
        if not any(is_frozen(path, (prefix,)) for path in paths):
            there = ", ".join(sorted({"/".join(path[:2]) for path in paths}))
            raise UserError(
                f"--config.optim.freeze: no parameter begins with {prefix!r}; there are: {there}"
            )
    if all(is_frozen(path, prefixes) for path in paths):
        raise UserError(f"--config.optim.freeze={prefixes} leaves nothing to train")


def held_still(prefixes: tuple[str, ...]) -> Any:
    """An interceptor for `flax.linen.intercept_methods`: batch norms below the prefixes do not train."""

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> jax.Array:
        module = context.module
        if (
            isinstance(module, BatchNorm)
            and context.method_name == "__call__"
            and is_frozen((*module.path, ""), prefixes)
        ):
            return call(args[0], **{**kwargs, "train": False})
        return call(*args, **kwargs)

    return intercept


def freeze(
    optimizer: optax.GradientTransformation, prefixes: tuple[str, ...]
) -> optax.GradientTransformation:
    """An optimizer that leaves frozen parameters alone, weight decay included, and keeps no moments of them."""
    if not prefixes:
        return optimizer

    def labels(params: Any) -> Any:
        kind = {True: "frozen", False: "free"}
        return path_aware_map(lambda path, _: kind[is_frozen(path, prefixes)], params)

    return optax.multi_transform({"free": optimizer, "frozen": optax.set_to_zero()}, labels)


# Folded into an example's key, so that dropout draws other numbers than its augmentation.
_DROPOUT = 1

# Names of a step's metrics beside the losses, and of what a run's log adds to each line (`training.loop`, `logs`).
_OF_THE_STEP = frozenset({"loss", "grad_norm", "skipped", "skipped_in_a_row"})
_OF_THE_LOG = frozenset({"kind", "learning_rate", "start", "step", "time", *SPEED})
_LONG_RUN = 100_000  # steps
_NUMBERS = (int, float, np.ndarray, np.generic, jax.Array)


class _PartGradients(NamedTuple):
    """Losses, gradients and running statistics of one part of a batch."""

    losses: Losses
    grads: Any
    batch_stats: Any


def optimizer_of(experiment: Experiment, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The optimizer of an experiment, which leaves its frozen parameters alone."""
    settings, own = experiment.config.optim, experiment.parts.optimizer
    if own is not None:
        made = own(schedule)
    elif settings.optimizer == "lamb":
        made = optax.lamb(schedule, weight_decay=settings.weight_decay)
    else:
        made = adam_with_l2(schedule, settings.weight_decay)
    if not isinstance(made, optax.GradientTransformation):
        raise UserError(
            f"optimizer returned {kind_of(made)}: expected an optax.GradientTransformation"
        )
    return freeze(made, settings.freeze)


def experiment_step(
    experiment: Experiment, optimizer: optax.GradientTransformation, axis_name: str | None = None
) -> TrainStep:
    """The training step of an experiment; `axis_name` as in `make_train_step`."""
    settings = experiment.config.optim
    make_step = experiment.parts.make_step or make_train_step
    step: Any = make_step(
        experiment.model.clone(axis_name=axis_name),
        optimizer,
        experiment.prepare,
        experiment.objective,
        axis_name,
        accumulate=settings.accumulate,
        frozen=settings.freeze,
        ema_decay=settings.ema_decay,
        skip_nonfinite=settings.skip_nonfinite_updates > 0,
    )
    if not callable(step):
        raise UserError(
            f"make_step returned {kind_of(step)}: expected a function (state, batch, key) -> (state, metrics)"
        )
    return step  # type: ignore[no-any-return]


def make_train_step(
    model: PoseNetwork,
    optimizer: optax.GradientTransformation,
    prepare: Prepare,
    objective: Objective,
    axis_name: str | None = None,
    *,
    accumulate: int = 1,
    frozen: tuple[str, ...] = (),
    ema_decay: float | None = None,
    skip_nonfinite: bool = False,
) -> TrainStep:
    """Bind a model, its optimizer, input preparation and objective into `step(state, batch, key)`.

    Args:
      model: built with the same `axis_name`, so that batch statistics are the global batch's. It may have none, and
        may ask for random keys called "dropout", which differ by step, part and device.
      optimizer: gradient transformation the state was created with.
      prepare: augmentation and normalization; runs on the device, inside the step.
      objective: the losses, bound to their constants.
      axis_name: mapped axis over which the batch is spread; None where the batch at hand is all of it.
      accumulate: parts that go through the network one after the other. Losses and gradients add up to
        those of the entire batch; batch normalization is by the statistics of each part.
      frozen: prefixes of parameter names ("trunk/conv1") that are left as they are. Batch normalization
        below them is by the running statistics, which stay as well.
      ema_decay: of the moving average of weights and running statistics that `state.ema` holds.
      skip_nonfinite: leave everything as it was where the loss or a gradient is not finite, the optimizer's count of
        steps (and with it the learning rate) included, and count it.

    Returns:
      A pure function (state, batch, key) -> (state, metrics). `key` is the run's: the step's own is folded
      from the step number and an example's from its place in the global batch, so that a resumed run
      draws what the uninterrupted one would have, on any number of devices. Metrics are scalars: loss,
      its terms by name, grad_norm (of the loss alone, before L2), and skipped, skipped_in_a_row.
    """

    def part_gradients(
        state: TrainState, batch: Batch, keys: Any, count: jax.Array
    ) -> _PartGradients:
        with jax.named_scope("prepare"):
            prepared = prepare(batch, keys)
        _check_prepared(prepared)
        images, targets = prepared

        def loss_fn(params: Any) -> tuple[jax.Array, tuple[Losses, Any]]:
            params = path_aware_map(
                lambda path, x: lax.stop_gradient(x) if is_frozen(path, frozen) else x, params
            )
            with nn.intercept_methods(held_still(frozen)):
                outputs, updated = model.apply(
                    {"params": params, "batch_stats": state.batch_stats},
                    images,
                    train=True,
                    mutable=["batch_stats"],
                    rngs={"dropout": jax.random.fold_in(keys[0], _DROPOUT)},
                )
            with jax.named_scope("losses"):
                losses = objective(outputs, targets, count=count, step=state.step)
            _check_losses(losses)
            return losses.total, (losses, updated.get("batch_stats", {}))

        (_, (losses, stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        return _PartGradients(losses, grads, stats)

    # Apart on a CPU: after all gradients are there, weights and moments are rewritten without being copied.
    @island
    def update(grads: Any, opt_state: Any, params: Any) -> tuple[Any, Any]:
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        size, first, count = batch["valid"].shape[0], jnp.int32(0), batch["valid"].sum()
        if axis_name is not None:
            first, count = lax.axis_index(axis_name) * size, lax.psum(count, axis_name)
        keys = example_keys(jax.random.fold_in(key, state.step), size, first)

        def part(batch: Batch, keys: jax.Array) -> _PartGradients:
            return part_gradients(state, batch, keys, count)

        losses, grads, batch_stats = _in_parts(part, accumulate, batch, keys)
        if axis_name is not None:
            losses, grads = lax.psum((losses, grads), axis_name)
        with jax.named_scope("optimizer"):
            grad_norm = optax.global_norm(grads)
            params, opt_state = update(grads, state.opt_state, state.params)
        new = state.replace(params=params, batch_stats=batch_stats, opt_state=opt_state)
        if ema_decay is not None:
            new = new.replace(ema=_averaged(state.ema, new.variables, ema_decay, state.step))
        if skip_nonfinite:
            new = _unless(jnp.isfinite(losses.total) & jnp.isfinite(grad_norm), new, state)
        metrics = {
            "loss": losses.total,
            **losses.terms,
            "grad_norm": grad_norm,
            "skipped": new.skipped,
            "skipped_in_a_row": new.skipped_in_a_row,
        }
        return new.replace(step=state.step + jnp.int32(1)), metrics

    return step


def first_not_finite(
    experiment: Experiment, state: TrainState, batch: Batch, key: jax.Array
) -> str:
    """What is NaN or infinite first in a step of the default kind, computed again operation by operation.

    Args:
      experiment: of the step.
      state: before it, as it is gathered.
      batch: its arrays on the host, whole.
      key: of the run.

    Returns:
      For a message: "the output of trunk/layer2_0/conv1", a parameter, an input, a term of the loss or a gradient.
    """

    def broken(tree: Any) -> list[str]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return [
            jax.tree_util.keystr(path, simple=True, separator="/")
            for path, leaf in leaves
            if jnp.issubdtype(leaf.dtype, jnp.inexact) and not jnp.isfinite(leaf).all()
        ]

    if found := broken(state.variables):
        return f"{found[0]}, before the step"
    keys = example_keys(jax.random.fold_in(key, state.step), batch["valid"].shape[0], 0)
    images, targets = experiment.prepare(batch, keys)
    if broken(images):
        return "the images that `prepare` returns"
    if found := broken(targets):
        return f"the target {found[0]!r} that `prepare` returns"
    outputs_of: list[str] = []

    def look(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        returned = call(*args, **kwargs)
        if context.method_name == "__call__" and broken(returned):
            outputs_of.append("/".join(context.module.path))
        return returned

    def losses_of(params: Any) -> Losses:
        outputs, _ = experiment.model.apply(
            {**state.variables, "params": params},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.fold_in(keys[0], _DROPOUT)},
        )
        return experiment.objective(outputs, targets, count=batch["valid"].sum(), step=state.step)

    with nn.intercept_methods(look):
        losses = losses_of(state.params)
    if outputs_of:
        return f"the output of {outputs_of[0] or 'the network'}"
    if found := broken(dict(losses.terms)) or broken({"total": losses.total}):
        return f"the loss's {found[0]}"
    found = broken(jax.grad(lambda params: losses_of(params).total)(state.params))
    return f"the gradient of {found[0]}" if found else "nothing, where it is computed again"


def _check_prepared(prepared: Any) -> None:
    if not (
        isinstance(prepared, tuple) and len(prepared) == 2 and isinstance(prepared[1], Mapping)
    ):
        raise UserError(
            f"prepare returned {kind_of(prepared)}: expected (images, targets), targets a dict of arrays"
        )


def _check_prepare(prepare: Prepare, track: TrackSpec) -> None:
    """Refuse images of another shape than evaluation gives the network, where `prepare` has no part."""
    rows, size = 4, track.crop_size
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
    prepared: Any = jax.eval_shape(prepare, abstract_batch(track, rows), keys)
    _check_prepared(prepared)
    images = prepared[0]
    shape: tuple[int, ...] = getattr(images, "shape", ())
    square = len(shape) == 4 and shape[0] >= rows and shape[1:] == (size, size, 1)
    if not square or not jnp.issubdtype(images.dtype, jnp.floating):
        raise UserError(
            f"prepare returned {kind_of(images)} as images of {rows} examples: expected ({rows}, {size}, {size}, 1) or "
            "more rows, of floats. It is called in training alone; what evaluation needs as well belongs in the network"
        )


def _check_losses(losses: Any) -> None:
    """Refuse what is no `Losses` of scalars; called while the step is traced."""
    if not isinstance(losses, Losses):
        raise UserError(
            f"the objective returned {kind_of(losses)}: expected a2j_jax.Losses(total, terms)"
        )
    terms = losses.terms
    if not isinstance(terms, Mapping) or not all(isinstance(name, str) for name in terms):
        raise UserError(
            f"the objective's terms are {kind_of(terms)}: expected a dict of names -> scalars, which may be empty"
        )
    _check_names("the objective's term", terms, _OF_THE_STEP | _OF_THE_LOG)
    for name, value in [("total", losses.total), *terms.items()]:
        scalar = isinstance(value, _NUMBERS) and jnp.shape(value) == () and jnp.isrealobj(value)
        integer = not jnp.issubdtype(jnp.result_type(value), jnp.floating) if scalar else False
        if not scalar or (name == "total" and integer):
            raise UserError(
                f"the objective's {name!r} is {kind_of(value)}: expected a real scalar, and a float where it is to be "
                "differentiated; a2j_jax.losses.masked_mean makes one of (B, K) values"
            )


def _check_names(what: str, names: Iterable[str], reserved: frozenset[str]) -> None:
    """Refuse names of scalars under which a run logs others: one of the two would be lost."""
    taken = sorted(reserved.intersection(names))
    if taken:
        raise UserError(
            f"{what} {taken[0]!r} has a name that the log of a run needs: expected another than {listed(reserved)}"
        )


def check_parts(experiment: Experiment) -> None:
    """Trace the step of an experiment with parts of its own, before any data is read; A2J's own is not traced.

    Raises:
      UserError: what they raise, in one line, or what of theirs is of another kind than expected.
    """
    config, own = experiment.config, experiment.parts
    path = config.parts
    if path is None or own_module(path) is None:
        return
    size, rows = experiment.track.crop_size, config.optim.accumulate
    with explained(path):
        schedule: optax.Schedule = lambda _: 1e-3  # noqa: E731
        if own.schedule is not None:
            schedule = checked_schedule(own.schedule(*_probable_length(config.optim)))
        optimizer = optimizer_of(experiment, schedule)
        step = experiment_step(experiment, optimizer)
        if own.prepare is not None:
            _check_prepare(own.prepare, experiment.track)

        def state() -> TrainState:
            images = jnp.zeros((1, size, size, 1), jnp.float32)
            variables = experiment.model.init(jax.random.key(0), images, train=False)
            return TrainState.create(
                dict(variables), optimizer, average=config.optim.ema_decay is not None
            )

        before, key = jax.eval_shape(state), jax.eval_shape(lambda: jax.random.key(0))
        found: Any = jax.eval_shape(step, before, abstract_batch(experiment.track, rows), key)
        if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)):
            raise UserError(f"the step returned {kind_of(found)}: expected (state, metrics)")
        if jax.tree.map(_shape, found[0]) != jax.tree.map(_shape, before):
            raise UserError("the step returned a state of other shapes or dtypes than it was given")
        _check_names("the step's metric", found[1], _OF_THE_LOG)
        for name, value in found[1].items():
            if value.shape != ():
                raise UserError(
                    f"the step's metric {name!r} is {kind_of(value)}: expected a scalar"
                )


def _shape(leaf: Any) -> tuple[Any, Any]:
    return leaf.shape, leaf.dtype


def _probable_length(optim: OptimConfig) -> tuple[int, int]:
    """Steps of a run, and of one of its epochs, before its data set is read: a long run, unless the config says."""
    total = optim.steps or _LONG_RUN
    return total, max(1, round(total / (optim.epochs or 1)))


def checked_schedule(schedule: Any) -> optax.Schedule:
    """A schedule of somebody's parts.

    Raises:
      UserError: it is no function of the step, or its first value is no finite number.
    """
    if not callable(schedule):
        raise UserError(
            f"schedule returned {kind_of(schedule)}: expected a function of the step, e.g. "
            "optax.constant_schedule(1e-3)"
        )
    rate = schedule(0)
    number = isinstance(rate, _NUMBERS) and jnp.shape(rate) == ()
    if not (number and math.isfinite(rate)):
        raise UserError(
            f"the schedule's learning rate at step 0 is {rate if number else kind_of(rate)}: expected a finite number"
        )
    return schedule  # type: ignore[no-any-return]


def _in_parts(
    part: Callable[[Batch, jax.Array], _PartGradients], parts: int, batch: Batch, keys: jax.Array
) -> _PartGradients:
    """Losses and gradients added up over parts of a batch, running statistics averaged."""
    if parts == 1:
        return part(batch, keys)
    # Part i is rows i, i + parts, ...: of a batch that is spread over devices each holds a share of every part.
    split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), (batch, keys))
    first = jax.tree.map(lambda x: x[0], split)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(part, *first))

    def add(sums: _PartGradients, one: tuple[Batch, jax.Array]) -> tuple[_PartGradients, None]:
        return jax.tree.map(jnp.add, sums, part(*one)), None

    sums, _ = lax.scan(add, nothing, split)
    return sums._replace(batch_stats=jax.tree.map(lambda x: x / parts, sums.batch_stats))


def _averaged(average: Any, variables: Any, decay: float, step: jax.Array) -> Any:
    """The moving average after a step; it forgets faster at first, or it would remember the initial weights."""
    keep = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(
        lambda a, x: (keep * a + (1 - keep) * x).astype(a.dtype), average, variables
    )


def _unless(finite: jax.Array, new: TrainState, old: TrainState) -> TrainState:
    """The new state, or the old one with one more skipped update."""
    chosen = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
    missed = 1 - finite.astype(jnp.int32)
    return chosen.replace(
        skipped=old.skipped + missed, skipped_in_a_row=(old.skipped_in_a_row + missed) * missed
    )
