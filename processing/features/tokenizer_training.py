"""Tokenizers that are made of texts, for models that start from nothing: of pieces of words, or of whole words."""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer, PreTrainedTokenizerFast


SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_wordpiece(words: Iterable[str], vocab_size: int = 4000) -> BertTokenizer:
    """
    A lower-casing BERT tokenizer with a vocabulary of at most that size, learnt from the words of the training texts.
    The same words give the same vocabulary.
    """
    counts = Counter(words)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers continuing characters in the order of a hash map, and breaks ties between equally frequent
    # pieces by these numbers. Declared beforehand they are numbered the same in every run.
    characters = {character for word in counts for character in tokenizer.normalizer.normalize_str(word)}
    continuing = [f"##{character}" for character in sorted(characters) if not character.isspace()]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=[*SPECIAL_TOKENS, *continuing], show_progress=False
    )
    tokenizer.train_from_iterator(counts.elements(), trainer)
    return BertTokenizer(vocab=tokenizer.get_vocab(), do_lower_case=True)


def make_word_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with one token a word, as it is written, and nothing before or behind. Other words are `[UNK]`."""
    vocabulary = ["[PAD]", "[UNK]", *sorted({*words} - {"[PAD]", "[UNK]"})]
    model = models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model),
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "attention_mask"],
    )
