"""A trial form: polar factors on hidden matrices, beta 0.8, c0 0.1."""

from benchmarks.practice.averaged import Spectral
from benchmarks.practice.entrant import Entrant


def make(model, steps, rate, f_star):
    return Spectral(model, f_star), None


entrant = Entrant(
    name="averaged_spectral",
    label="averaged, spectral",
    family="trial",
    make=make,
    loss="watch",
    order=1,
    about="polar factors on hidden matrices, beta 0.8, c0 0.1",
)
