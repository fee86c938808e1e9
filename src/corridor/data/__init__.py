"""Find labeled images by name, check them, decode them once, and return batches."""

from corridor.data.assemble import load
from corridor.data.loader import Loader
from corridor.data.sources import NAMES, check_name
from corridor.data.types import Data, StreamSplit, TensorSplit

__all__ = ["NAMES", "Data", "Loader", "StreamSplit", "TensorSplit", "check_name", "load"]
