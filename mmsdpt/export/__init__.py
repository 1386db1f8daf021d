"""Tuned models as ONNX files: see docs/use.md."""

from .onnx_file import Comparison, compare, export_onnx

__all__ = ["Comparison", "compare", "export_onnx"]
