"""Views of the files in a folder by other libraries, one core: `views.py PEER FOLDER`.

Each line on stdin is answered by the milliseconds of one pass over all files; at its end come the peak memory in MiB
and the share of decoding. The recipes are those of `time_views`, each in the fastest way that its library offers.
"""

import json
import pathlib
import random
import resource
import sys
import time

import torch
from torch.nn import functional as F

torch.set_num_threads(1)
peer, folder = sys.argv[1:3]
part = [int(frames) for frames in sys.argv[3:]]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pictures(on_tensors):
    """The published recipe: two crops of 224 and six of 98 pixels."""
    from PIL import Image
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms import v2

    def views(side, scale):
        to_tensor = [] if on_tensors else [v2.ToImage()]
        return v2.Compose([
            v2.RandomResizedCrop(side, scale=scale, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(7, (0.1, 2.0))], 0.5),
            v2.RandomSolarize(128, 0.2),
            *to_tensor,
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ])

    def decode(path):
        if on_tensors:
            return decode_jpeg(read_file(path), ImageReadMode.RGB)
        return Image.open(path).convert("RGB")

    large, small = views(224, (0.3, 1.0)), views(98, (0.05, 0.3))

    def cut(picture):
        made = [large(picture) for _ in range(2)] + [small(picture) for _ in range(6)]
        assert made[0].shape == (3, 224, 224) and made[7].shape == (3, 98, 98)

    return decode, cut


def sounds():
    """Two log-mel views of 96 frames and four of 48: stretches of a random length, bands, gain and fader."""
    torch.version.cuda = None  # it refuses a PyTorch for another CUDA, of which nothing here uses any
    import torchaudio
    from torchcodec.decoders import AudioDecoder

    resample = torchaudio.transforms.Resample(44100, 16000)
    mel = torchaudio.transforms.MelSpectrogram(16000, 512, hop_length=160, n_mels=64, f_min=50.0)

    def decode(path):
        samples = AudioDecoder(path).get_all_samples()
        assert samples.sample_rate == 44100
        return resample(samples.data.mean(0))

    def view(power, frames):
        shown = round(frames * random.uniform(0.6, 1.5))
        start = random.randint(0, power.shape[1] - shown)
        gain = random.uniform(-1, 1) * 1.38 + random.uniform(-1, 1) * torch.linspace(-0.5, 0.5, shown)
        log = (power[:, start : start + shown] * gain.exp() + 1e-6).log().sub_(-2.2).div_(2.2)
        height = round(64 * min(random.uniform(0.6, 1.5), 1.0))
        low = random.randint(0, 64 - height)
        log = log[None, None, low : low + height]
        return F.interpolate(log, (64, frames), mode="bicubic", align_corners=False)

    def cut(wave):
        power = mel(wave)
        made = [view(power, 96) for _ in range(2)] + [view(power, 48) for _ in range(4)]
        assert made[5].shape == (1, 1, 64, 48)

    return decode, cut


def spectrograms():
    """The log-mel spectrogram of ten seconds in memory."""
    torch.version.cuda = None
    import functools
    import torchaudio
    from torchcodec.decoders import AudioDecoder

    resample = torchaudio.transforms.Resample(44100, 16000)
    mel = torchaudio.transforms.MelSpectrogram(16000, 512, hop_length=160, n_mels=64, f_min=50.0, center=False)

    @functools.cache
    def decode(path):
        return resample(AudioDecoder(path).get_all_samples().data.mean(0))

    def cut(wave):
        log = (mel(wave) + 1e-6).log().sub_(-2.2).div_(2.2)
        assert log.shape == (64, 997)

    return decode, cut


def clips(read, window=None):
    """Two views of eight frames of 112 pixels and four of four frames of 56, of the whole file or of `window` frames of
    it. Only frames that are seen are asked for."""
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional as T

    def indices(total, count):
        stride = random.randint(1, 2)
        start = random.randint(0, max(0, total - (count - 1) * stride - 1))
        return [min(start + i * stride, total - 1) for i in range(count)]

    def decode(path):
        total, get = read(path)
        length = min(window or total, total)
        first = random.randint(0, total - length)
        plans = [([first + i for i in indices(length, n)], size) for n, size in [(8, 112)] * 2 + [(4, 56)] * 4]
        wanted = sorted({i for plan, _ in plans for i in plan})
        return plans, {i: at for at, i in enumerate(wanted)}, get(wanted)

    crop = {112: ((0.4, 1.0), 112), 56: ((0.1, 0.4), 56)}
    colour = v2.Compose([
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2)], 0.8),
        v2.RandomGrayscale(0.2),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ])

    def cut(item):
        plans, places, frames = item
        # As is usual, frames of 128 first.
        frames = T.resize(frames, [128], antialias=True)
        for plan, size in plans:
            scale, side = crop[size]
            top, left, h, w = area(frames, scale)
            picked = frames[[places[i] for i in plan]]
            made = colour(T.resized_crop(picked, top, left, h, w, [side, side], antialias=True))
            assert made.shape == (len(plan), 3, side, side)

    def area(frames, scale):
        height, width = frames.shape[-2:]
        part = random.uniform(*scale) * height * width
        ratio = random.uniform(3 / 4, 4 / 3)
        w, h = min(width, round((part * ratio) ** 0.5)), min(height, round((part / ratio) ** 0.5))
        return random.randint(0, height - h), random.randint(0, width - w), h, w

    return decode, cut


def by_decord(path):
    import decord

    reader = decord.VideoReader(path, num_threads=1)

    def get(wanted):
        return torch.from_numpy(reader.get_batch(wanted).asnumpy()).permute(0, 3, 1, 2)

    return len(reader), get


def by_torchcodec(path):
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, num_ffmpeg_threads=1)
    return len(decoder), lambda wanted: decoder.get_frames_at(wanted).data


decode, cut = {
    "pillow": lambda: pictures(False),
    "tensor": lambda: pictures(True),
    "torchaudio": sounds,
    "torchaudio-mel": spectrograms,
    "decord": lambda: clips(by_decord, *part),
    "torchcodec": lambda: clips(by_torchcodec, *part),
}[peer]()
files = sorted(str(path) for path in pathlib.Path(folder).iterdir())
decoding = total = 0.0
for _ in sys.stdin:
    start = time.perf_counter()
    for path in files:
        began = time.perf_counter()
        item = decode(path)
        decoding += time.perf_counter() - began
        cut(item)
    took = time.perf_counter() - start
    total += took
    print(1e3 * took, flush=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(json.dumps({"decoding": decoding / max(total, 1e-9)}))
