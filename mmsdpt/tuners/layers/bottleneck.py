"""The bottleneck of adapters."""

from __future__ import annotations

from torch import Tensor, nn

from .common import positive_integer


class Bottleneck(nn.Module):
    """Up(Dropout(activation(Down(x)))), without a residual.

    Biases start from zero; the method initialises the weights.

    Args:
        width: d.
        bottleneck: m.
        activation: Module between the two projections.
        dropout: Dropout rate of the m activations, in training.

    Shape:
        (..., d) to (..., d), in the dtype of the input.

    Raises:
        ValueError: if the bottleneck is not a positive integer.
    """

    def __init__(
        self, width: int, bottleneck: int, activation: nn.Module, dropout: float = 0.0
    ) -> None:
        super().__init__()
        positive_integer("bottleneck", bottleneck)
        self.down = nn.Linear(width, bottleneck)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck, width)
        for linear in (self.down, self.up):
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.dropout(self.activation(self.down(x)))).to(x.dtype)
