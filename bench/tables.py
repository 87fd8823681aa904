"""Keeps what the benches measure as CSV files, and draws the tables of docs/results from them.

    python bench/tables.py             draws the tables of the pages again
    python bench/tables.py --check     only names the pages whose tables are not those of the files
    COMMAND | python bench/tables.py --put FILE.csv COLUMN ...
                                       keeps the table that COMMAND prints; the columns tell its rows apart

Each row has the commit of the program that it was measured with. A table of a page stands between
two comments, of which the first names the file, which of its rows (if not all) and the columns:

    <!-- table defaults.csv where data = yes and task = vgg: task | MACs left | lost -->
    <!-- table samples.csv where MACs != 1: net | MACs | top-1 across samples -->
    <!-- end of table -->
"""

import argparse
import csv
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
# What the program is made of.
SOURCE = ("src", "proto", "build.rs", "Cargo.toml", "Cargo.lock")
MARK = re.compile(r"(<!-- table (\S+)(?: where (.+?))?: (.+?) -->\n).*?(<!-- end of table -->)", re.DOTALL)

Row = dict[str, str]


@cache
def commit() -> str:
    """The last commit that changed the program, marked where files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words, "--", *SOURCE], cwd=ROOT, capture_output=True, text=True).stdout

    return git("log", "-1", "--format=%h").strip() + ("-changed" if git("status", "--porcelain") else "")


def read(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[Row]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def keep(path: Path, rows: list[Row], keys: list[str]) -> None:
    """Puts rows in the place of those that have the same keys; new ones come last."""
    known = read(path) if path.exists() else []
    found = {tuple(row.get(key, "") for key in keys): row for row in [*known, *rows]}
    write(path, list(found.values()))


class Table:
    """Rows that are printed as they are measured, and kept in FOLDER/NAME.csv where there is a folder."""

    def __init__(self, name: str, columns: list[str], keys: list[str], folder: Path | None = None) -> None:
        self.columns, self.keys = columns, keys
        self.path = folder and folder / f"{name}.csv"
        print("\n".join(markdown(columns, [])))

    def add(self, *values: object) -> None:
        row = dict(zip(self.columns, map(str, values), strict=True))
        print(line(row.values()), flush=True)
        if self.path:
            keep(self.path, [row | {"commit": commit()}], self.keys)


def line(cells) -> str:
    return "| " + " | ".join(cell or "-" for cell in cells) + " |"


def markdown(columns: list[str], rows: list[Row]) -> list[str]:
    """The lines of a table, with figures to the right."""

    def is_number(name: str) -> bool:
        return bool(rows) and all(re.fullmatch(r"[-+\d.,]*", row[name]) for row in rows)

    rule = "|" + "".join("---:|" if is_number(name) else "---|" for name in columns)
    return [line(columns), rule, *(line(row[name] for name in columns) for row in rows)]


def spread(columns: list[str], rows: list[Row]) -> tuple[list[str], list[Row]]:
    """Turns a last column `FIGURE across KEY` into one column for each key."""
    *others, last = columns
    if " across " not in last:
        return columns, rows
    figure, key = last.split(" across ")
    found: dict[tuple, Row] = {}
    for row in rows:
        names = {name: row[name] for name in others}
        found.setdefault(tuple(names.values()), names)[row[key]] = row[figure]
    across = list(dict.fromkeys(row[key] for row in rows))
    return [*others, *across], [{name: "" for name in across} | row for row in found.values()]


def drawn(file: str, where: str | None, columns: str, folder: Path = RESULTS) -> str:
    """The table that a comment asks for."""
    rows = read(folder / file)
    for condition in where.split(" and ") if where else []:
        name, differs, value = re.fullmatch(r"(.+?) (!?)= ?(.*)", condition).groups()
        rows = [row for row in rows if (row[name] == value) != bool(differs)]
    if not rows:
        sys.exit(f"{file} has no row where {where}")
    return "\n".join(markdown(*spread(columns.split(" | "), rows)))


def page(text: str) -> str:
    """The page with its tables drawn again."""
    return MARK.sub(lambda mark: f"{mark[1]}\n{drawn(mark[2], mark[3], mark[4])}\n\n{mark[5]}", text)


def printed(lines: list[str]) -> list[Row]:
    """The rows of a table in Markdown, whatever stands around it."""
    inside = [text.strip().strip("|").split("|") for text in lines if text.startswith("|")]
    columns, _, *rows = [[cell.strip() for cell in cells] for cells in inside]
    empty = {"-": ""}
    return [{name: empty.get(cell, cell) for name, cell in zip(columns, row)} | {"commit": commit()} for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--put", nargs="+", metavar=("FILE", "COLUMN"), help="keep the table on standard input")
    arguments = parser.parse_args()
    if arguments.put:
        file, *keys = arguments.put
        lines = sys.stdin.read().splitlines()
        print("\n".join(lines))
        keep(Path(file), printed(lines), keys)
    stale = []
    for path in sorted(RESULTS.glob("*.md")):
        old = path.read_text()
        new = page(old)
        if new != old:
            stale.append(path)
            if not arguments.check:
                path.write_text(new)
    for path in stale:
        print(f"{path.relative_to(ROOT)}: {'other tables than its files' if arguments.check else 'drawn again'}")
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
