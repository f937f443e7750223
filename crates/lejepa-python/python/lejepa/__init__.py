"""Self-supervised encoders for pictures, sounds, clips and your own data, by LeJEPA (arXiv 2511.08544)."""

import json as _json
from dataclasses import dataclass as _dataclass

from . import _lejepa
from ._lejepa import LejepaError, __version__, sigreg, sigreg_with_gradient

__all__ = [
    "Embeddings", "Encoder", "LejepaError", "__version__", "sigreg", "sigreg_with_gradient", "train",
]


@_dataclass
class Embeddings:
    """What `Encoder.embed` makes; see the type stubs."""

    vectors: object
    names: list
    labels: dict
    skipped: list


class Encoder(_lejepa.Encoder):
    """A frozen encoder: a run, or what `lejepa export` wrote."""

    @property
    def config(self):
        return _json.loads(self.config_json)

    def embed(self, data):
        return Embeddings(**super().embed(data))


def train(settings, output, *, device="cpu", overwrite=False, on_metrics=None):
    heard = on_metrics and (lambda line: on_metrics(_json.loads(line)))
    outcome = _lejepa.train(_json.dumps(settings), str(output), device, overwrite, heard)
    return _json.loads(outcome)
