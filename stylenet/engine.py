"""Paint on a CPU without PyTorch: the network as an OpenVINO graph, made from its architecture and weights.

Several times faster than PyTorch's eager mode, and ready in a tenth of the time that PyTorch takes to be imported. The
graph computes what `transformer_net.TransformerNet` computes, rearranged where that is exact:

* doubling and the convolution after it are one transposed convolution, with fewer than half of the multiplications;
* the last convolution, whose three channels would leave most of a vector register empty, is done for all rows of its
  kernel at once, as so many times more channels, which are then summed up row by row;
* biases before an instance normalisation, which takes them away again, are left out.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stylenet import architecture, engine_cache
from stylenet.architecture import NORM_EPSILON, Convolution, Residual
from stylenet.checkpoint import Model
from stylenet.grain import grain
from stylenet.image import Array

if TYPE_CHECKING:
    import openvino as ov

ROWS, COLUMNS = 2, 3  # axes of (N, C, H, W)
KEPT_PIXELS = 2**21  # working memory for pictures up to this size is kept for the next one


class Engine:
    """A network, compiled for this machine's processor, for pictures of any number and size.

    Args:
        model: the network.
        precision: `f32` or `bf16`, which only processors made for it compute faster; default: the fastest here.

    Raises:
        ImportError: when OpenVINO is not installed, or not for this machine.
    """

    def __init__(self, model: Model, precision: str | None = None) -> None:
        self.architecture = model.architecture
        core = _import_openvino().Core()
        precision = precision or best_precision(core)
        settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        settings["ENABLE_CPU_PINNING"] = "NO"  # threads tied to cores wait for whatever else runs there
        self._compiled = _compile(core, model, settings)

    def paint(self, images: Array) -> Array:
        """Paint pictures of one size together; safe to call from several threads.

        Args:
            images: (N, 3, H, W), RGB in [0, 1]; any H and W that the architecture takes.

        Returns:
            (N, 3, H, W), RGB, about [0, 1]; `image.to_picture` holds the one clamp.

        Raises:
            PictureError: for pictures that are too small.
            MemoryError: when the memory does not suffice.
        """
        height, width = images.shape[ROWS:]
        self.architecture.check_size(height, width)
        if self.architecture.grain:
            noise = grain(0, height, 0, width)
            noise *= self.architecture.grain
            images = images + noise
            del noise
        (top, below), (left, right) = map(self.architecture.growth, (height, width))
        images = np.pad(images, ((0, 0), (0, 0), (top, below), (left, right)), mode="reflect")
        request = self._compiled.create_infer_request()
        try:
            request.infer([np.ascontiguousarray(images)], share_inputs=True)
        except RuntimeError as error:
            if "alloc" in str(error) or "memory" in str(error):
                raise MemoryError(str(error)) from None
            raise
        painted: Array = request.get_output_tensor().data[..., top : top + height, left : left + width].copy()
        del request
        if images.size // 3 > KEPT_PIXELS:
            self._compiled.release_memory()
        return painted


def _import_openvino() -> Any:
    """OpenVINO, but not its converter of other programs' models.

    The converter is not needed, takes longer to import than all the rest, and reports every start over the network.
    """
    blocked = "openvino.tools.ovc"
    if "openvino" in sys.modules or blocked in sys.modules:
        import openvino

        return openvino
    sys.modules[blocked] = None  # type: ignore[assignment]  # Python's own way of making an import fail
    try:
        import openvino

        return openvino
    finally:
        del sys.modules[blocked]


def best_precision(core: ov.Core) -> str:
    """What this processor computes fastest in: `bf16` or `f32`."""
    return "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def _compile(core: ov.Core, model: Model, settings: dict[str, str]) -> ov.CompiledModel:
    """The network compiled for this processor, from the cache where it is there."""
    sources = [Path(__file__), Path(architecture.__file__)]
    versions = [str(core.get_versions("CPU")["CPU"].build_number), str(core.get_property("CPU", "FULL_DEVICE_NAME"))]
    parts = [*(file.read_bytes() for file in sources), repr((versions, settings, model.architecture)).encode()]
    key = engine_cache.key([*parts, *(values.data for values in model.weights.values())])
    blob = engine_cache.find(key)
    if blob is not None:
        try:
            return core.import_model(io.BytesIO(blob), "CPU", settings)
        except RuntimeError:
            pass  # of no use here, whatever the reason: compiled again below, and replaced
    compiled = core.compile_model(build_graph(model), "CPU", settings)
    buffer = io.BytesIO()
    compiled.export_model(buffer)
    engine_cache.keep(key, buffer.getvalue())
    return compiled


def build_graph(model: Model) -> ov.Model:
    """The network as a graph from (N, 3, H, W) to the same, RGB, for H and W that are multiples of its stride."""
    graph = _Graph(model)
    image = graph.op.parameter([-1, 3, -1, -1], np.float32)
    x = graph.op.subtract(image, np.float32(0.5))  # centred, as in training
    for layer in model.architecture.layers():
        if isinstance(layer, Residual):
            x = graph.op.add(x, graph.convolution(layer.second, graph.convolution(layer.first, x)))
        else:
            x = graph.convolution(layer, x)
    return graph.openvino.Model([graph.op.add(x, np.float32(0.5))], [image], "stylenet")


class _Graph:
    def __init__(self, model: Model) -> None:
        self.openvino = _import_openvino()
        self.op = self.openvino.opset13
        self.weights = model.weights

    def convolution(self, layer: Convolution, x: ov.Node) -> ov.Node:
        """A convolution with what goes before and after it."""
        kernel = self.weights[f"{layer.name}.weight"]  # (outputs, inputs, k, k)
        if not layer.norm:
            return self.op.add(self._by_rows(x, kernel), self._per_channel(f"{layer.name}.bias"))
        if layer.doubled:
            x = self._doubled(x, kernel)
        else:
            padded = self._pad(x, layer.kernel_size // 2, layer.kernel_size // 2)
            x = self._convolve(padded, kernel, layer.stride)
        x = self.op.mvn(x, np.array([ROWS, COLUMNS]), True, NORM_EPSILON, "inside_sqrt")
        x = self.op.multiply(x, self._per_channel(f"{layer.norm}.weight"))
        x = self.op.add(x, self._per_channel(f"{layer.norm}.bias"))
        return self.op.relu(x) if layer.relu else x

    def _doubled(self, x: ov.Node, kernel: Array) -> ov.Node:
        """Nearest-neighbour doubling and a 3x3 convolution, as one transposed convolution of stride 2.

        Doubling is a transposed convolution itself, with a 2x2 kernel of ones, and two in a row are one whose kernel is
        the convolution of theirs. Reflecting the doubled picture by one pixel is repeating the border of the original.
        """
        outputs, inputs, *_ = kernel.shape
        joined = np.zeros((inputs, outputs, 4, 4), np.float32)
        for row in range(2):
            for column in range(2):
                joined[:, :, row : row + 3, column : column + 3] += kernel.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
        padded = self._pad(x, 1, 1, mode="edge")
        return self.op.convolution_backprop_data(
            padded, self.op.constant(joined), [2, 2], pads_begin=[3, 3], pads_end=[3, 3]
        )

    def _by_rows(self, x: ov.Node, kernel: Array) -> ov.Node:
        """A convolution to few channels in two steps: along the rows for each row of the kernel, then their sum."""
        outputs, inputs, rows, columns = kernel.shape
        along = kernel.transpose(2, 0, 1, 3).reshape(rows * outputs, inputs, 1, columns)
        total = np.zeros((outputs, rows, outputs, rows), np.float32)  # (to, row of the kernel, from, offset)
        for row in range(rows):
            total[:, row, :, row] = np.eye(outputs)
        padded = self._pad(x, rows // 2, columns // 2)
        return self._convolve(self._convolve(padded, along), total.reshape(outputs, rows * outputs, rows, 1))

    def _convolve(self, x: ov.Node, kernel: Array, stride: int = 1) -> ov.Node:
        return self.op.convolution(x, self.op.constant(kernel), [stride, stride], [0, 0], [0, 0], [1, 1])

    def _pad(self, x: ov.Node, rows: int, columns: int, mode: str = "reflect") -> ov.Node:
        around = self.op.constant(np.array([0, 0, rows, columns]))
        return self.op.pad(x, around, around, mode) if rows or columns else x

    def _per_channel(self, name: str) -> ov.Node:
        return self.op.constant(self.weights[name].reshape(1, -1, 1, 1))
