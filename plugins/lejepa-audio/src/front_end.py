"""Writes front_end.json: log-mel spectrograms by librosa, and by torchaudio where it agrees on what to compute.

The signal is a glide of a second at 16 kHz: 0.5·sin(2π(100t + 2950t²)), a hundredth of it from 0.8 s on. Values are
`[mels, frames]` in row-major order. Made with librosa 0.11, torchaudio 2.11: `python3 front_end.py > front_end.json`.
"""

import json

import librosa
import numpy as np

RATE = 16000
t = np.arange(RATE) / RATE
wave = np.where(t < 0.8, 0.5, 0.005) * np.sin(2 * np.pi * (100 * t + 2950 * t * t))


def mel(y, s):
    htk = s["scale"] == "htk"
    power = librosa.feature.melspectrogram(
        y=y, sr=RATE, n_fft=s["n_fft"], hop_length=s["hop"], n_mels=s["mels"], fmin=s["edges"][0], fmax=s["edges"][1],
        htk=htk, norm=None if htk else "slaney", center=False, power=2.0,
    )
    return power


def by_torchaudio(y, s):
    import torch
    from torchaudio.transforms import MelSpectrogram

    htk = s["scale"] == "htk"
    transform = MelSpectrogram(
        RATE, n_fft=s["n_fft"], hop_length=s["hop"], n_mels=s["mels"], f_min=s["edges"][0], f_max=s["edges"][1],
        mel_scale=s["scale"], norm=None if htk else "slaney", center=False, power=2.0,
    ).double()
    return transform(torch.from_numpy(y)).numpy()


LOG = {
    "ln": lambda p: np.log(p + 1e-6),
    "db": lambda p: librosa.power_to_db(p, ref=1.0, amin=1e-10, top_db=None),
    "log1p": np.log1p,
}

out = []
for program, compute in [("librosa", mel), ("torchaudio", by_torchaudio)]:
    for scale, log, emphasis in [
        ("htk", "ln", 0.0),
        ("slaney", "db", 0.0),
        ("slaney", "log1p", 0.0),
        ("htk", "db", 0.97),
    ]:
        s = {"n_fft": 512, "hop": 640, "mels": 20, "edges": [50.0, 7600.0], "scale": scale, "log": log,
             "pre_emphasis": emphasis}
        y = np.append(wave[0], wave[1:] - emphasis * wave[:-1])
        values = [float(f"{v:.5g}") for v in LOG[log](compute(y, s)).flatten()]
        out.append({"of": f"{program} {scale} {log} {emphasis}", **s, "values": values})
print(json.dumps(out).replace("}, ", "},\n"))
