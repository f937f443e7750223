"""Run by tests/python.rs in a folder of runs, files, and what `lejepa embed` made of them."""

import threading
import time

import lejepa
import numpy as np


def close(ours, theirs):
    """The same but for the order of sums, which depends on how many samples are embedded together."""
    return ours.shape == theirs.shape and np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


files = {"image": ("pictures", "png"), "audio": ("sounds", "wav"), "video": ("demo", None)}
for modality, (data, ending) in files.items():
    encoder = lejepa.Encoder(modality)
    assert encoder.modality == modality and encoder.config["modality"] == modality, encoder
    theirs = np.load(f"{modality}.npy")
    names = open(f"{modality}.paths.txt").read().splitlines()
    ours = encoder.embed(data)
    assert ours.vectors.dtype == np.float32 and ours.vectors.shape == theirs.shape == (len(names), encoder.dim)
    assert np.array_equal(ours.vectors, theirs), np.abs(ours.vectors - theirs).max()
    assert ours.names == names and ours.skipped == [], ours.names
    if modality == "video":
        assert len(ours.labels["motion"]) == len(names), ours.labels.keys()
        continue
    # Files by their paths, in the order of the call; one of them is no file.
    paths = [f"{data}/2.{ending}", f"{data}/0.{ending}", "nowhere.png"]
    some = encoder.embed(paths)
    assert close(some.vectors, theirs[[2, 0]])
    assert [name for name, reason in some.skipped] == ["nowhere.png"]

encoder = lejepa.Encoder("image")
theirs = np.load("image.npy")
for i in range(5):
    y, x = np.mgrid[:17, : 20 + i]
    pixels = ((x * 9 + y * 5) % 256).astype(np.uint8) ^ np.uint8(i * 31)
    for array in [pixels, pixels[..., None]]:
        assert close(encoder.embed_arrays([array])[0], theirs[i])
views = np.random.default_rng(0).normal(size=(3, *encoder.view_shape)).astype(np.float32)
assert encoder.embed_views(views).shape == (3, encoder.dim)
assert not np.array_equal(encoder.embed_views(views)[0], encoder.embed_views(views)[1])

sounds = lejepa.Encoder("audio")
phase = np.arange(24000, dtype=np.float32) * np.float32(0.02) * np.float32(2)
vector = sounds.embed_arrays([np.sin(phase) * np.float32(0.3)], rate=16000)[0]
assert np.abs(vector - np.load("audio.npy")[1]).max() < 1e-3

for call, says in [
    (lambda: lejepa.Encoder("nowhere"), "nowhere"),
    (lambda: lejepa.Encoder("image", device="tpu"), "tpu"),
    (lambda: encoder.embed_arrays([np.zeros((4, 4))]), "uint8"),
    (lambda: encoder.embed_arrays([np.zeros((4, 4, 7), np.uint8)]), "1 or 3"),
    (lambda: sounds.embed_arrays([np.zeros(9, np.float32)]), "rate"),
    (lambda: encoder.embed_views(np.zeros((1, 2, 2), np.float32)), "shape"),
    (lambda: lejepa.sigreg(np.full((1, 4, 2), np.nan, np.float32)), "NaN"),
    (lambda: lejepa.train({"train": {"stepz": 1}}, "x"), "stepz"),
]:
    try:
        call()
    except lejepa.LejepaError as error:
        assert says in str(error), error
    else:
        raise AssertionError(says)

# Gaussian embeddings are at about 1.05, others above; the gradient is that of finite differences.
z = np.random.default_rng(1).normal(size=(2, 256, 8)).astype(np.float32)
value, gradient = lejepa.sigreg_with_gradient(z, slices=64, seed=3)
assert 0.6 < value < 1.7 and gradient.shape == z.shape, value
assert value == lejepa.sigreg(z, slices=64, seed=3) != lejepa.sigreg(z, slices=64, seed=4)
assert lejepa.sigreg(0.1 * z) > 5 * value
towards = gradient / np.linalg.norm(gradient)
step = 0.05
ends = [lejepa.sigreg(z + sign * step * towards, slices=64, seed=3) for sign in (1, -1)]
slope = (ends[0] - ends[1]) / (2 * step)
assert abs(slope / np.linalg.norm(gradient) - 1) < 0.02, (slope, np.linalg.norm(gradient))

# A run by settings, heard line by line; Python goes on meanwhile.
lines, turns, done = [], [0], threading.Event()


def count():
    while not done.is_set():
        turns[0] += 1
        time.sleep(0.001)


thread = threading.Thread(target=count)
thread.start()
settings = {
    "modality": "image",
    "data": {"source": "demo"},
    "train": {"steps": 8, "batch": 16, "log_every": 2},
    "encoder": {"name": "vit", "width": 24, "depth": 2},
    "probe": {"enabled": False},
}
outcome = lejepa.train(settings, "by-python", on_metrics=lines.append)
done.set()
thread.join()
assert outcome["steps"] == 8 and outcome["metrics"]["step"] == 8, outcome
assert [line["step"] for line in lines] == [1, 2, 4, 6, 8] and lines[-1]["loss"] == outcome["metrics"]["loss"]
assert turns[0] > 20, turns
assert lejepa.Encoder("by-python").dim == 24


def complain(line):
    raise KeyError(line["step"])


try:
    lejepa.train(settings, "stopped", on_metrics=complain)
except KeyError as error:
    assert error.args == (1,)
else:
    raise AssertionError("the error of the function is lost")
print("all as expected")
