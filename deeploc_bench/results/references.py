"""The references of models, losses and suites as BibTeX: an entry for each address that plugins gave."""

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from unicodedata import normalize
from urllib.parse import quote

import msgspec

from deeploc_bench.contract.errors import StoreError
from deeploc_bench.contract.files import digest, parse_toml, rewrite
from deeploc_bench.results.cells import Cell

FILE = "references.bib"
HEADER = "% Written by deeploc-bench, and written again with each report.\n"
ADDRESS = re.compile(r"\A(?i:https?)://\S+\Z")
PLAIN = "/:?#@!&*+,;=%-._~()"
"""The signs of addresses that mean nothing to BibTeX; others are written as their codes."""


class Paper(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be cited for an address."""

    key: str
    author: str
    title: str
    year: int


def bibliography(cells: Sequence[Cell]) -> str:
    """Return the references of what some cells are about: one entry a reference, and in it what it is cited for.

    One that is not known here is an entry of its own, named after what it was given for.
    """
    cited: dict[str, set[str]] = {}
    for cell in cells:
        for what, address in cell.facts.references.items():
            cited.setdefault(address, set()).add(what)
    papers = msgspec.convert(
        parse_toml(files("deeploc_bench.results").joinpath("papers.toml").read_bytes(), "papers.toml", StoreError),
        dict[str, Paper],
    )
    keys: dict[str, str] = {}
    for address in sorted(cited):
        key = _key(sorted(cited[address])[0], papers.get(address))
        keys[f"{key}-{digest([address])[:8]}" if key in keys else key] = address  # a key twice is an error of BibTeX
    entries = [_entry(key, address, sorted(cited[address]), papers.get(address)) for key, address in keys.items()]
    return HEADER + "".join(f"\n{entry}" for entry in entries)


def _key(cited_for: str, paper: Paper | None) -> str:
    """Return the key of an entry; without a paper it is called what it was given for."""
    return paper.key if paper else re.sub(r"[^a-z0-9]+", "-", cited_for.lower())


def _entry(key: str, address: str, cited_for: Sequence[str], paper: Paper | None) -> str:
    told = ", ".join(cited_for).replace("_", r"\_")  # the one sign of names that means something to TeX
    fields = {"title": f"{{{told}}}"}
    if paper:
        fields = {"author": paper.author, "title": f"{{{paper.title}}}", "year": str(paper.year)}
    where = _words(address)
    if ADDRESS.match(address):
        where = rf"\url{{{quote(address, safe=PLAIN)}}}"
    fields |= ({"howpublished": where} if where else {}) | {"note": f"Used for: {told}"}
    return f"@misc{{{key},\n" + ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items()) + "\n}\n"


def _words(reference: str) -> str:
    """Return a reference that is no address as TeX prints it: in letters, and without what it would obey."""
    letters = normalize("NFKD", reference[:500]).encode("ascii", "ignore").decode()
    kept = re.sub(r"[^A-Za-z0-9.,:;()/@+*='_&%#$-]+", " ", letters)
    return re.sub(r"([_&%#$])", r"\\\1", kept).strip()


def write_references(file: Path, cells: Sequence[Cell]) -> None:
    """Write the references of some cells; raises StoreError where the file is there and somebody else's."""
    if file.exists() and not (file.is_file() and file.read_bytes().startswith(HEADER.encode())):
        raise StoreError(
            f"{file} was not written by deeploc-bench, and is not written over; move it, or name another file or folder"
        )
    rewrite(file, bibliography(cells).encode())
