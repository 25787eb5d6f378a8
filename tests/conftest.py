from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

# The same examples in every run, so that a failing test fails for everyone. Another seed finds new ones:
# pytest --hypothesis-seed=1
settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")


@pytest.fixture(autouse=True, scope="session")
def users_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder for this session only: the developer's is neither read nor written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SRFLOW_CACHE_DIR", str(tmp_path_factory.mktemp("users-cache")))
        yield
