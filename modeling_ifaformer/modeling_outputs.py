"""What the models return."""

from dataclasses import dataclass

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput, TokenClassifierOutput


# What every output has of the towers where it is asked for.
STATES = ("hidden_states", "attentions", "image_hidden_states", "image_attentions")


@dataclass
class IFAformerModelOutput(BaseModelOutputWithPooling):
    """
    Output of [`IFAformerModel`].

    Args:
        last_hidden_state (`torch.Tensor` of shape `(batch_size, seq_length, hidden_size)`):
            The text tower's last hidden states. What stands at padding has no meaning.
        pooler_output (`torch.Tensor` of shape `(batch_size, hidden_size)`, *optional*): BERT's pooled first token.
        hidden_states, attentions (`tuple[torch.Tensor]`, *optional*):
            Of the text tower: embeddings and each layer's output `(batch_size, seq_length, hidden_size)`; each
            layer's weights `(batch_size, num_heads, seq_length, visual tokens + seq_length)`.
        image_hidden_states, image_attentions (`tuple[torch.Tensor]`, *optional*):
            Of the vision tower: `(batch_size, visual tokens, hidden_size)` and
            `(batch_size, num_heads, visual tokens, seq_length + visual tokens)`.
    """

    image_hidden_states: tuple[torch.Tensor, ...] | None = None
    image_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class IFAformerTokenClassifierOutput(TokenClassifierOutput):
    """
    Output of [`IFAformerForTokenClassification`]. Hidden states and attentions are those of [`IFAformerModelOutput`].

    Args:
        loss (`torch.Tensor` of shape `()`, *optional*): With `labels`, the CRF's negative log-likelihood, batch mean.
        logits (`torch.Tensor` of shape `(batch_size, seq_length, num_labels)`):
            The CRF's emissions. The CRF itself divides them by the temperature.
        tag_ids (`torch.LongTensor` of shape `(batch_size, seq_length)`, *optional*):
            The best path, -100 where nothing is scored. None in training mode, where nothing is decoded.
    """

    tag_ids: torch.Tensor | None = None
    image_hidden_states: tuple[torch.Tensor, ...] | None = None
    image_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class IFAformerRelationOutput(SequenceClassifierOutput):
    """
    Output of [`IFAformerForRelationExtraction`]. Hidden states and attentions are those of [`IFAformerModelOutput`].

    Args:
        loss (`torch.Tensor` of shape `()`, *optional*): With `labels`, the cross-entropy, mean over the batch.
        logits (`torch.Tensor` of shape `(batch_size, num_labels)`):
            Scores of the relations before the softmax, divided by the temperature.
    """

    image_hidden_states: tuple[torch.Tensor, ...] | None = None
    image_attentions: tuple[torch.Tensor, ...] | None = None
