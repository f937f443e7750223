"""Whether an ONNX file gives these embeddings: `onnx_check.py FILE INPUT OUTPUT`, raw 32-bit floats of one view."""

import sys

import numpy
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape[1:]
view = numpy.fromfile(sys.argv[2], dtype="float32").reshape(1, *shape)
expected = numpy.fromfile(sys.argv[3], dtype="float32")
# The batch is free.
views = numpy.concatenate([view, 0.5 * view, view])
output = session.run(["embedding"], {name: views})[0]
off = numpy.abs(output[[0, 2]] - expected).max() / numpy.abs(expected).max()
print(f"{off:.1e}")
sys.exit(int(off > 1e-4))
