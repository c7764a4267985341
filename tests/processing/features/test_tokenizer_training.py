from transformers import AutoTokenizer

from processing.data.demo.entity_tweets import plan_tweet
from processing.features.tokenizer_training import SPECIAL_TOKENS, make_word_tokenizer, train_wordpiece


def test_learns_pieces():
    tokenizer = train_wordpiece(["running", "runs", "run", "café"] * 5, vocab_size=60)
    assert len(tokenizer) <= 60
    assert tokenizer.tokenize("Run") == ["run"]
    assert tokenizer.unk_token not in tokenizer.tokenize("runcafe")
    assert tokenizer.tokenize("§") == ["[UNK]"]
    assert tokenizer.convert_ids_to_tokens(range(5)) == list(SPECIAL_TOKENS)


def test_continuing_characters_are_no_special_tokens():
    tokenizer = train_wordpiece(["running", "runs"])
    assert set(tokenizer.all_special_tokens) == set(SPECIAL_TOKENS)
    assert tokenizer.decode(tokenizer("runsrun")["input_ids"], skip_special_tokens=True) == "runsrun"


def test_the_same_words_give_the_same_vocabulary():
    # The hash that decided ties is drawn anew for each training: without our order, six trainings gave six results.
    words = [word for index in range(300) for word in plan_tweet(0, "train", index).tokens]
    vocabularies = [train_wordpiece(words, 250).get_vocab() for _ in range(6)]
    assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)


def test_whole_words(tmp_path):
    words = ["Paris", "paris", "\u200d", "New", "don't", "[UNK]"]
    make_word_tokenizer(words).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == 7 and tokenizer.pad_token_id == 0 and tokenizer.mask_token_id is None
    encoding = tokenizer([["Paris", "Oslo", "\u200d", "New York", "don't"]], is_split_into_words=True)
    assert encoding.word_ids(0) == [0, 1, 2, 3, 4]
    tokens = tokenizer.convert_ids_to_tokens(encoding["input_ids"][0])
    assert tokens == ["Paris", "[UNK]", "\u200d", "[UNK]", "don't"]
    assert tokenizer.model_input_names == ["input_ids", "attention_mask"]
