"""Tables of encoded images, as the `datasets` library holds them in Arrow files."""

import contextlib
import io
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from corridor.data.source import Contents

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")


@dataclass(frozen=True)
class TableRows:
    """A table with a column of encoded images, each a struct of `bytes` and `path`, or bytes."""

    table: Any  # datasets.Dataset
    column: str
    labels: Tensor
    name: str

    def __len__(self) -> int:
        return len(self.table)

    def open(self, i: int) -> Image.Image:
        """Open the image in row `i`."""
        encoded = self.encoded(i)
        return Image.open(io.BytesIO(encoded))

    def encoded(self, i: int) -> bytes:
        """The encoded image in row `i`."""
        cell = self.table.data.column(self.column)[i].as_py()
        if isinstance(cell, dict) and cell.get("bytes") is None and cell.get("path"):
            with open(cell["path"], "rb") as file:
                return file.read()
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise ValueError("the row holds no image")
        return content

    def where(self, i: int) -> str:
        """Name row `i`."""
        return f"{self.name}, row {i}"


@contextlib.contextmanager
def quiet_datasets() -> Iterator[Any]:
    """The `datasets` module, with no progress bars, no log lines and no usage counts.

    Only for the block: the user's own settings come back after it.
    """
    for variable, off in (("HF_HUB_DISABLE_TELEMETRY", "1"), ("HF_UPDATE_DOWNLOAD_COUNTS", "0")):
        os.environ.setdefault(variable, off)
    try:
        import datasets
        from huggingface_hub.utils import logging as hub_logging
    except ImportError as error:
        raise FileNotFoundError(
            'expected the datasets library, which reads this data: pip install "corridor[lab]"'
        ) from error
    bars = datasets.are_progress_bars_disabled()
    levels = datasets.logging.get_verbosity(), hub_logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # failures are reported by the caller
    hub_logging.set_verbosity(logging.CRITICAL)
    try:
        yield datasets
    finally:
        datasets.logging.set_verbosity(levels[0])
        hub_logging.set_verbosity(levels[1])
        if not bars:
            datasets.enable_progress_bars()


def find_column(present: Iterable[str], wanted: tuple[str, ...], kind: str, name: str) -> str:
    """The first of the `wanted` column names that is `present`, or a one-line ValueError."""
    present = list(present)
    for column in wanted:
        if column in present:
            return column
    raise ValueError(
        f"{name}: expected {kind} in a column {' or '.join(wanted)}, "
        f"got the columns {', '.join(present) or '(none)'}: rename the column"
    )


def contents_of(train: Any, test: Any, title: str, name: str) -> Contents:
    """Two `datasets.Dataset`s as `Contents`; class names from their features, or 0, 1, ...

    Args:
        train: the training table.
        test: the test table.
        title: name on figures.
        name: name in error messages.
    """
    splits = _rows(train, f"{name} (train)"), _rows(test, f"{name} (test)")
    feature = train.features[find_column(train.column_names, LABEL_COLUMNS, "labels", name)]
    names = getattr(feature, "names", None)
    if not names:
        names = [str(label) for label in range(int(splits[0].labels.max()) + 1)]
    return Contents(title, tuple(names), *splits)


def _rows(table: Any, name: str) -> TableRows:
    image = find_column(table.column_names, IMAGE_COLUMNS, "images", name)
    label = find_column(table.column_names, LABEL_COLUMNS, "labels", name)
    if len(table) == 0:
        raise ValueError(f"{name}: expected images, got an empty table: check the files")
    column = table.data.column(label)
    if not str(column.type).startswith(("int", "uint")) or column.null_count:
        raise ValueError(
            f"{name}: expected whole numbers in column {label}, got {column.type} "
            f"with {column.null_count} empty: number the classes from 0"
        )
    return TableRows(table, image, torch.tensor(column.to_numpy().astype("int64")), name)
