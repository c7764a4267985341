from processing.data.demo.entity_tweets import plan_tweet
from processing.features.tokenizer_training import SPECIAL_TOKENS, train_wordpiece


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
