"""Every dtype and layout takes the same step; nothing waits for the device."""

from __future__ import annotations

import math
import weakref

import pytest
import torch
from tests.optim.conftest import step_sizes
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from corridor import CLR
from corridor.optim import MoMoAdam, SPSMax, _bucket
from corridor.optim._metric import AVERAGE, LENGTH, Euclidean
from corridor.optim._options import Now


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-11), (torch.float32, 1e-4), (torch.bfloat16, 3e-2), (torch.float16, 5e-3)],
)
@pytest.mark.parametrize("shape", [(7,), (300, 70), (0,), ()])
def test_real_dtypes(parameter, dtype, tolerance, shape, momentum):
    torch.manual_seed(0)
    p = parameter(torch.randn(shape), torch.randn(shape), dtype)
    q = parameter(torch.ones(2), torch.ones(2), dtype)  # so that there is always something to move
    start = torch.cat([p.detach().reshape(-1), q.detach()]).double()
    g = torch.cat([p.grad.reshape(-1), q.grad]).double()
    opt = CLR([p, q], max_lr=math.inf, momentum=momentum)
    opt.step(loss=0.5)
    got = torch.cat([p.detach().reshape(-1), q.detach()]).double()
    expected = start - 0.5 / g.square().sum() * g
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert opt.param_groups[0]["effective_lr"].dtype == wide


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_complex_parameters_move_as_pairs_of_reals(dtype, momentum):
    """CLR on |z|, a cone over the plane, reaches its apex in one step."""
    z = torch.nn.Parameter(torch.tensor([3.0 + 4.0j, 1.0 - 2.0j], dtype=dtype))
    opt = CLR([z], max_lr=math.inf, momentum=momentum)
    loss = z.abs().square().sum().sqrt()
    loss.backward()
    opt.step(loss=loss)
    assert float(z.detach().abs().max()) < (1e-5 if dtype == torch.complex64 else 1e-13)


@pytest.mark.parametrize(
    "make",
    [CLR, SPSMax, lambda p, **o: CLR(p, momentum=0.9, **o), lambda p, **o: MoMoAdam(p, 1.0, **o)],
)
def test_a_lazy_conjugate_is_the_gradient_that_it_stands_for(make):
    """Autograd leaves it where a loss uses w.conj(); a GradScaler's division reaches it, too."""
    ends = []
    for lazy in (True, False):
        torch.manual_seed(0)
        w, X, d = (torch.randn(*s, dtype=torch.complex128) for s in ((3,), (3, 5), (5,)))
        w = torch.nn.Parameter(w)
        opt = make([w])
        for scale in (1.0, 1.0, 4.0):
            opt.zero_grad()
            loss = (w.conj() @ X - d).abs().sum()
            (scale * loss).backward()
            assert w.grad.is_conj()
            exact = w.grad.resolve_conj() / scale
            if not lazy:
                w.grad = w.grad.resolve_conj()
            if scale != 1.0:
                opt.grad_scale, opt.found_inf = torch.tensor(scale), torch.tensor(0.0)
            opt.step(loss=loss)
            torch.testing.assert_close(w.grad, exact)
        ends.append(w.detach())
    assert torch.equal(*ends)


def test_parameters_that_are_views_of_another_sign_are_refused():
    z = torch.tensor([3.0 + 4.0j])
    for values in (z.conj(), z.conj().imag):
        with pytest.raises(ValueError, match="params must own their numbers, got the lazy"):
            CLR([torch.nn.Parameter(values)])


class HeldMemory(TorchDispatchMode):
    """Measures the largest number of bytes that new tensors hold at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self.known: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {t.untyped_storage()._cdata for t in tree_leaves(args) if torch.is_tensor(t)}
        result = func(*args, **(kwargs or {}))
        for t in tree_leaves(result):
            storage = t.untyped_storage() if torch.is_tensor(t) else None
            if storage is not None and storage._cdata not in given | self.known.keys():
                self.known[storage._cdata] = storage.nbytes()
                self.bytes += storage.nbytes()
                self.peak = max(self.peak, self.bytes)
                weakref.finalize(storage, self._forget, storage._cdata)
        return result

    def _forget(self, key: int) -> None:
        self.bytes -= self.known.pop(key)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize(
    "make", [CLR, lambda p: CLR(p, momentum=0.9, weight_decay=0.1), lambda p: MoMoAdam(p, 1.0)]
)
def test_a_step_holds_copies_of_one_portion_of_many_small_tensors(make, dtype):
    peaks = []
    for count in (200, 400):
        params = [torch.nn.Parameter(torch.ones(100, 100, dtype=dtype)) for _ in range(count)]
        for p in params:
            p.grad = torch.ones_like(p)
        opt = make(params)
        opt.step(loss=1.0)
        with HeldMemory() as held:
            opt.step(loss=1.0)
        peaks.append(held.peak)
    assert peaks[1] - peaks[0] < 0.02 * sum(p.nbytes for p in params[:200])


def test_mixed_dtypes_share_one_step_size(parameter):
    p = parameter([1.0, 2.0], [0.6, 0.0], torch.float64)
    q = parameter([1.0, 2.0], [0.0, 0.8], torch.bfloat16)
    opt = CLR([p, q], max_lr=math.inf)
    opt.step(loss=1.0)
    norm_sq = 0.36 + float(q.grad[1]) ** 2
    assert step_sizes(opt)[0] == pytest.approx(1.0 / norm_sq, rel=1e-12)


@pytest.mark.parametrize(
    "make", [CLR, lambda p, **o: CLR(p, momentum=0.9, **o), lambda p, **o: MoMoAdam(p, 1.0, **o)]
)
@pytest.mark.parametrize("case", ["channels last", "transposed", "mixed layouts", "slice"])
def test_layouts_in_memory_do_not_matter(case: str, make):
    torch.manual_seed(0)
    p0, g0 = torch.randn(4, 6, 5, 3), torch.randn(4, 6, 5, 3)
    last = torch.channels_last
    p = {
        "channels last": lambda: p0.clone(memory_format=last),
        "transposed": lambda: p0.transpose(0, 1).contiguous().transpose(0, 1),
        "mixed layouts": lambda: p0.clone(memory_format=last),
        "slice": lambda: torch.cat([p0, p0], 3)[..., :3],
    }[case]()
    g = g0.clone(memory_format=last) if case == "channels last" else g0.clone()
    if case == "slice":
        g = torch.cat([g0, g0], 3)[..., :3]
    a, b = torch.nn.Parameter(p), torch.nn.Parameter(p0.clone())
    opts = [make([x], weight_decay=0.01) for x in (a, b)]
    for _ in range(3):
        a.grad, b.grad = g, g0.clone()
        for opt in opts:
            opt.step(loss=0.7)
    torch.testing.assert_close(a.detach(), b.detach(), rtol=1e-4, atol=1e-5)
    if case == "slice":
        assert torch.equal(p._base[..., 3:], p0)  # the memory in between is not ours


class CountReads(TorchDispatchMode):
    """Counts the operations that bring a value back to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.reads += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_step_never_waits_for_the_device(device, dtype, weight_decay, momentum):
    """On fake CUDA tensors any host read raises; on the CPU it is counted."""
    with FakeTensorMode():
        params = [
            torch.nn.Parameter(torch.empty(n, 3, device=device, dtype=dtype)) for n in (5, 9000)
        ]
        groups = [{"params": [params[0]], "max_lr": 0.1}, {"params": [params[1]]}]
        opt = CLR(groups, momentum=momentum, weight_decay=weight_decay)
        for p in params:
            p.grad = torch.empty_like(p)
        with CountReads() as count:
            opt.step(loss=torch.empty((), device=device))
            opt.step(loss=torch.empty((), device=device))
    assert count.reads == 0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_real_steps_read_nothing_back(parameter, momentum):
    p = parameter(torch.randn(40_000), torch.randn(40_000), torch.float32)
    opt = CLR([p], momentum=momentum)
    with CountReads() as count:
        for _ in range(3):
            opt.step(loss=torch.tensor(1.0))
    assert count.reads == 0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_fused_kernel_and_plain_expressions_agree(momentum, monkeypatch):
    torch.manual_seed(0)
    start, grads = torch.randn(50, 40), [torch.randn(50, 40) for _ in range(5)]
    ends = []
    for fused in (True, False):
        if not fused:
            monkeypatch.setattr(_bucket, "FUSED_ON_CPU", set())
        p = torch.nn.Parameter(start.clone())
        opt = CLR([p], momentum=momentum, weight_decay=0.1)
        for k, g in enumerate(grads):
            p.grad = g.clone()
            if k == 2:
                p.grad[0, 0] = math.nan
            opt.step(loss=1.0 + k)
        ends.append(p.detach())
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("noise", [1e-3, 1e-4])
def test_an_average_that_nearly_cancels_makes_no_step_too_long(noise: float, monkeypatch):
    """The fused path has its norm from inner products, the other forms it."""
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        g = torch.randn(3000, generator=generator)
        back = -0.9 * g * (1.0 + noise * torch.randn(3000, generator=generator))
        sizes = []
        for kinds in ({torch.float32}, set()):
            monkeypatch.setattr(_bucket, "FUSED_ON_CPU", kinds)
            p = torch.nn.Parameter(torch.zeros(3000))
            opt = CLR([p], max_lr=math.inf, momentum=0.9)
            for grad in (g, back):
                p.grad = grad.clone()
                opt.step(loss=1.0)
            sizes.append(step_sizes(opt)[0])
        fused, exact = sizes
        assert 0.0 < fused <= 1.02 * exact


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_average_in_sixteen_bits_says_how_far_it_moved_where_the_kernel_would_not(dtype):
    """As on a GPU, where torch's fused kernel takes 16 bits: here rounding swallows the step."""
    bucket = _bucket.Bucket(0, fused=True)
    p, g = torch.full((3,), 256.0, dtype=dtype), torch.ones(3, dtype=dtype)
    bucket.add(p, g, {AVERAGE: torch.zeros_like(p)})
    now = Now({"momentum": 0.5}, {}, torch.float32)
    (norm_sq,) = Euclidean().measure(bucket, (LENGTH,), now)
    assert float(norm_sq) == 0.75
    stride = _bucket.Stride(torch.tensor(1e-3), torch.tensor(False), None)
    seen = Euclidean().move(bucket, stride, now)
    assert seen is not None
    assert float(seen) == 0.0
    assert p.tolist() == [256.0] * 3


def test_a_nan_cap_on_a_device_is_a_skipped_step(parameter, monkeypatch):
    """A device's cap cannot be read without waiting; the step is skipped on the device instead."""
    from corridor.optim import _options

    monkeypatch.setattr(_options, "check_caps", lambda groups: None)
    p = parameter([1.0], [1.0])
    opt = CLR([p])
    opt.param_groups[0]["lr"] = torch.tensor(math.nan)
    opt.step(loss=1.0)
    assert float(p.detach()) == 1.0
    assert int(opt.param_groups[0]["skipped"]) == 1


def test_a_gradient_of_another_dtype_moves_its_parameter():
    if not hasattr(torch.Tensor, "grad_dtype"):
        pytest.skip("this torch has no Tensor.grad_dtype: gradients have their parameter's dtype")
    p = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    p.grad_dtype = torch.float32
    p.grad = torch.full((4,), 0.5)
    CLR([p]).step(loss=0.25)
    torch.testing.assert_close(p.detach(), torch.full((4,), 0.875, dtype=torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_fused_steps_follow_a_beta2_that_changes(dtype):
    """They agree with the steps of a strided parameter, which follow the formula."""
    plain = torch.nn.Parameter(torch.tensor([3.0, -4.0], dtype=dtype))
    wide = torch.tensor([[3.0, 0.0], [-4.0, 0.0]], dtype=dtype)
    strided = torch.nn.Parameter(wide[:, 0])
    opts = [MoMoAdam([p], max_lr=0.1) for p in (plain, strided)]
    for beta2 in (0.999, 0.999, 0.9, 0.9, 0.0, 0.0, 0.99, 0.99):
        for p, opt in zip((plain, strided), opts, strict=True):
            opt.param_groups[0]["beta2"] = beta2
            opt.zero_grad()
            loss = p.square().sum()
            loss.backward()
            opt.step(loss=loss)
        # About 30 roundings of numbers of order 1 in each of 8 steps.
        tolerance = 8 * 30 * torch.finfo(dtype).eps
        torch.testing.assert_close(plain.detach(), strided.detach(), rtol=0.0, atol=tolerance)
