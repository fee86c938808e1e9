import sys

import pytest

from corridor.train.sweep.runs import Run, sweep
from corridor.train.sweep.workers import Workers


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "abacus"}, "one of local, ray, got 'abacus'"),
        ({"processes": 0}, "at least 1, got 0"),
        ({"engine": "ray", "processes": 2}, "processes belongs to engine local"),
        ({"address": "a:1"}, "address belongs to engine ray; leave it out for local"),
        ({"gpus_per_run": 0.5}, "gpus_per_run belongs to engine ray"),
        ({"engine": "ray", "gpus_per_run": 1.5}, "whole number or a fraction"),
        ({"engine": "ray", "gpus_per_run": -1}, "whole number or a fraction"),
        ({"engine": "ray", "retries": -1}, "retries must be at least 0"),
        ({"engine": "batched"}, "removed in 0.2.0; use engine 'local'"),
    ],
)
def test_what_does_not_go_together_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Workers(**options)


def test_without_ray_one_line_names_the_extra(tmp_path, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"corridor\[sweeps\]"):
        sweep([Run("a", small())], tmp_path, processes=Workers(engine="ray"), progress=False)
