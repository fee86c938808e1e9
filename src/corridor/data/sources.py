"""Find data sets by name: embedded digits, idx files, image folders, parquet files, the hub.

Local copies come before any download. No code of a data set is ever run.
"""

import contextlib
import gzip
import os
import random
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from corridor._extras import required
from corridor.data.cache import cache_folder, digest
from corridor.data.decode import first_line, jpeg_quality, open_image
from corridor.data.types import Contents, Rows, Source

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")
TEST_SPLITS = ("val", "valid", "validation", "test")
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jfif",
    ".png",
    ".bmp",
    ".gif",
    ".pgm",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
CIFAR10 = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
FASHION = "T-shirt/top,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot"
Heads = tuple[Sequence[str], Sequence[Any]]  # names of tables, and their features
IDX_FILES = [f"{s}-{k}-ubyte" for s in ("train", "t10k") for k in ("images-idx3", "labels-idx1")]


def check_name(name: str) -> None:
    """Raise ValueError unless `name` has the form of one of `NAMES`. Nothing is opened."""
    _row(name)


def find(name: str, data_dir: Path | None) -> Source:
    """Find a data set by its name, first in the folder with local copies. It is opened later."""
    return _row(name)(name.partition(":")[2], data_dir)


def choose(labels: Tensor, count: int, *, proportional: bool = False) -> Tensor:
    """Return the positions of `count` images, ascending, from classes in turn or in proportion."""
    order, sizes = torch.argsort(labels, stable=True), torch.bincount(labels)
    rank = torch.cat([torch.arange(size, dtype=torch.float64) for size in sizes.tolist()])
    if proportional:
        rank = (rank + 0.5) / sizes[labels[order]]
    return order[torch.argsort(rank, stable=True)][:count].sort().values


def _read_digits() -> Contents:
    """Read scikit-learn's 1797 digits. A random fifth of each class is the test set."""
    with required("scikit-learn", extra="lab"):
        from sklearn.datasets import load_digits

    levels, target = load_digits(return_X_y=True)
    pixels = np.rint(np.asarray(levels) * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    labels = torch.from_numpy(np.asarray(target)).long()
    order = list(range(len(labels)))
    random.Random(0).shuffle(order)
    shuffled = torch.tensor(order)
    tested = torch.zeros(len(labels), dtype=torch.bool)
    tested[shuffled[choose(labels[shuffled], 360, proportional=True)]] = True
    train, test = (Rows(pixels[kept.numpy()], labels[kept], "digits") for kept in (~tested, tested))
    return Contents("Digits", "0123456789", train, test)


def _titled(source: Source, title: str, classes: str) -> Source:
    """Give a source its title and class names. JPEG copies get their quality in the title."""

    def read() -> Contents:
        contents = source.read()
        quality = jpeg_quality(open_image(contents.train, 0))
        added = "" if quality is None else f" (JPEG q{quality})"
        return contents._replace(title=f"{title}{added}", classes=classes.split(","))

    return replace(source, read=read)


def _fashion_mnist(argument: str, data_dir: Path | None) -> Source:
    name, shared = "fashion-mnist", os.environ.get("XDG_DATA_DIRS")
    # Debian's package dataset-fashion-mnist puts the files into a shared folder.
    roots = (shared or "/usr/local/share:/usr/share").split(os.pathsep)
    folders = [Path(root) / "datasets" / name for root in roots if root]
    folder = next((f for f in folders if any(f.glob(f"{IDX_FILES[0]}*"))), None)
    if data_dir is not None and (data_dir / name).is_dir():
        folder = data_dir / name
    if folder is None:
        source = _local_or_hub(name, "zalando-datasets/fashion_mnist", None, "*-ubyte.gz")
    else:
        paths = [_idx_file(folder, file) for file in IDX_FILES]
        pairs = paths[:2], paths[2:]
        source = Source(70_000, paths, lambda: Contents("", (), *(_idx_rows(*p) for p in pairs)))
    return _titled(source, "Fashion-MNIST", FASHION)


def _idx_file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise _missing(folder, f"{name} or {name}.gz", "copy the four idx files there")


def _idx_rows(images_path: Path, labels_path: Path) -> Rows:
    images, labels = _read_idx(images_path, 3), _read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise OSError(
            f"{labels_path} must have {len(images)} labels, got {len(labels)}; copy all files again"
        )
    return Rows(images, torch.from_numpy(labels.astype("int64")), str(images_path))


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an idx file: bytes 0, 0, 8, d, then d sizes (big-endian, 32 bits), then the values."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        if content[:4] != bytes((0, 0, 8, dimensions)):
            raise ValueError(f"a head of {content[:4].hex() or 'no bytes'}")
        shape = np.frombuffer(content, ">u4", dimensions, offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise _damaged(path, f"idx (bytes in {dimensions} dimensions)", error) from error


def _imagenet(argument: str, data_dir: Path | None) -> Source:
    folder = (data_dir or Path("DIR")) / "imagenet"
    if data_dir is None or not folder.is_dir():
        advice = "put the images there and give DIR by --data-dir or CORRIDOR_DATA"
        raise _missing(folder, "train/CLASS/* and val/CLASS/*", advice)
    source, statistics = _image_folder(str(folder)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    contents = source.read()._replace(title="ImageNet")
    # Published accuracies are of the central 224 of 256 pixels.
    source = replace(source, read=lambda: contents, image_size=224, keep=224 / 256)
    return replace(source, statistics=statistics)


def _image_folder(argument: str, data_dir: Path | None = None) -> Source:
    # The datasets library needs 26 s to list 20,000 files (a directory scan: 0.01 s).
    folder = Path(argument).expanduser()
    _check_folder(folder, "train/CLASS/* and val/CLASS/*")
    test_name = next((name for name in TEST_SPLITS if (folder / name).is_dir()), "val")
    train, test = folder / "train", folder / test_name
    if not (train.is_dir() and test.is_dir()):
        raise _missing(folder, "train/CLASS/* and val/CLASS/* (or test)", "put the images there")
    classes, tested = ([n for n in _visible(f) if (f / n).is_dir()] for f in (train, test))
    if unknown := [name for name in tested if name not in classes]:
        raise ValueError(
            f"{test} must have the classes of {train}, got also {', '.join(unknown[:3])}; "
            "remove or rename the folder"
        )
    skipped: list[str] = []
    splits = [_file_rows(path, classes, skipped) for path in (train, test)]
    files = [path for rows in splits for path in rows.cells]
    if skipped:
        warnings.warn(
            f"{len(skipped)} files or subfolders of {folder} are skipped, such as {skipped[0]}; "
            f"images must lie directly in train/CLASS and end with {' '.join(SUFFIXES)}",
            stacklevel=4,
        )
    contents = Contents(folder.resolve().name, classes, *splits)
    return Source(len(files), files, lambda: contents, classes=classes)


def _visible(folder: Path) -> list[str]:
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(name for name in names if not name.startswith("."))


def _file_rows(folder: Path, classes: Sequence[str], skipped: list[str]) -> Rows:
    """List the images of a split by class. All other files that are not hidden join `skipped`."""
    paths, labels = [], []
    skipped += [os.path.join(folder, name) for name in _visible(folder) if name not in classes]
    for label, name in enumerate(classes):
        files = [os.path.join(folder, name, file) for file in _visible(folder / name)]
        images = [file for file in files if file.lower().endswith(SUFFIXES)]
        skipped += [file for file in files if not file.lower().endswith(SUFFIXES)]
        paths += images
        labels += [label] * len(images)
    if not paths:
        raise _missing(folder, f"images ({' '.join(SUFFIXES)}) in folders", "put them there")
    return Rows(paths, torch.tensor(labels), str(folder))


def _parquet(argument: str, data_dir: Path | None = None) -> Source:
    folder = Path(argument).expanduser()
    _check_folder(folder, "train*.parquet and val*.parquet (or test)")
    pair = _parquet_files(folder, "train"), _parquet_files(folder, *TEST_SPLITS)
    files = [path for paths in pair for path in paths]
    # The Arrow copy of a large data set takes long: check before it is made.
    ends = [_end(path) for path in files]

    def read() -> Contents:
        with _quiet_datasets() as datasets:
            try:
                # The library's own name of a copy depends on the paths and mtimes alone.
                copies = str(cache_folder() / f"arrow-{digest(files)}")
                opened = [datasets.Dataset.from_parquet(p, cache_dir=copies) for p in pair]
                features = [datasets.Features.from_arrow_schema(schema) for _, schema in ends]
            except datasets.exceptions.DatasetGenerationError as error:
                cause = error.__cause__ or error
                if isinstance(cause, OSError) and cause.errno:  # of a write: of a read it is None
                    cause.filename = str(cache_folder())
                    raise cause from None
                raise _damaged(folder, "parquet", cause) from error
        return _contents(opened, folder.resolve().name, str(folder), (files, features))

    return Source(sum(count for count, _ in ends), files, read)


def _check_folder(path: Path, wanted: str) -> None:
    if path.is_file():
        raise NotADirectoryError(
            f"{path} must be a folder with {wanted}, got a file; give its folder"
        )


def _parquet_files(folder: Path, *splits: str) -> list[str]:
    for split in splits:
        if found := sorted(folder.glob(f"{split}*.parquet")):
            return [str(path) for path in found]
    wanted = " or ".join(f"{split}*.parquet" for split in splits)
    raise _missing(folder, wanted, "check the path or put the files there")


def _end(path: str) -> tuple[int, Any]:
    """Check the columns of a parquet file and return its number of rows and its schema."""
    with required("pyarrow", extra="lab"):
        import pyarrow
        import pyarrow.parquet
    try:
        end = pyarrow.parquet.read_metadata(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, "parquet", error) from error
    if end.num_rows == 0:
        raise _missing(path, "rows", "remove the file")
    schema = end.schema.to_arrow_schema()
    for wanted in (IMAGE_COLUMNS, LABEL_COLUMNS):
        _column(schema.names, wanted, path)
    return end.num_rows, schema


def _local_or_hub(
    name: str, repository: str, data_dir: Path | None, files: str = "*.parquet"
) -> Source:
    """Find parquet files in `data_dir/name`, else ask the hub, or read its cache offline."""
    if data_dir is not None and (data_dir / name).is_dir():
        return _parquet(str(data_dir / name))
    with _quiet_datasets() as datasets:
        try:
            tables = datasets.load_dataset(repository)
        except Exception as error:  # of the network, the hub or the library: no common base class
            raise ConnectionError(
                f"{name} must be {repository} on the Hugging Face hub, got: {first_line(error)}; "
                f"put copies at DIR/{name}/{files} and give DIR by --data-dir or CORRIDOR_DATA"
            ) from error
    test = next((split for split in TEST_SPLITS if split in tables), None)
    if "train" not in tables or test is None:
        raise ValueError(
            f"{name} must have a split train and one of {', '.join(TEST_SPLITS)}, "
            f"got {', '.join(tables)}; save it as parquet files and use parquet:PATH"
        )
    pair = tables["train"], tables[test]
    stored = [entry["filename"] for table in pair for entry in table.cache_files]
    heads = ("train", test), [table.features for table in pair]
    return Source(sum(map(len, pair)), stored, lambda: _contents(pair, repository, name, heads))


def _contents(tables: Sequence[Any], title: str, name: str, heads: Heads) -> Contents:
    """Read the tables of both splits. Classes without names get the names 0, 1, ..."""
    train, test = (
        _table_rows(table, f"{name} ({split})")
        for table, split in zip(tables, ("train", "test"), strict=True)
    )
    # Labels that are not 0 .. n - 1, such as ids, are refused by this number of classes.
    classes = _class_names(heads) or range(len(train.labels.unique()))
    return Contents(title, [str(label) for label in classes], train, test)


def _class_names(heads: Heads) -> Sequence[str]:
    """Return the names of the classes, which all tables that have names must share."""
    named: dict[tuple[str, ...], str] = {}
    for name, columns in zip(*heads, strict=True):
        column = columns[_column(columns, LABEL_COLUMNS, name)]
        named.setdefault(tuple(getattr(column, "names", None) or ()), name)
    named.pop((), None)
    if len(named) > 1:
        (first, here), (second, there) = list(named.items())[:2]
        other = ", ".join(sorted({*first} ^ {*second})[:3])
        raise ValueError(
            f"{there} must have the class names of {here}, got "
            f"{f'a difference in {other}' if other else 'another order'}; number classes equally"
        )
    return next(iter(named), ())


def _table_rows(table: Any, name: str) -> Rows:
    columns = table.column_names
    image, label = _column(columns, IMAGE_COLUMNS, name), _column(columns, LABEL_COLUMNS, name)
    if len(table) == 0:
        raise _missing(name, "rows", "check the files")
    column = table.data.column(label)
    if not str(column.type).lstrip("u").startswith("int") or column.null_count:
        raise ValueError(
            f"{name} must have whole numbers in column {label}, got {column.type} with "
            f"{column.null_count} empty cells; number the classes from 0"
        )
    # Numbers from 2^63 wrap around to negative ones, which are refused as labels.
    labels = column.cast("int64", safe=False).to_numpy().copy()
    return Rows(_Cells(table, image), torch.tensor(labels), name)


class _Cells:
    """Read one column of a table from its Arrow file, one cell at a time."""

    def __init__(self, table: Any, column: str):
        # The table pickles as the path of its file: new worker processes get no copy of it.
        self.table, self.column = table, column

    def __getitem__(self, i: int) -> Any:
        return self.table.data.column(self.column)[i].as_py()


def _column(present: Iterable[str], wanted: Iterable[str], name: str) -> str:
    if found := [column for column in wanted if column in present]:
        return found[0]
    names = " or ".join(wanted), ", ".join(present)
    raise ValueError(f"{name} must have a column {names[0]}, got {names[1]}; rename the column")


def _missing(place: str | Path, wanted: str, advice: str) -> FileNotFoundError:
    return FileNotFoundError(f"{place} must have {wanted}, found none; {advice}")


def _damaged(path: str | Path, form: str, error: BaseException) -> OSError:
    return OSError(f"{path} must be whole {form} data, got: {first_line(error)}; copy it again")


@contextlib.contextmanager
def _quiet_datasets() -> Iterator[Any]:
    """Import `datasets`, without progress bars and log lines until the block ends."""
    with required("datasets", extra="lab"):
        import datasets
    bars, level = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # the caller reports failures
    try:
        yield datasets
    finally:
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()


_SOURCES: dict[str, Callable[[str, Path | None], Source]] = {
    # A mirrored digit is a different sign.
    "digits": lambda _, folder: Source(1797, (), _read_digits, flip=False),
    "cifar10": lambda _, folder: _titled(
        _local_or_hub("cifar10", "uoft-cs/cifar10", folder), "CIFAR-10", CIFAR10
    ),
    "fashion-mnist": _fashion_mnist,
    "imagenet": _imagenet,
    "imagefolder:PATH": _image_folder,
    "parquet:PATH": _parquet,
    "hf:NAME": lambda name, folder: _local_or_hub(name, name, folder),
}
NAMES = tuple(_SOURCES)


def _row(name: str) -> Callable[[str, Path | None], Source]:
    head, colon, argument = name.partition(":")
    for key, source in _SOURCES.items():
        if (argument and key.startswith(f"{head}:")) or (name == key and not colon):
            return source
    raise ValueError(f"data must be one of {', '.join(NAMES)}, got {name!r}")
