"""Exit statuses, the same for every command."""

from enum import IntEnum

from runcast.errors import Refused, RuncastError, Unreachable
from runcast.state import RunState


class Exit(IntEnum):
    OK = 0
    USAGE = 2
    FAILED = 3
    CANCELLED = 4
    REFUSED = 5
    UNREACHABLE = 6
    NO_OUTPUT = 7
    INTERRUPTED = 130
    CLOSED_PIPE = 141


MEANING = {
    Exit.OK: "done; the run completed",
    Exit.USAGE: "the command line is not right",
    Exit.FAILED: "the run failed, or bench saw events lost or repeated",
    Exit.CANCELLED: "the run was cancelled",
    Exit.REFUSED: "the gateway refused: token, scope, no such run or pipeline, invalid input, limit",
    Exit.UNREACHABLE: "the gateway cannot be reached",
    Exit.NO_OUTPUT: "what was asked for could not be written",
    Exit.INTERRUPTED: "left by Ctrl-C; the run goes on",
    Exit.CLOSED_PIPE: "whoever read the output has closed it",
}


def exit_of(error: RuncastError) -> Exit:
    return Exit.UNREACHABLE if isinstance(error, Unreachable) else Exit.REFUSED


def exit_after(state: RunState) -> Exit:
    return {"failed": Exit.FAILED, "cancelled": Exit.CANCELLED}.get(state.status, Exit.OK)


def told(error: RuncastError) -> str:
    """What went wrong, in one sentence."""
    if isinstance(error, Refused):
        if error.code == "auth.missing":
            return "no token: set RUNCAST_TOKEN or give --token (auth.missing)"
        if error.errors:
            found = (f"{'.'.join(map(str, each['path']))}: {each['message']}" for each in error.errors)
            return f"{'; '.join(found)} ({error.code})"
    return str(error)
