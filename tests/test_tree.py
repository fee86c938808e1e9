from __future__ import annotations

import math

import pytest
import torch

from corridor import _tree, surfaces, theory


@pytest.mark.parametrize("n", [1, 100, _tree.SHORT, _tree.SHORT + 1, 40_000_000])
def test_squared_norm_is_right_to_1e_6_at_any_size(n: int):
    x = torch.empty(n).normal_(generator=torch.Generator().manual_seed(0)).add_(0.1)
    expected = sum(float(c.double().square().sum()) for c in x.split(1 << 20))
    assert float(_tree.squared_norm([x])) == pytest.approx(expected, rel=1e-6)


def test_many_short_tensors_are_summed_as_well_as_a_long_one():
    parts = [torch.full((1000,), 0.1) for _ in range(3000)]
    expected = 3e6 * float(torch.tensor(0.1).double()) ** 2
    assert float(_tree.squared_norm(parts)) == pytest.approx(expected, rel=2e-6)
    whole = torch.full((40_000_000,), 0.1)  # equal terms round alike: the worst case
    assert float(_tree.squared_norm([whole])) == pytest.approx(expected * 40 / 3, rel=2e-6)


def test_dot_is_right_to_1e_6_of_the_norms_on_a_large_tensor():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.empty(10_000_001).normal_(generator=generator) for _ in range(2))
    y = y + 0.3 * x
    exact = float((x.double() * y.double()).sum())
    assert abs(float(_tree.dot([x], [y])) - exact) <= 1e-6 * float(
        x.double().norm() * y.double().norm()
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_low_precision_is_summed_in_float32(dtype):
    x = torch.full((30_000,), 3.0, dtype=dtype)  # the sum of squares overflows float16
    total = _tree.squared_norm([x, x[:5]])
    assert total.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert float(total) == pytest.approx(9.0 * 30_005, rel=1e-6)
    assert float(_tree.dot([x], [x])) == pytest.approx(9.0 * 30_000, rel=1e-6)


def test_a_lazy_conjugate_is_read_as_its_value_and_refused_as_a_parameter():
    z = torch.tensor([1.0 + 2.0j, 3.0])
    assert _tree.as_real(z.conj()).tolist() == [[1.0, -2.0], [3.0, 0.0]]
    assert float(_tree.dot([z.conj()], [z])) == 6.0  # Re (1 - 4 - 4i + 9)
    with pytest.raises(ValueError, match="params must own their numbers"):
        _tree.as_real(torch.nn.Parameter(z.conj()))


def test_complex_empty_and_strided_tensors():
    z = torch.tensor([3.0 + 4.0j])
    assert float(_tree.squared_norm([z])) == pytest.approx(25.0)
    assert float(_tree.dot([z], [1j * z])) == pytest.approx(0.0)
    assert float(_tree.squared_norm([torch.empty(0, 3)])) == 0.0
    x = torch.randn(100, 300, dtype=torch.float64)
    for view in (x.t(), x[::2, ::3], x[:, :1].expand(-1, 4)):
        assert float(_tree.squared_norm([view])) == pytest.approx(float((view * view).sum()))
        assert float(_tree.dot([view], [view.contiguous()])) == pytest.approx(
            float((view * view).sum())
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_gram_is_two_norms_and_a_product(dtype):
    x, y = torch.tensor([1.0, 2.0], dtype=dtype), torch.tensor([3.0, 4.0], dtype=dtype)
    assert [float(v) for v in _tree.gram([x], [y])] == [25.0, 11.0, 5.0]


def test_a_norm_whose_square_leaves_float32_is_right():
    for unit in (1e-30, 1.0, 1e30):
        parts = [torch.tensor([3.0 * unit]), torch.zeros(0), torch.tensor([[4.0 * unit]])]
        assert float(_tree.norm(parts)) == pytest.approx(5.0 * unit, rel=1e-6)
    assert float(_tree.norm([torch.zeros(2), torch.zeros(0)])) == float(
        _tree.norm([torch.zeros(0)])
    )
    assert math.isnan(float(_tree.norm([torch.tensor([math.nan, 1.0])])))
    assert not math.isfinite(float(_tree.norm([torch.tensor([math.inf, 1.0])])))


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 10**30])
def test_seeds_beyond_64_bits_are_one_line(seed):
    wanted = f"seed must be from -2\\*\\*63 to 2\\*\\*64 - 1, got {seed}; give another number"
    for call in (
        lambda: _tree.seeded(seed),
        lambda: surfaces.Quadratic(torch.eye(2)).sample(3, seed=seed),
        lambda: theory.detect(lambda x: x.sum(), [torch.ones(2)], seed=seed),
    ):
        with pytest.raises(ValueError, match=wanted):
            call()


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 2**64 - 1])
def test_seeds_of_64_bits_are_those_of_torch(seed):
    assert _tree.seeded(seed).initial_seed() % 2**64 == seed % 2**64
