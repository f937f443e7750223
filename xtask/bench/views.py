"""torchvision's views of the JPEGs in a folder, one core: `views.py pil|tensor FOLDER`.

Each line on stdin is answered by the milliseconds of one pass over all files; at its end come the peak memory in MiB
and the share of decoding. The recipe is the published one: two crops of 224 and six of 98 pixels.
"""

import json
import pathlib
import resource
import sys
import time

import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

torch.set_num_threads(1)
backend, folder = sys.argv[1:]
files = sorted(str(path) for path in pathlib.Path(folder).glob("*.jpg"))


def views(side, scale):
    to_tensor = [v2.ToImage()] if backend == "pil" else []
    return v2.Compose([
        v2.RandomResizedCrop(side, scale=scale, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(7, (0.1, 2.0))], 0.5),
        v2.RandomSolarize(128, 0.2),
        *to_tensor,
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])


large, small = views(224, (0.3, 1.0)), views(98, (0.05, 0.3))


def decode(path):
    if backend == "pil":
        return Image.open(path).convert("RGB")
    return decode_jpeg(read_file(path), ImageReadMode.RGB)


decoding = total = 0.0
for _ in sys.stdin:
    start = time.perf_counter()
    for path in files:
        began = time.perf_counter()
        picture = decode(path)
        decoding += time.perf_counter() - began
        made = [large(picture) for _ in range(2)] + [small(picture) for _ in range(6)]
        assert made[0].shape == (3, 224, 224) and made[7].shape == (3, 98, 98)
    took = time.perf_counter() - start
    total += took
    print(1e3 * took, flush=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(json.dumps({"decoding": decoding / max(total, 1e-9)}))
