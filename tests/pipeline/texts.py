"""Real prose to test on: works in the public domain, found where Debian packages put them.

Rule 1: none of it is kept in this repository; a missing package fails the test that wants its text.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ROOT = Path("/usr/share/gocode/src/github.com")
LZ4 = "golang-github-pierrec-lz4-dev"
BROTLI = "golang-github-andybalholm-brotli-dev"


@dataclass(frozen=True)
class Work:
    """A file of a package; `topic` is something that the piece between the two marks is about."""

    name: str
    package: str
    file: str
    begin: str
    end: str
    topic: str


WORKS = (
    Work("fence", LZ4, "Mark.Twain-Tom.Sawyer.txt", "\nCHAPTER II\n", "\nCHAPTER IV\n", "whitewashing the fence"),
    Work(
        "cave", LZ4, "Mark.Twain-Tom.Sawyer.txt", "\nCHAPTER XXXI\n", "\nCHAPTER XXXIV\n", "the cave and the treasure"
    ),
    Work("league", LZ4, "pg1661.txt", "\nADVENTURE II.", "\nADVENTURE III.", "the Red-headed League"),
    Work("carbuncle", LZ4, "pg1661.txt", "\nVII. THE ADV", "\nVIII. THE ADV", "the blue carbuncle"),
    Work(
        "light",
        BROTLI,
        "Isaac.Newton-Opticks.txt",
        "\n_Exper._ 2. About",
        "\n_Exper._ 10.",
        "refraction of red and blue light",
    ),
)


def read(work: Work) -> str:
    """The piece, a few thousand words. Raises LookupError when its package is not installed."""
    whole = _whole(work.package, work.file)
    start = whole.index(work.begin)
    return whole[start : whole.index(work.end, start + len(work.begin))]


@lru_cache
def _whole(package: str, file: str) -> str:
    library = package.removeprefix("golang-github-").removesuffix("-dev").replace("-", "/", 1)
    found = sorted((ROOT / library).rglob(file))
    if not found:
        raise LookupError(f"{file} is missing: install the Debian package {package} (make test does)")
    return found[0].read_text(encoding="utf-8-sig")
