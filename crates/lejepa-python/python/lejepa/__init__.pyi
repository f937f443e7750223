"""Self-supervised encoders for pictures, sounds, clips and your own data, by LeJEPA (arXiv 2511.08544)."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str

class LejepaError(RuntimeError):
    """What went wrong, and, after "hint:", what to do next."""

class Embeddings:
    vectors: NDArray[np.float32]
    """`[samples, dim]`."""
    names: list[str]
    """Path or identifier of each row's sample."""
    labels: dict[str, list[str | None]]
    """The label of each row, for each column of labels that the data has."""
    skipped: list[tuple[str, str]]
    """Name and reason of each sample that could not be read."""

class Encoder:
    """A frozen encoder with everything needed to feed it."""

    dim: int
    """Width of an embedding."""
    modality: str
    view_shape: list[int]
    """Largest shape of the view that is embedded, channels first."""
    config: dict[str, Any]
    """The configuration that it was trained with."""

    def __init__(self, path: str | PathLike[str], *, device: str = "cpu") -> None:
        """Opens a run folder (its newest checkpoint) or an export.

        Raises `LejepaError` where it is neither, or its files are damaged.
        """

    def embed(self, data: str | PathLike[str] | Sequence[str | PathLike[str]]) -> Embeddings:
        """Embeds a folder, a manifest, an archive, `"demo"`, or files by their paths.

        Raises `LejepaError` where none of the samples can be read.
        """

    def embed_arrays(
        self,
        arrays: Sequence[NDArray[np.uint8]] | Sequence[NDArray[np.float32]],
        *,
        rate: int | None = None,
    ) -> NDArray[np.float32]:
        """Embeds samples in memory, as if they were files.

        Pictures are uint8 of `[height, width]` or `[height, width, 1 or 3]`; sounds float32 of `[samples]` or
        `[channels, samples]` at `rate` samples a second. Returns `[arrays, dim]`.
        """

    def embed_views(self, views: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeds views `[views, *view_shape]` that are prepared (cut, scaled, normalised) already."""

def train(
    settings: Mapping[str, Any],
    output: str | PathLike[str],
    *,
    device: str = "cpu",
    overwrite: bool = False,
    on_metrics: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Trains, as `lejepa train` does, and returns what came of it.

    `settings` is the configuration in nested dictionaries: `{"modality": "image", "data": {"source": "photos"},
    "train": {"minutes": 10}}`; what it leaves open is chosen by a look at the data. `output` becomes the run folder.
    `on_metrics` gets each line of metrics. The result has `run`, `steps`, `metrics` (the last line), `probes`,
    `skipped` and `warnings`. Ctrl-C ends the run in order: `lejepa resume` goes on with it.
    """

def sigreg(z: NDArray[np.float32], *, slices: int = 1024, seed: int = 0, step: int = 0) -> float:
    """SIGReg of embeddings `[views, samples, dim]` along random directions: the Epps-Pulley statistic of the default
    objective, about 1.05 for Gaussian embeddings whatever their number."""

def sigreg_with_gradient(
    z: NDArray[np.float32], *, slices: int = 1024, seed: int = 0, step: int = 0
) -> tuple[float, NDArray[np.float32]]:
    """SIGReg and its gradient with respect to `z`, of the same shape."""
