"""
Texts that are longer than a tower takes, in windows: the first token, a part of the text, and the last token. Parts
overlap by half. Of a token that several windows hold, the one counts in whose middle it is nearest.

Shapes: B batch_size, T length of the longest text, W windows, L length of the longest window.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from .configuration_ifaformer import TaggerConfig
from .model_inputs import check_texts


WINDOWS_AT_ONCE = 32  # each with the pictures of its text
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
        sources: list[torch.Tensor] = []  # of each text the window and the place in it from which a token comes
        for row, of_row in enumerate(mask.cpu()):
            tokens = of_row.nonzero().squeeze(1)
            starts, room, spare = torch.zeros(1, dtype=torch.long), len(tokens), len(tokens) - length
            if spare > 0:
                room = length - 2
                starts = torch.tensor([*range(0, spare, max(room // 2, 1)), spare])
            first_window = len(rows)
            for start in starts.tolist():
                inner = tokens[start + 1 : start + 1 + room]
                windows.append(tokens if spare <= 0 else torch.cat([tokens[:1], inner, tokens[-1:]]))
                rows.append(row)
            # Between the middles of two windows, the first counts up to half of the way.
            numbers = torch.arange(len(tokens)) - 1  # from the second token on
            halves = (starts[:-1] + starts[1:] + room - 1) / 2
            window = torch.bucketize(numbers.float(), halves)
            place = numbers - starts[window] + 1
            if spare > 0:
                window[-1], place[-1] = len(starts) - 1, length - 1
            sources.append(torch.stack([window + first_window, place]))
        longest = max(map(len, windows))
        positions = torch.zeros(len(rows), longest, dtype=torch.long)
        is_real = torch.zeros(len(rows), longest, dtype=torch.bool)
        for number, part in enumerate(windows):
            positions[number, : len(part)], is_real[number, : len(part)] = part, True
        window, place = torch.cat(sources, dim=1)
        device = mask.device
        self.rows = torch.tensor(rows, device=device)  # (W,) the text of each window
        self.positions, self.mask = positions.to(device), is_real.to(device)  # (W, L)
        self.sources = (window * longest + place).to(device)  # (number of real tokens,) in the flattened windows
        self.targets = mask.flatten().nonzero().squeeze(1)  # in the flattened batch

    def parts(self, inputs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """
        The inputs of [`WINDOWS_AT_ONCE`] windows at a time: those of tokens cut into windows, the others repeated for
        each. A tensor of another number of texts is a ValueError.
        """
        for name, value in inputs.items():
            if value is not None and len(value) != self.shape[0]:
                raise ValueError(f"{name} must have {self.shape[0]} rows, one for each text, got {len(value)}.")
        parts = zip(*(of.split(WINDOWS_AT_ONCE) for of in (self.rows, self.positions, self.mask)), strict=True)
        for rows, positions, mask in parts:
            places = rows[:, None], positions  # Behind the end of a window stands the first token again.
            given = {
                name: None if value is None else value[places if name in TOKEN_INPUTS else rows]
                for name, value in inputs.items()
            }
            yield {**given, "attention_mask": mask}

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
    check_texts(inputs[name].shape[:2], mask, None)
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
