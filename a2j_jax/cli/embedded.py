"""Embedded data sets are rendered where a command finds them missing; all others are the user's to bring."""

from pathlib import Path

from a2j_jax.config import Config


def build_if_embedded(config: Config) -> None:
    """Render the data set of a config that is not there yet."""
    from a2j_jax.progress import say
    from tfds_builders.build import build, read_spec
    from tfds_builders.synthetic.synthetic import EMBEDDED

    if config.track not in EMBEDDED:
        return
    data = config.data
    wanted = {
        "train": data.train_frames,
        "validation": data.validation_frames,
        "test": data.test_frames,
    }
    folder = _built(config)
    # The numbers of frames are for a data set that is yet to be rendered. One that is there is used
    # as it is; `build` sees to it that everything else about it is what the config asks for.
    frames = ((read_spec(folder) if folder else None) or {}).get("frames", wanted)
    build(config.track, data.dir, **frames, crop_size=data.crop_size, seed=data.seed)
    if frames != wanted:
        said = ", ".join(
            f"{frames[name]:,} {name} (not {wanted[name]:,})"
            for name in wanted
            if frames[name] != wanted[name]
        )
        say(f"split sizes differ from the config; using the existing data set: {said}")


def _built(config: Config) -> Path | None:
    """Where the examples of an embedded data set are, if it was built already."""
    from a2j_jax import input_pipeline
    from a2j_jax.errors import UserError
    from a2j_jax.training.assembly import track_of

    try:
        return Path(input_pipeline.find_dataset(config.data.dir, track_of(config)).data_path)
    except UserError:
        return None
