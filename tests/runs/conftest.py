import pytest

from tests.runs.doubles import service


@pytest.fixture
async def made():
    """Makes services; whatever they left running is stopped at the end."""
    services = []

    def make(*args, **kwargs):
        services.append(service(*args, **kwargs))
        return services[-1]

    yield make
    for runs in services:
        await runs._tasks.close()
        await runs._stragglers.close(timeout_s=0.1)
