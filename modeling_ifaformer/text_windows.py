"""
Texts that are longer than a tower takes, in windows: the first token, a part of the text, and the last token. Parts
overlap by half. Of a token that several windows hold, the one counts in whose middle it is nearest.

Shapes: B batch_size, T length of the longest text, W windows, L length of the longest window.
"""

from collections.abc import Mapping
from typing import Any

import torch

from .configuration_ifaformer import TaggerConfig


TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "inputs_embeds", "word_shape_ids", "byte_ids")


class TextWindows:
    """
    Where the windows of a batch of texts stand. A text that fits into one window is one.

    Args:
        mask: (B, T) bool, which positions hold a real token.
        length: of a window in tokens, 3 or more, with the first and the last token of the text.
    """

    def __init__(self, mask: torch.Tensor, length: int):
        self.shape = mask.shape
        rows: list[int] = []
        windows: list[torch.Tensor] = []
        places: list[torch.Tensor] = []  # of each text the window and the place in it from which a token comes
        for row, of_row in enumerate(mask):
            tokens = of_row.nonzero().squeeze(1)
            starts = torch.tensor([0])
            room = max(length, len(tokens))
            if len(tokens) > length:
                room, spare = length - 2, len(tokens) - length
                starts = torch.tensor([*range(0, spare, max(room // 2, 1)), spare])
            first_window = len(rows)
            for start in starts.tolist():
                part = tokens if len(tokens) <= length else tokens[[0, *range(start + 1, start + 1 + room), -1]]
                rows.append(row)
                windows.append(part)
            inner = torch.arange(len(tokens)) - 1  # from the second token on
            window = (inner[:, None] - starts - (room - 1) / 2).abs().argmin(dim=1)
            place = inner - starts[window] + 1
            if len(tokens) > length:
                window[-1], place[-1] = len(starts) - 1, length - 1
            places.append(torch.stack([window + first_window, place]))
        self.rows = torch.tensor(rows, device=mask.device)  # (W,) the text of each window
        longest = max(map(len, windows))
        self.positions = torch.zeros(len(rows), longest, dtype=torch.long)
        self.mask = torch.zeros(len(rows), longest, dtype=torch.bool)  # (W, L)
        for number, part in enumerate(windows):
            self.positions[number, : len(part)] = part.cpu()
            self.mask[number, : len(part)] = True
        window, place = torch.cat(places, dim=1)
        self.sources = (window * longest + place).to(mask.device)  # (number of real tokens,) in the flattened windows
        self.targets = mask.flatten().nonzero().squeeze(1)  # in the flattened batch
        self.positions, self.mask = self.positions.to(mask.device), self.mask.to(mask.device)

    def of_tokens(self, values: torch.Tensor) -> torch.Tensor:
        """(B, T, ...) -> (W, L, ...). Behind the end of a window stands the first token again."""
        return values[self.rows[:, None], self.positions]

    def inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of the windows: those of tokens cut into windows, the others repeated for each."""
        of_windows = {
            name: value if value is None else self.of_tokens(value) if name in TOKEN_INPUTS else value[self.rows]
            for name, value in inputs.items()
        }
        return {**of_windows, "attention_mask": self.mask}

    def merge(self, states: torch.Tensor) -> torch.Tensor:
        """(W, L, D) -> (B, T, D), zeros where nothing is real."""
        merged = states.new_zeros(self.shape.numel(), states.shape[-1])
        return merged.index_copy(0, self.targets, states.flatten(0, 1)[self.sources]).unflatten(0, self.shape)


def windows_of(config: TaggerConfig, inputs: Mapping[str, Any]) -> TextWindows | None:
    """The windows of texts with these inputs, None where each is read as a whole."""
    name = "input_ids" if inputs["input_ids"] is not None else "inputs_embeds"
    if inputs[name] is None or config.window_length is None or inputs[name].shape[1] <= config.window_length:
        return None
    mask = inputs["attention_mask"]
    if mask is None:
        mask = inputs[name].new_ones(inputs[name].shape[:2])
    return TextWindows(mask.bool(), config.window_length)


def check_no_states(config: TaggerConfig, options: Mapping[str, Any]) -> None:
    """A ValueError where hidden states or attentions are asked for, by `options` of a call or by the configuration."""
    for name in ("output_attentions", "output_hidden_states"):
        if getattr(config, name) if options.get(name) is None else options[name]:
            raise ValueError(
                f"{name}=True needs texts of at most {config.window_length} tokens, which are read as a whole; longer "
                "ones are read in windows."
            )
