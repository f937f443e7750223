"""Outputs of torchvision's transforms with fixed parameters: `python views.py > views.json`.

Needs torch and torchvision. The formula of the picture is repeated in `recipe.rs`.
"""
import json
import torch
from torchvision.transforms.v2 import functional as F

WIDTH, HEIGHT = 150, 110


def picture():
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    planes = []
    for c in range(3):
        mixed = ((x * 73 + y * 151 + c * 199) * 2654435761) & 0xFFFFFFFF
        noise = (mixed >> 20) % 64
        waves = 96 + 80 * torch.sin(x / (7.0 + 3 * c)) * torch.cos(y / (11.0 - 2 * c))
        planes.append((waves.round().long() + noise).clamp(0, 255))
    return torch.stack(planes).to(torch.uint8)


def case(name, out, **parameters):
    return {"name": name, "shape": list(out.shape), "values": out.flatten().tolist(), **parameters}


image = picture()
small = F.resized_crop(image, 20, 30, 48, 64, [24, 24], antialias=True)
crops = [(0, 0, 110, 150, 24), (20, 30, 48, 64, 24), (61, 3, 20, 26, 16), (40, 50, 12, 9, 24), (5, 90, 100, 60, 16)]
cases = [
    case("crop", F.resized_crop(image, t, l, h, w, [side, side], antialias=True), area=[l, t, w, h], side=side)
    for t, l, h, w, side in crops
]
cases += [case("brightness", F.adjust_brightness(small, f), factor=f) for f in (0.6, 1.4)]
cases += [case("contrast", F.adjust_contrast(small, f), factor=f) for f in (0.6, 1.4)]
cases += [case("saturation", F.adjust_saturation(small, f), factor=f) for f in (0.6, 1.4)]
cases += [case("hue", F.adjust_hue(small, f), factor=f) for f in (-0.1, 0.05, 0.3)]
cases += [case("grey", F.rgb_to_grayscale(small, num_output_channels=3))]
cases += [case("blur", F.gaussian_blur(small, [k, k], [s, s]), factor=s) for s, k in ((0.5, 5), (1.3, 9), (2.0, 13))]
cases += [case("solarize", F.solarize(small, 128))]
cases += [case("flip", F.horizontal_flip(small)), case("flip vertical", F.vertical_flip(small))]
print(json.dumps({"picture": image[:, ::10, ::10].flatten().tolist(), "small": small.flatten().tolist(), "cases": cases}))
