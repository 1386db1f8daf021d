"""Export of tuned models to ONNX: see docs/use.md."""

from .onnx_file import Comparison, compare, export_onnx

__all__ = ["Comparison", "compare", "export_onnx"]
