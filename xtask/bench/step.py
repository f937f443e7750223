"""The other side of `cargo xtask bench step`: a whole training step in PyTorch.

    step.py eager|compiled CASE f32|bf16

The same models, loss and optimizer, written from their descriptions. For every line on stdin prints
the milliseconds of one step; at the end of stdin the MiB that the process grew by since before the
model was made.
"""

import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

# Name: samples, globals, locals, their sizes, encoder.
CASES = {
    "vit-ti": (64, 2, 0, (3, 64, 64), (3, 64, 64), ("vit", 192, 12, 3, (8, 8))),
    "vit-s": (8, 2, 6, (3, 224, 224), (3, 96, 96), ("vit", 384, 12, 6, (16, 16))),
    "resnet18": (16, 2, 0, (3, 64, 64), (3, 64, 64), ("resnet18",)),
    "audio": (64, 2, 4, (1, 64, 96), (1, 64, 48), ("vit", 96, 4, 3, (16, 16))),
    "video": (64, 2, 4, (3, 8, 32, 32), (3, 4, 16, 16), ("vit", 96, 4, 3, (2, 8, 8))),
}


def memory(key):
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(key + ":"):
                return float(line.split()[1]) / 1024
    return 0.0


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, n, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        x = x + self.out(a)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ViT(nn.Module):
    def __init__(self, channels, width, depth, heads, patch):
        super().__init__()
        conv = nn.Conv2d if len(patch) == 2 else nn.Conv3d
        self.embed = conv(channels, width, patch, patch)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.positions = {}
        self.dim = width

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        # Fixed positions cost one addition, whatever they are.
        n = x.shape[1]
        if n not in self.positions:
            self.positions[n] = torch.randn(1, n, x.shape[2]) * 0.02
        x = x + self.positions[n]
        for block in self.blocks:
            x = block(x)
        return self.norm(x).mean(1)


class Residual(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b)
        self.conv2, self.norm2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        self.short = None
        if stride != 1 or a != b:
            self.short = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + (x if self.short is None else self.short(x)))


class ResNet(nn.Module):
    """ResNet-18 with a stem for small views: 3 by 3, stride 1, no pooling."""

    def __init__(self, channels):
        super().__init__()
        layers = [nn.Conv2d(channels, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        a = 64
        for stage in range(4):
            b = 64 << stage
            layers += [Residual(a, b, 1 if stage == 0 else 2), Residual(b, b, 1)]
            a = b
        self.layers = nn.Sequential(*layers)
        self.dim = a

    def forward(self, x):
        return self.layers(x).mean((2, 3))


def main():
    mode, name, precision = sys.argv[1:4]
    samples, globals_, locals_, size, small, encoder = CASES[name]
    views = globals_ + locals_
    torch.manual_seed(0)
    g = torch.randn(globals_ * samples, *size)
    l = torch.randn(locals_ * samples, *small) if locals_ else None
    before = memory("VmRSS")
    net = ResNet(size[0]) if encoder[0] == "resnet18" else ViT(size[0], *encoder[1:])
    if encoder[0] == "resnet18":
        # The layout that PyTorch's convolutions are quickest in.
        net, g = net.to(memory_format=torch.channels_last), g.contiguous(memory_format=torch.channels_last)
    project = nn.Sequential(
        nn.Linear(net.dim, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(),
        nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(),
        nn.Linear(512, 64),
    )
    parameters = [*net.parameters(), *project.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05, fused=True)
    t = torch.linspace(0, 3, 17)
    phi = torch.exp(-0.5 * t * t)
    weights = torch.full((17,), 2 * float(t[1]))
    weights[0] = weights[-1] = float(t[1])
    weights = weights * phi

    def objective(z, axes):
        centre = z[:globals_].mean(0)
        prediction = (z - centre).square().mean()
        angle = (z @ axes).unsqueeze(-1) * t
        real = angle.cos().mean(1) - phi
        imaginary = angle.sin().mean(1)
        sigreg = (z.shape[1] * ((real.square() + imaginary.square()) @ weights)).mean()
        return 0.95 * prediction + 0.05 * sigreg

    def forward(g, l, axes):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            embeddings = net(g) if l is None else torch.cat([net(g), net(l)])
            z = project(embeddings)
        return objective(z.float().view(views, samples, -1), axes)

    function = torch.compile(forward) if mode == "compiled" else forward

    def step():
        optimizer.zero_grad(set_to_none=True)
        axes = torch.randn(64, 1024)
        axes = axes / axes.norm(dim=0)
        loss = function(g, l, axes)
        loss.backward()
        optimizer.step()
        return loss

    if mode == "compiled":
        # Compilation is neither timed nor counted.
        step()
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = step()
        elapsed = time.perf_counter() - start
        assert torch.isfinite(loss)
        print(elapsed * 1e3, flush=True)
    print(max(memory("VmHWM") - before, 0.0), flush=True)


main()
