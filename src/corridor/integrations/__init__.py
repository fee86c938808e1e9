"""Use a probe in other libraries' trainers. There is one file per trainer."""

from corridor.integrations import lightning, transformers

__all__ = ["lightning", "transformers"]
