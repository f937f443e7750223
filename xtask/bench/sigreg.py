"""The other side of `cargo xtask bench sigreg`: SIGReg in PyTorch, written from the formula.

    sigreg.py eager|compiled VIEWS SAMPLES DIM SLICES

For every line on stdin prints the milliseconds of one forward and backward pass; at the end of
stdin the MiB that the process grew by while timing.
"""

import sys
import time

import torch


def memory(key):
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(key + ":"):
                return float(line.split()[1]) / 1024
    return 0.0


def main():
    mode, sizes = sys.argv[1], [int(a) for a in sys.argv[2:]]
    views, samples, dim, slices = sizes
    torch.manual_seed(0)
    z = torch.randn(views, samples, dim)
    axes = torch.randn(dim, slices)
    axes = axes / axes.norm(dim=0)
    t = torch.linspace(0, 3, 17)
    phi = torch.exp(-0.5 * t * t)
    step = float(t[1] - t[0])
    weights = torch.full((17,), 2 * step)
    weights[0] = weights[-1] = step
    weights = weights * phi

    def sigreg(z, axes):
        angle = (z @ axes).unsqueeze(-1) * t
        real = angle.cos().mean(1) - phi
        imaginary = angle.sin().mean(1)
        return (z.shape[1] * ((real.square() + imaginary.square()) @ weights)).mean()

    function = torch.compile(sigreg) if mode == "compiled" else sigreg
    before = memory("VmRSS")
    if mode == "compiled":
        # Compilation is neither timed nor counted.
        warm = z.clone().requires_grad_()
        function(warm, axes).backward()
        del warm
        before = memory("VmRSS")
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")
    for _ in sys.stdin:
        x = z.clone().requires_grad_()
        start = time.perf_counter()
        function(x, axes).backward()
        elapsed = time.perf_counter() - start
        assert torch.isfinite(x.grad.sum())
        print(elapsed * 1e3, flush=True)
    print(max(memory("VmHWM") - before, 0.0), flush=True)


main()
