"""Measure the sources: ``python -m tests.house`` prints a table and the repeated passages."""

from __future__ import annotations

import ast
import io
import keyword
import statistics
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent.parent / "src" / "corridor"
REPEATED = 8  # a shorter repeated passage is not worth a function of its own
SKIPPED = {tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.ENDMARKER}


@dataclass(frozen=True)
class House:
    """Counts over all source files.

    Attributes:
        files: lines of each file.
        functions: lines of each function, from ``def`` to its last line.
        comments: number of comment lines, without directives for linters.
        docstrings: lines of each docstring.
    """

    files: dict[Path, int]
    functions: list[int]
    comments: int
    docstrings: list[int]

    @property
    def lines(self) -> int:
        """Number of lines of all files."""
        return sum(self.files.values())

    @property
    def median_file(self) -> float:
        """Median lines of a file, leaving out files under ten lines (a package's bare face)."""
        return statistics.median(n for n in self.files.values() if n >= 10)

    @property
    def median_function(self) -> float:
        """Median lines of a function."""
        return statistics.median(self.functions)

    @property
    def comments_per_100(self) -> float:
        """Comment lines per hundred lines."""
        return 100 * self.comments / self.lines


def measure_house(root: Path = SOURCES) -> House:
    """Return the counts over all Python files under a folder."""
    files: dict[Path, int] = {}
    functions: list[int] = []
    docstrings: list[int] = []
    comments = 0
    for path in sorted(root.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        files[path.relative_to(root)] = text.count("\n")
        comments += sum(map(_is_reason, tokenize.generate_tokens(io.StringIO(text).readline)))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.append((node.end_lineno or 0) - node.lineno + 1)
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                written = ast.get_docstring(node)
                docstrings += [written.count("\n") + 1] if written else []
    return House(files, functions, comments, docstrings)


def repeated(root: Path = SOURCES, lines: int = REPEATED) -> list[str]:
    """Return the passages of one shape that stand in two places.

    Two lines have one shape if they differ only in names, strings and numbers. Docstrings,
    comments, imports, blank lines, rows of tables and of signatures do not count.

    Args:
        root: folder whose Python files are read.
        lines: smallest number of lines of a passage.
    """
    shapes = {path: list(_shapes(path)) for path in sorted(root.rglob("*.py"))}
    places = defaultdict(list)
    for path, found in shapes.items():
        for start in range(len(found) - lines + 1):
            places[tuple(shape for _, shape in found[start : start + lines])].append((path, start))
    rows: dict[tuple[Path, Path, int], str] = {}  # by files and distance: the first line of each
    for alike in places.values():
        for i, (a, p) in enumerate(alike):
            for b, q in alike[i + 1 :]:
                if a != b or q - p >= lines:  # a passage does not repeat itself one line on
                    here, there = shapes[a][p][0], shapes[b][q][0]
                    rows.setdefault((a, b, q - p), f"{here} ~ {b.relative_to(root)}:{there}")
    return [f"{a.relative_to(root)}:{row}" for (a, _, _), row in sorted(rows.items())]


def _is_reason(token: tokenize.TokenInfo) -> bool:
    directives = ("# pyright", "# noqa", "# fmt", "# type", "# ruff")
    return token.type == tokenize.COMMENT and not token.string.startswith(directives)


def _shapes(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line number and the shape of every line that counts."""
    text = path.read_text(encoding="utf-8")
    left_out = set()
    for node in ast.walk(ast.parse(text)):
        plain_string = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if plain_string or isinstance(node, ast.Import | ast.ImportFrom):
            left_out.update(range(node.lineno, (node.end_lineno or 0) + 1))
    lines: dict[int, list[str]] = defaultdict(list)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in SKIPPED and token.start[0] not in left_out:
            lines[token.start[0]].append(_kind(token))
    for number, kinds in lines.items():
        # A row of a table or of a signature names values. It does nothing.
        row = " ".join(kinds)
        does = any(kind in ("(", "=") or kind in keyword.kwlist for kind in kinds)
        if does and not row.startswith(("S : ", "N . N : ")):
            yield number, row


def _kind(token: tokenize.TokenInfo) -> str:
    if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
        return "N"
    kinds = {tokenize.STRING: "S", tokenize.NUMBER: "D", tokenize.NEWLINE: ""}
    return kinds.get(token.type, token.string)


def main() -> None:
    """Print the counts and the repeated passages."""
    house = measure_house()
    longest = max(house.files, key=house.files.__getitem__)
    print(f"files                    {len(house.files)}")
    print(f"lines                    {house.lines}")
    print(f"median file              {house.median_file:g}")
    print(f"longest file             {house.files[longest]} ({longest})")
    print(f"median function          {house.median_function:g}")
    print(f"comments per 100 lines   {house.comments_per_100:.1f}")
    print(f"docstring lines, mean    {statistics.mean(house.docstrings):.1f}")
    passages = repeated()
    print(f"repeated passages        {len(passages)} of {REPEATED} lines or more")
    print("\n".join(passages))


if __name__ == "__main__":
    main()
