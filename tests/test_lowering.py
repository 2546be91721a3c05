"""The platform that is traced for."""

import jax
import pytest

from a2j_jax import lowering


def test_it_is_the_default_backend_unless_said_otherwise() -> None:
    here = jax.default_backend()
    assert lowering.platform() == here
    with lowering.lowering_for("tpu"):
        assert lowering.platform() == "tpu"
        with lowering.lowering_for("gpu"):
            assert lowering.platform() == "gpu"
        assert lowering.platform() == "tpu"
    assert lowering.platform() == here


def test_an_error_ends_it() -> None:
    with pytest.raises(ZeroDivisionError), lowering.lowering_for("tpu"):
        raise ZeroDivisionError
    assert lowering.platform() == jax.default_backend()
