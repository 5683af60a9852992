"""The API as its document tells it: thousands of requests made from it, and no answer that it does not know."""

import asyncio

from tests.e2e.clients import served
from tests.faults.check import seed_of
from tests.fuzz.api import Api
from tests.fuzz.beside import ROOMY, unharmed


async def test_every_answer_is_as_the_document_says(tmp_path):
    with served(tmp_path, **ROOMY) as gateway:
        async with unharmed(gateway) as beside:
            found = await asyncio.to_thread(Api(gateway, seed=seed_of(7)).fuzz, 2600)
    print(found, beside)
    assert not found.wrong, found.wrong[0]
    assert not beside.wrong
    assert found.requests > 1800
    assert {200, 201, 202, 204, 401, 404, 405, 409, 422} <= found.statuses.keys()
