"""IFAformer: the two towers run side by side, with a head for entities and one for relations."""

from typing import Any, cast

import torch
from torch import nn
from transformers.utils import can_return_tuple, logging

from .bert_tower import BERT_EMBEDDINGS, IFAformerTextModel
from .clip_tower import IFAformerVisionModel
from .configuration_ifaformer import IFAformerConfig
from .crf import LinearChainCRF
from .distilbert_tower import IFAformerDistilBertModel
from .model_inputs import check_texts, scored_mask, warn_without_labels
from .modeling_outputs import (
    STATES,
    IFAformerModelOutput,
    IFAformerRelationOutput,
    IFAformerTokenClassifierOutput,
)
from .modernbert_tower import IFAformerModernBertModel
from .packing import Attended, PackedTokens, RowLengths, additive_mask, deepke_mask, values_at_hand
from .pretrained import IFAformerPreTrainedModel
from .siglip_tower import IFAformerSiglipModel
from .text_windows import check_no_states, windows_of
from .towers import lent_projections, mix_positions
from .vit_tower import IFAformerDinov2Model, IFAformerViTModel


logger = logging.get_logger(__name__)

TEXT_TOWERS: dict[str, Any] = {
    **dict.fromkeys(BERT_EMBEDDINGS, IFAformerTextModel),
    "distilbert": IFAformerDistilBertModel,
    "modernbert": IFAformerModernBertModel,
}
VISION_TOWERS: dict[str, Any] = {
    "clip_vision_model": IFAformerVisionModel,
    "dinov2": IFAformerDinov2Model,
    "siglip_vision_model": IFAformerSiglipModel,
    "vit": IFAformerViTModel,
}


class IFAformerModel(IFAformerPreTrainedModel):
    """
    The bare IFAformer: a text and a vision tower that lend each other their keys and values, layer by layer.

    Each text layer puts the keys and values of the vision layer of the `layer_map` in front of its own, each vision
    layer those of the last text layer that was run before it. At layer 0 the other tower's embeddings stand in for
    both. Where both towers have as many layers, layer `l` of the vision tower reads text layer `l - 1`, and layer `l`
    of the text tower vision layer `l`.

    In the `mkgformer` variant the vision tower does so in its upper layers alone, of which the first has the keys and
    values of the text layer below; the text layers there are [`FusedTextLayer`].
    """

    def __init__(self, config: IFAformerConfig):
        super().__init__(config)
        text, vision = cast(Any, config.text_config), cast(Any, config.vision_config)
        fused = {"num_fused_layers": config.num_fused_layers} if config.attention_variant == "mkgformer" else {}
        self.text_model = TEXT_TOWERS[text.model_type](text, **fused)
        if config.word_shapes:
            self.text_model.add_word_shapes()
        crop_positions = {kind: config.num_crop_positions(kind) for kind in ("aux", "rcnn")}
        self.vision_model = VISION_TOWERS[vision.model_type](vision, crop_positions)
        widths = text.hidden_size, vision.hidden_size
        self.vision_to_text = self.text_to_vision = None
        if config.text_attends_vision:
            self.vision_to_text = lent_projections(*widths[::-1], text.num_hidden_layers)
            if config.vision_attends_text:
                self.text_to_vision = lent_projections(*widths, config.lending_layers[-1] + 1)
        self.post_init()

    def get_input_embeddings(self):
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value):
        self.text_model.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.BoolTensor | None = None,
        aux_pixel_values: torch.Tensor | None = None,
        aux_crop_mask: torch.BoolTensor | None = None,
        rcnn_pixel_values: torch.Tensor | None = None,
        rcnn_crop_mask: torch.BoolTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        word_shape_ids: torch.LongTensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_pooled: bool = True,
        **kwargs,
    ) -> IFAformerModelOutput:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, seq_length)`): Token ids.
            attention_mask (`torch.Tensor` of shape `(batch_size, seq_length)`, *optional*): 0 for padding.
            token_type_ids (`torch.LongTensor` of shape `(batch_size, seq_length)`, *optional*): BERT's segments.
            pixel_values (`torch.Tensor` of shape `(batch_size, 3, image_size, image_size)`, *optional*):
                Whole pictures, or several of each text, `(batch_size, number of pictures, 3, image_size, image_size)`,
                at most `max_images`. Not looked at where the configuration has `use_whole_image=False`.
            image_mask (`torch.BoolTensor` of shape `(batch_size,)` or `(batch_size, number of pictures)`, *optional*):
                False for absent pictures. A mask that is left out is all real.
            aux_pixel_values (`torch.Tensor` of shape `(batch_size, number of crops, 3, size, size)`, *optional*):
                Crops by visual grounding, `aux_crop_size` pixels wide, at most `num_aux_crops` times `max_images`.
            aux_crop_mask (`torch.BoolTensor` of shape `(batch_size, number of crops)`, *optional*):
                False for absent crops. A mask that is left out is all real.
            rcnn_pixel_values, rcnn_crop_mask (*optional*): The same for crops by an object detector.
            inputs_embeds (`torch.Tensor` of shape `(batch_size, seq_length, hidden_size)`, *optional*):
                Embeddings of words in the place of `input_ids`.
            word_shape_ids (`torch.LongTensor` of shape `(batch_size, seq_length)`, *optional*):
                The shape of each token's word, as the processor gives it: for a model with `word_shapes`, and not
                looked at by others.
            output_attentions, output_hidden_states (`bool`, *optional*):
                Return those of both towers, or of the text tower alone where the text does not attend to vision.
                Attentions need `attn_implementation="eager"`, else there are none. In the `mkgformer` variant those of
                the text are over the text alone.
            output_pooled (`bool`, defaults to `True`):
                Compute `pooler_output`. It is None for a text tower without a pooler.

        Raises:
            ValueError: for a text longer than the tower's positions; pixels or masks of the wrong shape; more crops
                than configured; a text without a single token; both of `input_ids` and `inputs_embeds`, or neither;
                no `word_shape_ids` where the model has `word_shapes`.
        """
        config = self.config
        output_attentions = config.output_attentions if output_attentions is None else output_attentions
        output_hidden_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        if output_attentions and config._attn_implementation != "eager" and not torch.compiler.is_compiling():
            logger.warning_once(
                f"There are no attentions: output_attentions needs attn_implementation='eager', the model has "
                f"{config._attn_implementation!r}. Call model.set_attn_implementation('eager')."
            )
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds.")
        text_shape = (input_ids if inputs_embeds is None else inputs_embeds).shape[:2]
        batch_size = text_shape[0]
        check_texts(text_shape, attention_mask, config.max_text_length)

        if config.word_shapes and word_shape_ids is None:
            raise ValueError(
                "word_shape_ids are needed, since the configuration has word_shapes=True. Take them from the "
                "processor of this model."
            )
        shapes = {"word_shape_ids": word_shape_ids} if config.word_shapes else {}
        text = self.text_model(input_ids, token_type_ids, inputs_embeds, **shapes)  # (B, T, D)
        text_real = text.new_ones(text_shape).bool() if attention_mask is None else attention_mask.bool()
        vision: Any = None  # tensors where the vision tower runs
        visual_real: Any = None
        if config.text_attends_vision:
            vision, visual_real = self.vision_model(
                config,
                batch_size,
                pixel_values,
                image_mask,
                {"aux": (aux_pixel_values, aux_crop_mask), "rcnn": (rcnn_pixel_values, rcnn_crop_mask)},
            )

        deepke, mkgformer = (config.attention_variant == variant for variant in ("deepke", "mkgformer"))
        text_attended: Attended
        vision_attended: Attended = None
        vision_alone: Attended = None  # where it has no prefix
        text_tokens = None
        seen_real: tuple[torch.Tensor, ...] = ()  # of padded visual tokens, for the fused layers
        # What is asked for by position stays padded, and so does what the published code attends to.
        if values_at_hand(text) and not (deepke or output_attentions or output_hidden_states):
            text_tokens, visual_lengths = PackedTokens(text_real), []
            text_positions = self.text_model.layer_positions(text, text_tokens.pack)
            text = text_tokens.pack(text)
            if vision is not None:
                visual_tokens = PackedTokens(visual_real)
                vision, visual_lengths = visual_tokens.pack(vision), visual_tokens.lengths
            text_attended = RowLengths(text_tokens.lengths, visual_lengths)
            vision_attended = vision_alone = RowLengths(visual_lengths, text_tokens.lengths)
        else:
            text_positions = self.text_model.layer_positions(text, lambda positions: positions)
            lent = [visual_real] if config.text_attends_vision and not mkgformer else []
            text_attended = (deepke_mask if deepke else additive_mask)([*lent, text_real], text.dtype)
            if vision is not None and not deepke:  # The published code lets the vision tower attend to text padding.
                vision_attended = vision_alone = additive_mask([visual_real], vision.dtype)
                if config.vision_attends_text:
                    vision_attended = additive_mask([text_real, visual_real], vision.dtype)
                seen_real = (visual_real,)

        num_heads = config.text_config.num_attention_heads
        text_prefix: tuple[torch.Tensor, ...] = ()
        text_key_values: tuple[torch.Tensor, ...] = ()  # of the last text layer that was run, for the vision tower
        if config.text_attends_vision and not mkgformer:
            embeddings = self.vision_model.lend_embeddings(vision)
            text_prefix = (mix_positions(embeddings, num_heads) if deepke else embeddings,) * 2
        if config.vision_attends_text and not mkgformer:
            text_key_values = (mix_positions(text, num_heads) if deepke else text,) * 2

        # Tensors wherever they are asked for; else None may stand for a tower that is not run or weights not given.
        hidden_states: list[Any] = [text]
        attentions: list[Any] = []
        image_hidden_states: list[Any] = [vision]
        image_attentions: list[Any] = []
        text_layers, vision_layers = self.text_model.layers, self.vision_model.layers
        first_fused = len(text_layers) - config.num_fused_layers
        runs_all = mkgformer or output_attentions or output_hidden_states
        # A single text layer reads embeddings alone.
        lends = config.lending_layers if runs_all or len(text_layers) > 1 else [-1]
        num_run = 0  # layers of the vision tower
        for layer, (text_layer, lender) in enumerate(zip(text_layers, lends, strict=True)):
            while vision is not None and num_run <= lender:
                vision_prefix = _projected(self.text_to_vision, num_run, text_key_values)
                vision, *vision_key_values, weights = vision_layers[num_run](
                    vision,
                    vision_attended if vision_prefix else vision_alone,
                    *vision_prefix,
                    # The last vision layer only has to lend its keys and values; that of mkgformer lends its states.
                    key_values_only=num_run == lends[-1] and not runs_all,
                )
                image_hidden_states.append(vision)
                image_attentions += [weights] if weights is not None else []
                num_run += 1
                # The published code puts the keys a second time where the values belong.
                lent_by_vision = (vision_key_values[0],) * 2 if deepke else tuple(vision_key_values)
            if config.text_attends_vision and mkgformer:
                text_prefix = (vision, *seen_real) if layer >= first_fused else ()
            elif config.text_attends_vision and layer > 0:
                text_prefix = lent_by_vision
            lent_to_text = _projected(self.vision_to_text, layer, text_prefix)
            text, *key_values, weights = text_layer(text, text_attended, *lent_to_text, **text_positions[layer])
            hidden_states.append(text)
            attentions += [weights] if weights is not None else []
            if config.vision_attends_text and layer + 1 >= first_fused:
                text_key_values = tuple(key_values)

        text = hidden_states[-1] = self.text_model.end(text)
        if text_tokens is not None:
            text = text_tokens.unpack(text)
        pooler = getattr(self.text_model, "pooler", None)
        return IFAformerModelOutput(
            last_hidden_state=text,
            pooler_output=pooler(text) if output_pooled and pooler is not None else None,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
            image_hidden_states=tuple(image_hidden_states) if output_hidden_states and vision is not None else None,
            image_attentions=tuple(image_attentions) if output_attentions and vision is not None else None,
        )


def _projected(
    projections: nn.ModuleList | None, layer: int, key_values: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, ...]:
    """What is lent to a layer in the width of its tower; nothing where nothing is lent."""
    return key_values if projections is None or not key_values else tuple(projections[layer](*key_values))


class IFAformerForTokenClassification(IFAformerPreTrainedModel):
    """IFAformer with a linear layer and a linear-chain CRF: multimodal named entity recognition."""

    _keep_in_fp32_modules_strict = ["crf"]  # noqa: RUF012
    custom_pipelines = {  # noqa: RUF012  (its code comes with the processor)
        "multimodal-token-classification": {
            "impl": "pipeline_ifaformer.IFAformerPipeline",
            "pt": ["AutoModelForTokenClassification"],
        }
    }

    def __init__(self, config: IFAformerConfig):
        super().__init__(config)
        self.ifaformer = IFAformerModel(config)
        dropout = config.classifier_dropout
        self.dropout = nn.Dropout(0.1 if dropout is None else dropout)
        assert config.num_labels is not None  # the library fills in the label maps
        self.classifier = nn.Linear(config.text_config.hidden_size, config.num_labels)
        self.crf = LinearChainCRF(config.num_labels, config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.BoolTensor | None = None,
        aux_pixel_values: torch.Tensor | None = None,
        aux_crop_mask: torch.BoolTensor | None = None,
        rcnn_pixel_values: torch.Tensor | None = None,
        rcnn_crop_mask: torch.BoolTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        word_shape_ids: torch.LongTensor | None = None,
        crf_mask: torch.BoolTensor | None = None,
        labels: torch.LongTensor | None = None,
        **kwargs,
    ) -> IFAformerTokenClassifierOutput:
        """
        Args:
            crf_mask (`torch.BoolTensor` of shape `(batch_size, seq_length)`, *optional*):
                The positions the CRF scores, as the processor gives them. Left out, they are the labelled positions;
                without labels, every token in the `deepke` scheme, and an error in the `word` scheme.
            labels (`torch.LongTensor` of shape `(batch_size, seq_length)`, *optional*):
                Label ids, -100 where nothing is scored.

        The other arguments, and errors besides those of the CRF, are those of [`IFAformerModel.forward`]. Texts may be
        of any length: those longer than the `window_length` are read in windows, which give no hidden states and no
        attentions, so that asking for these is a ValueError.
        """
        warn_without_labels(self.training, labels)
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "pixel_values": pixel_values,
            "image_mask": image_mask,
            "aux_pixel_values": aux_pixel_values,
            "aux_crop_mask": aux_crop_mask,
            "rcnn_pixel_values": rcnn_pixel_values,
            "rcnn_crop_mask": rcnn_crop_mask,
            "inputs_embeds": inputs_embeds,
            "word_shape_ids": word_shape_ids,
        }
        windows = windows_of(self.config, inputs)
        kwargs |= {"output_pooled": False, "return_dict": True}
        if windows is None:
            outputs = self.ifaformer(**inputs, **kwargs)
            states = outputs.last_hidden_state
        else:
            check_no_states(self.config, kwargs)
            parts = [self.ifaformer(**part, **kwargs) for part in windows.parts(inputs)]
            outputs, states = parts[0], windows.merge(torch.cat([part.last_hidden_state for part in parts]))
        logits = self.classifier(self.dropout(states))  # (B, T, num_labels)
        scored = scored_mask(self.config, logits, attention_mask, crf_mask, labels)
        return IFAformerTokenClassifierOutput(
            loss=None if labels is None else -self.crf(logits, labels, scored).mean(),
            logits=logits,
            tag_ids=None if self.training else self.crf.viterbi_decode(logits, scored),
            **{name: getattr(outputs, name) for name in STATES},
        )


class IFAformerForRelationExtraction(IFAformerPreTrainedModel):
    """IFAformer with a linear layer over the hidden states at the two markers that open head and tail entity."""

    custom_pipelines = {  # noqa: RUF012  (its code comes with the processor)
        "multimodal-relation-extraction": {
            "impl": "pipeline_ifaformer.IFAformerRelationPipeline",
            "pt": ["AutoModelForSequenceClassification"],
        }
    }

    def __init__(self, config: IFAformerConfig):
        super().__init__(config)
        self.ifaformer = IFAformerModel(config)
        if config.problem_type not in (None, "single_label_classification"):
            raise ValueError(
                f"Between a head and a tail there is one relation, so that problem_type must be None or "
                f"'single_label_classification', got {config.problem_type!r}."
            )
        dropout = config.classifier_dropout
        self.dropout = nn.Dropout(0.5 if dropout is None else dropout)
        assert config.num_labels is not None  # the library fills in the label maps
        self.num_labels = config.num_labels
        self.classifier = nn.Linear(2 * config.text_config.hidden_size, self.num_labels)
        if config.attention_variant == "deepke":
            # The published code extends the vocabulary in a way that lets go of the padding index: its padding, which
            # the vision tower attends to, has an embedding that is trained.
            cast(nn.Embedding, self.get_input_embeddings()).padding_idx = None
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.BoolTensor | None = None,
        aux_pixel_values: torch.Tensor | None = None,
        aux_crop_mask: torch.BoolTensor | None = None,
        rcnn_pixel_values: torch.Tensor | None = None,
        rcnn_crop_mask: torch.BoolTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        word_shape_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        **kwargs,
    ) -> IFAformerRelationOutput:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, seq_length)`):
                Token ids, each row with exactly one head marker and one tail marker, else a ValueError. So it is with
                `inputs_embeds`, which hold the markers' embeddings.
            labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*): Relation ids.

        The other arguments and errors are those of [`IFAformerModel.forward`].
        """
        if labels is not None and values_at_hand(labels):
            unknown = [label for label in labels.tolist() if not 0 <= label < self.num_labels]
            if unknown:
                raise ValueError(f"labels must be in 0..{self.num_labels - 1}, got {unknown}.")
        pictures = (pixel_values, image_mask, aux_pixel_values, aux_crop_mask, rcnn_pixel_values, rcnn_crop_mask)
        kwargs |= {"inputs_embeds": inputs_embeds, "word_shape_ids": word_shape_ids}
        kwargs |= {"output_pooled": False, "return_dict": True}
        outputs = self.ifaformer(input_ids, attention_mask, token_type_ids, *pictures, **kwargs)
        hidden_states = outputs.last_hidden_state
        rows = torch.arange(hidden_states.shape[0], device=hidden_states.device)
        markers = [self._marker_position(input_ids, inputs_embeds, entity) for entity in ("head", "tail")]
        # (B, D) at each marker -> (B, 2 D)
        entities = torch.cat([hidden_states[rows, position] for position in markers], dim=-1)
        logits = self.classifier(self.dropout(entities)) / self.config.calibration_temperature
        return IFAformerRelationOutput(
            loss=None if labels is None else nn.functional.cross_entropy(logits.float(), labels),
            logits=logits,
            **{name: getattr(outputs, name) for name in STATES},
        )

    def _marker_position(self, input_ids, inputs_embeds, entity: str) -> torch.Tensor:
        """(B,) position of the marker that opens the head or the tail entity."""
        marker_id = getattr(self.config, f"{entity}_marker_token_id")
        if marker_id is None:
            raise ValueError(
                f"The configuration has no {entity}_marker_token_id; take it from the processor's marker ids."
            )
        if inputs_embeds is None:
            found = input_ids == marker_id
        else:
            marker = self.get_input_embeddings()(torch.tensor(marker_id, device=inputs_embeds.device))
            found = (inputs_embeds == marker).all(dim=-1)
        if values_at_hand(found):
            wrong = (found.sum(dim=1) != 1).nonzero().flatten().tolist()
            if wrong:
                raise ValueError(
                    f"Rows {wrong} do not hold the {entity} marker (token id {marker_id}) exactly once; was the text "
                    "cut in front of it?"
                )
        return found.int().argmax(dim=1)


__all__ = [
    "IFAformerForRelationExtraction",
    "IFAformerForTokenClassification",
    "IFAformerModel",
    "IFAformerPreTrainedModel",
]
