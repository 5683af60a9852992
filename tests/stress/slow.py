"""900 readers beside 100 clients that never read; stuck clients cut off; a run of 200,000 events joined."""

from pathlib import Path

from tests.e2e.clients import served
from tests.faults.slow import MAX_BUFFER_BYTES, SETTINGS, crowded, cut_off, long_join
from tests.stress.round import Outcome, scaled

READERS, STUCK, EVENTS = 900, 100, 200_000
RATIO = 1.5
STALL_S = 2
GROWN_BYTES = 12_000_000
MANY = {**SETTINGS, "max_connections_per_subject": 10_000}
LIMIT_S = 600


async def run(folder: Path, *, seed: int, scale: float) -> Outcome:
    readers, stuck, events = scaled(READERS, scale), scaled(STUCK, scale), scaled(EVENTS, scale)
    with served(folder, **MANY) as gateway:
        beside = await crowded(gateway, readers=readers, stuck=stuck, measure_s=5, ratio=RATIO)
        joined = await long_join(gateway, events=events, within_s=LIMIT_S / 2)
    with served(folder, **MANY, stall_timeout_s=STALL_S) as gateway:
        cut = await cut_off(gateway, stuck=stuck, within_s=STALL_S + 20)
    wrong = []
    if beside.ratio > RATIO:
        wrong.append(f"the readers' p99 is {beside.ratio:.2f} times what it was")
    if beside.held_bytes >= 2 * MAX_BUFFER_BYTES:
        wrong.append(f"{beside.held_bytes} bytes are held for each stuck client")
    if max(joined.grown_bytes.values()) >= GROWN_BYTES:
        wrong.append(f"a join grows the gateway by {max(joined.grown_bytes.values())} bytes")
    return Outcome([str(beside), str(cut), str(joined)], wrong)
