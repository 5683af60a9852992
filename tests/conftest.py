"""A loop is there only where a test makes one: looptime would make one for every other test, and leave it open."""

import asyncio

asyncio.set_event_loop(None)
