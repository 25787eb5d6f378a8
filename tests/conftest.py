from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

# The same examples everywhere and always: a test that fails, fails for everyone. Look for new ones with another seed:
# pytest --hypothesis-seed=1
settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")


@pytest.fixture(autouse=True, scope="session")
def users_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of the session's own: the developer's is neither read nor written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SRFLOW_CACHE_DIR", str(tmp_path_factory.mktemp("users-cache")))
        yield
