"""The filmed flat, walked for two and a half minutes and back to the start."""

import pytest

from benchmarks._tours import Tour, film


@pytest.fixture(scope="session")
def tour() -> Tour:
    return film(150, 2, (48, 36))
