"""Data sets on the Hugging Face hub, by its `datasets` library."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from corridor.data.source import Contents, Source
from corridor.data.table import contents_of, quiet_datasets

TEST_SPLITS = ("test", "validation", "valid", "val")


def source(argument: str, data_dir: Path | None) -> Source:
    """Any data set of the hub that has an image column and a label column: `hf:NAME`."""
    return hub_source(f"hf:{argument}", argument, lambda contents: contents, place=None)


def hub_source(
    name: str, repository: str, finish: Callable[[Contents], Contents], *, place: str | None
) -> Source:
    """Download `repository`, or take it from the hub's own cache.

    Args:
        name: the data set's name, for messages.
        repository: its name on the hub.
        finish: sets title and class names.
        place: where in the data folder local copies are looked for; None if nowhere.

    Raises:
        ConnectionError: the hub cannot be reached or does not have it.
        ValueError: it lacks a split.
    """
    with quiet_datasets() as datasets:
        try:
            tables = datasets.load_dataset(repository)
        # Network, hub and library errors share no base class, and all mean the same to the user.
        except Exception as error:
            raise ConnectionError(_unreachable(name, repository, place, error)) from error
    splits = list(tables)
    test = next((split for split in TEST_SPLITS if split in splits), None)
    if "train" not in splits or test is None:
        raise ValueError(
            f"{name}: expected a train split and one of {', '.join(TEST_SPLITS)}, "
            f"got {', '.join(splits)}: save it as parquet files and use parquet:PATH"
        )
    pair: tuple[Any, Any] = tables["train"], tables[test]
    return Source(
        count=sum(len(table) for table in pair),
        stamp=lambda: [repository, *(table._fingerprint for table in pair)],
        read=lambda: finish(contents_of(*pair, title=repository, name=name)),
    )


def _unreachable(name: str, repository: str, place: str | None, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    advice = "check the name and the connection, or save it as parquet files and use parquet:PATH"
    if place is not None:
        advice = f"put local copies at DIR/{place} and name DIR by --data-dir or CORRIDOR_DATA"
    return f"{name}: expected {repository} from the Hugging Face hub, got: {reason}: {advice}"
