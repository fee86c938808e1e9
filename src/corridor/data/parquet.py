"""Folders of parquet files with a column of encoded images and one of labels."""

from pathlib import Path
from typing import Any

from corridor.data.source import Contents, Source, file_stamp
from corridor.data.table import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    contents_of,
    find_column,
    quiet_datasets,
)


def source(argument: str, data_dir: Path | None) -> Source:
    """The parquet files of a folder: `parquet:PATH` with train*, and test* or validation*."""
    folder = Path(argument).expanduser()
    return parquet_source(folder, title=folder.resolve().name)


def parquet_source(folder: Path, title: str) -> Source:
    """Find and check the parquet files in `folder`.

    Raises:
        FileNotFoundError: no folder, or no files for a split.
        OSError: a file that is not whole.
        ValueError: a column is missing.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: expected a folder of parquet files, found none: check the path"
        )
    train = _files(folder, "train")
    test = _files(folder, "test", "validation")
    count = sum(_check(path) for path in (*train, *test))
    return Source(
        count=count,
        stamp=lambda: file_stamp((*train, *test)),
        read=lambda: _read(folder, train, test, title),
    )


def _files(folder: Path, *splits: str) -> list[Path]:
    for split in splits:
        if found := sorted(folder.glob(f"{split}*.parquet")):
            return found
    wanted = " or ".join(f"{split}*.parquet" for split in splits)
    raise FileNotFoundError(f"{folder}: expected {wanted}, found none: put the files there")


def _check(path: Path) -> int:
    """Rows of a parquet file, from its footer, once its columns have been found."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns, rows = file.schema_arrow.names, file.metadata.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    if rows == 0:
        raise ValueError(f"{path}: expected images, got an empty table: take the file out")
    find_column(columns, IMAGE_COLUMNS, "images", str(path))
    find_column(columns, LABEL_COLUMNS, "labels", str(path))
    return rows


def _read(folder: Path, train: list[Path], test: list[Path], title: str) -> Contents:
    files = {"train": [str(path) for path in train], "test": [str(path) for path in test]}
    with quiet_datasets() as datasets:
        try:
            tables: Any = datasets.load_dataset("parquet", data_files=files)
        except datasets.exceptions.DatasetGenerationError as error:
            raise _damaged(folder, error.__cause__ or error) from error
    return contents_of(tables["train"], tables["test"], title, str(folder))


def _damaged(path: Path, error: BaseException) -> OSError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return OSError(
        f"{path}: expected a whole parquet file, got: {reason}: copy or download it again"
    )
