"""Tables that tests make, in the pages of the documentation."""

from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def write_table(page: Path, table: str) -> None:
    """Put a table into a page, between its marks."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split("<!-- table -->\n")[0], text.split("<!-- end of table -->")[1]
    made = f"{before}<!-- table -->\n\n{table}\n\n<!-- end of table -->{rest}"
    page.write_text(made, encoding="utf-8")
