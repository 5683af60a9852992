"""Values in, bytes out: the protocol without its input and output.

Rule 1: nothing here imports asyncio, Quart or anything that does I/O; every function is pure.
"""
