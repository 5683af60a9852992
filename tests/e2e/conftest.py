import pytest

from tests.e2e.process import GatewayProcess


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """One gateway for a module's tests; it must end in order and without a traceback."""
    running = GatewayProcess(tmp_path_factory.mktemp("gateway"), cancel_grace_s=0.5, drain_s=5).start()
    yield running
    assert running.stop() == 0
    assert not running.faults(), running.output
