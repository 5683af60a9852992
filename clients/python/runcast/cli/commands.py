"""What each command does. Every one takes the client and the options, and returns the exit status."""

import argparse
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

import orjson
from rich.console import Console
from rich.table import Table

from runcast.cli.arguments import input_of, value_of
from runcast.cli.bench import bench
from runcast.cli.display import line_of
from runcast.cli.exits import Exit, exit_after
from runcast.cli.watching import watch
from runcast.client import Client, Pipeline, Run

Command = Callable[[Client, argparse.Namespace], Awaitable[int]]


async def _start(client: Client, options: argparse.Namespace) -> int:
    names = ("budget_usd", "timeout_s", "on_disconnect")
    chosen = {name: value for name in names if (value := getattr(options, name)) is not None}
    given = input_of(options)
    run = await client.start(options.pipeline, given, key=options.key, owner=options.owner, **chosen)
    return await _started(run, options)


async def _retry(client: Client, options: argparse.Namespace) -> int:
    return await _started(await client.run(options.run).retry(), options)


async def _started(run: Run, options: argparse.Namespace) -> int:
    if options.watch:
        return await watch(run)
    _print(run.id)
    return Exit.OK


async def _watch(client: Client, options: argparse.Namespace) -> int:
    return await watch(client.run(options.run))


async def _tail(client: Client, options: argparse.Namespace) -> int:
    run = client.run(options.run)
    types = options.types.split(",") if options.types else None
    # What is not there is told at once, not after the retries; and of what has ended no event may be left.
    state = await run.state()
    async with aclosing(run.events(after=options.after, replay=options.replay, types=types)) as events:
        async for event in events:
            _print(orjson.dumps(event.fields()).decode() if options.json else line_of(event))
            state.apply(event)
    return exit_after(state)


async def _cancel(client: Client, options: argparse.Namespace) -> int:
    told = await client.run(options.run).cancel(options.reason)
    _print(told.final or told.status)
    return Exit.OK


async def _pause(client: Client, options: argparse.Namespace) -> int:
    _print(await client.run(options.run).pause())
    return Exit.OK


async def _resume(client: Client, options: argparse.Namespace) -> int:
    _print(await client.run(options.run).resume())
    return Exit.OK


async def _input(client: Client, options: argparse.Namespace) -> int:
    await client.run(options.run).input(options.input_id, value_of(options.value))
    return Exit.OK


async def _ls(client: Client, options: argparse.Namespace) -> int:
    runs = client.runs(status=options.status, pipeline=options.pipeline, limit=options.limit)
    if options.json:
        async for run in runs:
            _print(orjson.dumps(run.model_dump(mode="json", exclude_unset=True)).decode())
        return Exit.OK
    rows = [(run.id, run.pipeline, run.status, f"{run.progress:.0f} %", _when(run.created_at)) async for run in runs]
    _table(("run", "pipeline", "status", "progress", "created"), rows)
    return Exit.OK


async def _pipelines(client: Client, options: argparse.Namespace) -> int:
    found = await client.pipelines()
    if options.json:
        for each in found:
            _print(orjson.dumps(each.model_dump(mode="json")).decode())
        return Exit.OK
    rows = [(each.name, _fields(each), (each.description or "").partition("\n")[0]) for each in found]
    _table(("pipeline", "input (* needed)", "what it does"), rows)
    return Exit.OK


def _fields(pipeline: Pipeline) -> str:
    schema = pipeline.input_schema or {}
    needed = schema.get("required", ())
    return ", ".join(f"{name}*" if name in needed else name for name in schema.get("properties", ()))


def _when(ms: int | None) -> str:
    return "" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """For eyes a table, for a pipe a line for each row with tabs between."""
    if not sys.stdout.isatty():
        for row in rows:
            _print("\t".join(row))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, no_wrap=name == "run", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


COMMANDS: dict[str, Command] = {
    "start": _start,
    "watch": _watch,
    "tail": _tail,
    "cancel": _cancel,
    "pause": _pause,
    "resume": _resume,
    "input": _input,
    "retry": _retry,
    "ls": _ls,
    "pipelines": _pipelines,
    "bench": bench,
}
