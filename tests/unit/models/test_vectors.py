from __future__ import annotations

import numpy as np

from legit_embedding.models.vectors import averaged, shortened

VECTOR = np.array([3, 4, 12], np.float32) / 13


def test_a_shortened_vector_has_length_one_again_where_it_had() -> None:
    assert np.allclose(shortened(VECTOR, 2, normalize=True), [0.6, 0.8])
    assert np.allclose(shortened(VECTOR, 2, normalize=False), VECTOR[:2])
    assert shortened(VECTOR, 3, normalize=True) is VECTOR
    assert shortened(VECTOR, 4, normalize=True) is VECTOR
    assert shortened(np.zeros(3, np.float32), 2, normalize=True).tolist() == [0, 0]
    assert shortened(VECTOR, 2, normalize=True).dtype == np.float32


def test_a_mean_is_weighted() -> None:
    one, other = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    assert np.allclose(averaged([one, other], [3, 1], normalize=False), [0.75, 0.25])
    mean = averaged([one, other], [3, 1], normalize=True)
    assert np.allclose(mean, np.array([3, 1]) / np.sqrt(10))
    assert mean.dtype == np.float32
