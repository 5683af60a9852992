"""What the pages tell a newcomer to type works as it stands: each page's blocks run in order, in a fresh folder.

The convention, for README.md and every docs/*.md:

- A fenced block is run if its language is `sh`, `python` or `js`, an indented one if it begins like a command. All
  `sh` blocks of a page share one shell, and each of their commands must succeed. The folder holds README.md, docs/ and
  clients/ as a checkout does. Blocks in any other language are for the eye.
- A fenced block `output` right behind it is what it prints: all of it, `…` standing for anything. Two more `…` that are
  always there: white space at the ends of lines does not count, and neither does what goes to stderr.
- A `python`, `js` or `html` block whose first line is a comment that names a file (`# my_pipelines.py — …`,
  `// page.js`, `<!-- page.html -->`) becomes that file; it is run by what comes after. Other `python` is run with the
  shell's exported variables; other `js` in a browser, on a page of the gateway, where `await` works and what goes to
  console.log is printed. `js node` is run by Node.
- In `js`, TOKEN and ID at the end of a text, or before `/`, `?` or `&`, stand for the shell's variables.
- The gateway that a page starts with `serve … &` listens where no other does instead of 8000, and what follows is typed
  when it answers. A page that starts none finds one running, as `START` would have started it.
- `<!-- not run: reason -->` on the line above a block leaves it to the reader, for that reason.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import pytest_asyncio

from tests.e2e.chromium import chromium
from tests.e2e.process import ROOT, free_port

pytestmark = pytest.mark.browser
RUN = ("sh", "python", "js", "js node")
START = "export RUNCAST_JWT_SECRET=$(head -c 32 /dev/urandom | base64)\npython -m gateway serve &\n"
BLOCK_S = 60
AT_ONCE = 3
_FENCE = re.compile(r"```([^\n`]*)\n")
_WHY = re.compile(r"<!-- not run: (.+) -->\n")
_FILE = re.compile(r"(?:#|//|<!--) (?P<name>[\w./-]+\.(?:py|js|mjs|html))\b")
_SERVING = re.compile(r"^.*\bserve\b.*&[ \t]*$", re.MULTILINE)
_TYPED = re.compile(
    r" {4}(?:\$ )?(?:curl|python3?|pip|make|export|npm|npx|node|git|docker|podman|runcast|\w+=\$\() ?\S"
)


class Block(NamedTuple):
    line: int
    info: str
    text: str
    output: str | None
    not_run: str | None


def blocks(page: str) -> list[Block]:
    """The blocks of a page in order. Raises ValueError for a fence without an end."""
    lines, found, at = page.splitlines(keepends=True), list[Block](), 0
    while at < len(lines):
        why = _WHY.fullmatch(lines[at - 1]) if at else None
        info, end = "", at + 1
        if fence := _FENCE.fullmatch(lines[at]):
            info, end = fence[1].strip(), lines.index("```\n", at + 1)
            text = "".join(lines[at + 1 : end])
        elif _TYPED.match(lines[at]):
            info = "sh"
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            text = textwrap.dedent("".join(lines[at:end])).rstrip("\n") + "\n"
        if fence or info:
            if info == "output":
                found[-1] = found[-1]._replace(output=text)
            else:
                found.append(Block(at + 1, info, text, None, why and why[1]))
        at = end + 1 if fence else end
    return found


def runs(block: Block) -> bool:
    """Whether somebody who follows the page does something about this block."""
    page = block.info == "html" and _FILE.match(block.text) is not None
    return block.not_run is None and (page or block.info in RUN)


PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}


@pytest.mark.parametrize("page", PAGES)
def test_a_pages_blocks_are_spelled_as_the_convention_says(page):
    """What this module runs is called `sh`, `python` and `js`; what is left out says why."""
    for block in blocks(PAGES[page]):
        assert block.info not in ("bash", "shell", "console", "py", "python3", "javascript", "mjs"), block
        assert block.not_run is None or len(block.not_run.split()) >= 3, block


# Its blocks are modules; tests/js/docs.test.js runs them on Node.
ELSEWHERE = {"docs/javascript.md"}
RUNNING = [page for page in PAGES if page not in ELSEWHERE and any(map(runs, blocks(PAGES[page])))]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def followed(request, tmp_path_factory):
    """The pages that are asked for, each followed to its end, a few at a time: most of that is waiting."""
    room = asyncio.Semaphore(AT_ONCE)

    async def follow(page: str) -> None:
        async with room, reading(tmp_path_factory.mktemp("page")) as reader:
            steps = [one for one in blocks(PAGES[page]) if runs(one)]
            if not any(_SERVING.search(one.text) for one in steps):
                await reader.follow(Block(0, "sh", START, None, None))
            for block in steps:
                printed = await reader.follow(block)
                if block.output is not None and not matches(block.output, printed):
                    pytest.fail(f"{page}:{block.line} should print\n{block.output}\nbut printed\n{printed}")

    asked = [getattr(item, "callspec", None) for item in request.session.items]
    asked = [spec.params.get("page") for spec in asked if spec is not None]
    tasks = {page: asyncio.create_task(follow(page)) for page in RUNNING if page in asked}
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.parametrize("page", RUNNING)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_page_does_what_it_says(page, followed):
    await followed[page]


class Reader:
    """Somebody who types what a page says into one shell, and pastes its JavaScript into a browser."""

    def __init__(self, folder: Path, shell: asyncio.subprocess.Process, port: int) -> None:
        self._folder = folder
        self._shell = shell
        self._port = port
        self._number = 0

    async def follow(self, block: Block) -> str:
        """What the block prints. Fails when it cannot be run to its end."""
        text = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{self._port}")
        named = _FILE.match(text)
        if named and not block.info.startswith("sh"):
            path = self._folder / named["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return ""
        match block.info:
            case "sh":
                begun = _SERVING.search(text)
                printed = await self._type(text[: begun.end()], block.line) if begun else ""
                if begun:
                    await self._listening()
                printed += await self._type(text[begun.end() :] if begun else text, block.line)
            case "python":
                (self._folder / "block.py").write_text(text, encoding="utf-8")
                printed = await self._type("python block.py", block.line)
            case "js node":
                (self._folder / "block.mjs").write_text(await self._filled(text), encoding="utf-8")
                printed = await self._type("node block.mjs", block.line)
            case "js":
                printed = await self._paste(await self._filled(text))
            case other:
                raise AssertionError(other)
        return printed.replace(f"127.0.0.1:{self._port}", "127.0.0.1:8000")

    async def _type(self, text: str, line: int) -> str:
        """Run commands in the shell, up to the first that fails."""
        self._number += 1
        script, out, err = (self._folder / f".{self._number}.{kind}" for kind in ("sh", "out", "err"))
        script.write_text(text, encoding="utf-8")
        self._shell.stdin.write(f". ./{script.name} >{out.name} 2>{err.name} </dev/null\necho done\n".encode())
        try:
            said = await asyncio.wait_for(self._shell.stdout.readline(), BLOCK_S)
        except TimeoutError:
            said = b"(it did not end)"
        printed = out.read_text(encoding="utf-8") if out.exists() else ""
        if said != b"done\n":
            errors = err.read_text(encoding="utf-8") if err.exists() else ""
            pytest.fail(f"the block at line {line} failed {said.decode()}:\n{text}\nprinted:\n{printed}\n{errors}")
        return printed

    async def _filled(self, text: str) -> str:
        for name in ("TOKEN", "ID"):
            word = rf"(?<![\w$.]){name}(?=[\"'`/&?])"
            if re.search(word, text):
                text = re.sub(word, await self._type(f'printf %s "${name}"', 0), text)
        return text

    async def _listening(self) -> None:
        async with httpx.AsyncClient() as client, asyncio.timeout(20):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    await client.get(f"http://127.0.0.1:{self._port}/healthz")
                    return
                await asyncio.sleep(0.05)

    async def _paste(self, text: str) -> str:
        async with chromium() as browser:
            page = await browser.new_page()
            page.set_default_timeout(BLOCK_S * 1000)
            said: list[str] = []
            page.on("console", lambda message: said.append(message.text) if message.type == "log" else None)
            page.on("dialog", lambda dialog: dialog.accept())
            await page.goto(f"http://127.0.0.1:{self._port}/docs")
            async with asyncio.timeout(BLOCK_S):
                await page.evaluate(f"async () => {{ {text} }}")
        return "\n".join(said)


@contextlib.asynccontextmanager
async def reading(folder: Path) -> AsyncIterator[Reader]:
    """A shell in a folder like a fresh checkout; whatever it started ends with it."""
    for name in ("README.md", "docs", "clients"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNCAST_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment |= {"RUNCAST_BIND": f"127.0.0.1:{port}", "PYTHONPATH": str(ROOT), "RUNCAST_LOG_LEVEL": "warning"}
    shell = await asyncio.create_subprocess_exec(
        "bash", "--norc", "-s",
        cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    shell.stdin.write(b"set -euo pipefail\n")
    try:
        yield Reader(folder, shell, port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        await shell.wait()


def matches(expected: str, printed: str) -> bool:
    """Whether a text is the expected one, in which `…` stands for anything."""
    pattern = ".*?".join(re.escape(part) for part in _trimmed(expected).split("…"))
    return re.fullmatch(pattern, _trimmed(printed), re.DOTALL) is not None


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.mark.parametrize(
    ("expected", "printed", "good"),
    [
        ("a\n…\nd", "a\nb\nc\nd\n", True),
        ("a …", "a b  ", True),
        ("a", "a b", False),
        ("…b", "a", False),
        ('{"id": "…", "n": 1}', '{"id": "x", "n": 2}', False),
    ],
)
def test_an_output_matches_as_a_whole(expected, printed, good):
    assert matches(expected, printed) is good


def test_a_page_is_taken_apart():
    """Fences, indented commands, what they print, and why one is left out."""
    page = "# A\n\n```sh\nls\n```\n\n```output\na\n```\n\n    make run\n    make test\n\n    - more\n\n"
    page += "<!-- not run: it takes hours -->\n```python\nx\n```\n\n    prose\n\n```json\n{}\n```\n"
    found = blocks(page)
    assert [one.info for one in found] == ["sh", "sh", "python", "json"]
    assert [one.line for one in found] == [3, 11, 17, 23]
    assert [one.output for one in found] == ["a\n", None, None, None]
    assert found[1].text == "make run\nmake test\n\n- more\n"
    assert [runs(one) for one in found] == [True, True, False, False]
    assert found[2].not_run == "it takes hours"


async def test_a_reader_notices_what_does_not_work(tmp_path):
    """A command that fails anywhere in a block, a wrong word, JavaScript that throws: each is told."""
    block = Block(1, "sh", "", None, None)
    async with reading(tmp_path) as reader:
        assert await reader.follow(block._replace(text="X=1; echo one")) == "one\n"
        assert await reader.follow(block._replace(text='echo "$X"; cat README.md | head -n 1')) == "1\n# Runcast\n"
        with pytest.raises(pytest.fail.Exception, match="printed:\nbefore"):
            await reader.follow(block._replace(text="echo before; false; echo after"))
    (tmp_path / "second").mkdir()
    async with reading(tmp_path / "second") as reader:
        with pytest.raises(pytest.fail.Exception, match="Error"):
            await reader.follow(block._replace(info="python", text="raise SystemExit('Error')"))


def test_the_shell_has_what_the_pages_need():
    for program in ("bash", "curl", "jq"):
        assert shutil.which(program), program
