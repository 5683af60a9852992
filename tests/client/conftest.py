import pytest

import runcast.policy


@pytest.fixture
def impatient(monkeypatch):
    """Whatever failed is tried again soon."""
    monkeypatch.setattr(runcast.policy, "MAX_DELAY_MS", 20)
