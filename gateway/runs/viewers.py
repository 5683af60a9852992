"""Who watches a run, for runs that are to end when nobody does (option `on_disconnect: cancel`).

Rule 1: viewers are open subscriptions and waiting requests. The clock starts when the run is made, and whenever the
last viewer leaves.
"""

import asyncio


class Viewers:
    """`head_start_s`: how much later than now the clock starts."""

    def __init__(self, *, head_start_s: float = 0) -> None:
        self._count = 0
        self._left_at = asyncio.get_running_loop().time() + head_start_s
        self._changed = asyncio.Event()

    def change(self, by: int) -> None:
        self._count += by
        if self._count <= 0:
            self._left_at = asyncio.get_running_loop().time()
        self._changed.set()

    async def missing_for(self, grace_s: float) -> None:
        """Return when nobody has watched for this long."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            left_s = self._left_at + grace_s - loop.time() if self._count <= 0 else None
            if left_s is not None and left_s <= 0:
                return
            try:
                await asyncio.wait_for(self._changed.wait(), left_s)
            except TimeoutError:
                continue
