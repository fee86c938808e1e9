"""Where a sweep's runs are trained: in a pool of processes, or on a Ray cluster."""

from dataclasses import dataclass

from corridor.train.folder.environment import usable_cores
from corridor.train.sweep.jobs import Engine

ENGINES = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class Workers:
    """What trains the runs of a sweep.

    Attributes:
        engine: ``local``: processes on this machine, one torch thread each; ``ray``: tasks on a
            Ray cluster, one core each.
        processes: Runs at a time (local); the usable cores by default.
        address: ``HOST:PORT`` of the cluster's head (ray); by default the cluster that this
            machine is a node of, and ``local`` starts one here for as long as the sweep takes.
        gpus_per_run: GPUs of a run, or a fraction of one (ray); by default 1 where the cluster has
            any and the config may use it.
        retries: How often a run is tried again on another worker when its own was lost (ray).

    Raises:
        ValueError: A value is out of range, or belongs to another engine.

    Example:
        >>> Workers(engine="ray", gpus_per_run=0.25).gpus_per_run
        0.25
    """

    engine: str = "local"
    processes: int | None = None
    address: str | None = None
    gpus_per_run: float | None = None
    retries: int | None = None

    def __post_init__(self) -> None:
        if self.engine == "batched":
            raise ValueError("engine 'batched' was removed in 0.2.0; use engine 'local'")
        if self.engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {self.engine!r}")
        self._belongs("processes", "local")
        for name in ("address", "gpus_per_run", "retries"):
            self._belongs(name, "ray")
        self._at_least("processes", 1)
        self._at_least("retries", 0)
        gpus = self.gpus_per_run
        if gpus is not None and not (0 <= gpus < 1 or gpus in range(1, 10**6)):
            raise ValueError(
                f"gpus_per_run must be a whole number or a fraction between 0 and 1, got {gpus}"
            )

    def _belongs(self, name: str, engine: str) -> None:
        if getattr(self, name) is not None and self.engine != engine:
            raise ValueError(f"{name} belongs to engine {engine}; leave it out for {self.engine}")

    def _at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")

    def start(self) -> Engine:
        """The engine, after a look at whether it is there.

        Raises:
            OSError: There is no such cluster.
            ImportError: A library is missing; the message names the extra.
            ValueError: The cluster has no node that could take a run.
        """
        if self.engine == "ray":
            from corridor.train.sweep.cluster import connect

            return connect(self.address, gpus_per_run=self.gpus_per_run, retries=self.retries)
        from corridor.train.sweep.pool import pool

        return pool(self.processes or usable_cores())
