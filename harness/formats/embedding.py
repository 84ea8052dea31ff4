"""A sentence encoder's head. Saved models refer to it by name, as they do to ``formats.precision``."""

from __future__ import annotations

import torch
from torch import nn


class Embedding(nn.Module):  # type: ignore[misc]  # torch is not followed by the type checker
    """Mean of the token states over the attention mask, scaled to length 1 (Reimers and Gurevych 2019)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Token ids and mask [N, L] to unit vectors [N, D]."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
        return nn.functional.normalize(mean, dim=1)
