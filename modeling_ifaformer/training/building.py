"""The processor and the model that a run of train.py begins with."""

import logging
import os

import datasets
from transformers import AutoImageProcessor, AutoTokenizer, CLIPImageProcessorPil, CLIPVisionConfig

from modeling_ifaformer import IFAformerForRelationExtraction, IFAformerForTokenClassification
from modeling_ifaformer.modeling_ifaformer import IFAformerPreTrainedModel
from processing import IFAformerProcessor
from processing.features.tokenizer_training import train_wordpiece
from processing.labels import label_maps
from processing.rows import label_names

from .arguments import DataArguments, ModelArguments


logger = logging.getLogger(__name__)


def build_processor(
    data_arguments: DataArguments, model_arguments: ModelArguments, train_dataset: datasets.Dataset
) -> IFAformerProcessor:
    if model_arguments.text_model is None:
        words = (word for tokens in train_dataset["tokens"] for word in tokens)
        tokenizer = train_wordpiece(words, model_arguments.vocab_size)
    else:
        # RoBERTa's tokenizers take words only with it; BERT's do not know it
        tokenizer = AutoTokenizer.from_pretrained(model_arguments.text_model, add_prefix_space=True)
    if model_arguments.vision_model is None:
        size = CLIPVisionConfig(**(model_arguments.vision_config or {})).image_size
        image_processor = CLIPImageProcessorPil(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        )
    else:
        image_processor = AutoImageProcessor.from_pretrained(model_arguments.vision_model)
    deepke = model_arguments.attention_variant == "deepke"
    if deepke and data_arguments.max_seq_length is None:
        raise ValueError(
            "attention_variant deepke pads every batch to one length, on which its results depend: give "
            "--max_seq_length (in the published recipes 40, for relations 80)."
        )
    use_whole_image = model_arguments.use_whole_image
    if model_arguments.task == "re":
        answers = {
            "relations": label_names(train_dataset, "relation"),
            "negative_relation": model_arguments.negative_relation,
            "entity_markers": model_arguments.entity_markers,
        }
    else:
        answers = {"tags": label_names(train_dataset, "ner_tags")}
    processor = IFAformerProcessor(
        image_processor,
        tokenizer,
        label_scheme=model_arguments.label_scheme,
        max_length=data_arguments.max_seq_length,
        pad_to_max_length=deepke,
        num_aux_crops=model_arguments.num_aux_crops,
        aux_crop_size=model_arguments.aux_crop_size,
        num_rcnn_crops=model_arguments.num_rcnn_crops,
        rcnn_crop_size=model_arguments.rcnn_crop_size,
        use_whole_image=not deepke if use_whole_image is None else use_whole_image,
        **answers,
    )
    if processor.relations is not None:
        processor.add_entity_markers()
        if processor.negative_relation is None:
            logger.warning(
                f"None of the relations {', '.join(processor.relations)} is the negative one: all of them count in "
                "precision, recall and F1. --negative_relation names it."
            )
    return processor


def build_model(arguments: ModelArguments, processor: IFAformerProcessor) -> IFAformerPreTrainedModel:
    model_class: type[IFAformerPreTrainedModel] = IFAformerForTokenClassification
    answers = label_maps(processor.labels)
    if processor.relations is not None:
        model_class = IFAformerForRelationExtraction
        head, _, tail, _ = processor.marker_ids
        answers |= {"head_marker_token_id": head, "tail_marker_token_id": tail}
    text_config = arguments.text_config
    if arguments.text_model is None:
        tokenizer = processor.tokenizer
        text_config = {**(text_config or {}), "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    model = model_class.from_vision_text_pretrained(
        arguments.vision_model,
        arguments.text_model,
        text_config=text_config,
        vision_config=arguments.vision_config,
        attention_variant=arguments.attention_variant,
        label_scheme=arguments.label_scheme,
        text_attends_vision=arguments.text_attends_vision,
        vision_attends_text=arguments.vision_attends_text,
        use_whole_image=arguments.use_whole_image,
        num_aux_crops=arguments.num_aux_crops,
        aux_crop_size=arguments.aux_crop_size,
        num_rcnn_crops=arguments.num_rcnn_crops,
        rcnn_crop_size=arguments.rcnn_crop_size,
        classifier_dropout=arguments.classifier_dropout,
        attn_implementation=arguments.attn_implementation,
        **answers,
    )
    if len(processor.tokenizer) > model.config.text_config.vocab_size:  # the markers are new to a pretrained tower
        model.resize_token_embeddings(len(processor.tokenizer))
    for tower in (model.config.text_config, model.config.vision_config):
        if os.path.isabs(tower._name_or_path):  # nobody's business where the configuration is published
            tower._name_or_path = ""
    return model
