"""A WordPiece tokenizer learnt from texts, for a text tower that starts from nothing."""

from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer


SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_wordpiece(words: Iterable[str], vocab_size: int = 4000) -> BertTokenizer:
    """
    A lower-casing BERT tokenizer whose vocabulary is learnt from `words`. Ties between equally
    frequent pieces fall differently from run to run, as the tokenizers library leaves them.

    Args:
        words: the words of the training texts.
        vocab_size: most entries of the vocabulary.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    tokenizer.train_from_iterator(words, trainer)
    return BertTokenizer(vocab=tokenizer.get_vocab(), do_lower_case=True)
