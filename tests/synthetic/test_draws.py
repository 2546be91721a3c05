"""One call, many variables: shapes, laws and independence."""

import jax
import numpy as np

from a2j_jax.synthetic.sampling import draw


def test_shapes_and_order():
    (a, b), (c, d, e) = draw(jax.random.key(0), uniform=[(2, 3), ()], bell=[(4,), (1, 5), ()])
    assert [x.shape for x in (a, b, c, d, e)] == [(2, 3), (), (4,), (1, 5), ()]
    assert draw(jax.random.key(0), uniform=[(3,)])[1] == []
    assert draw(jax.random.key(0), bell=[(3,)])[0] == []


def test_laws():
    (u,), (b,) = draw(jax.random.key(1), uniform=[(20000,)], bell=[(20000,)])
    u, b = np.asarray(u), np.asarray(b)
    assert 0 <= u.min() < u.max() < 1
    assert abs(u.mean() - 0.5) < 0.01
    assert -2 <= b.min() < -1.9
    assert 1.9 < b.max() <= 2
    assert abs(b.mean()) < 0.02
    assert abs(b.std() - 0.88) < 0.01
    assert abs(np.mean(np.abs(b) < 1) - 0.6827 / 0.9545) < 0.01
    assert abs(np.corrcoef(u, b)[0, 1]) < 0.03
