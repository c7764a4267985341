import io

from processing.data.demo.entity_tweets import DemoMNER
from processing.data.demo.picture_tweets import DemoPictures


def test_the_demo_of_two_pictures():
    one, two = (
        DemoMNER(num_train=0, num_validation=0, num_test=40),
        DemoPictures(num_train=0, num_validation=0, num_test=40),
    )
    expected, rows = (builder.as_streaming_dataset(split="test") for builder in (one, two))
    places = []
    for before, row in zip(expected, rows, strict=True):
        assert before["tokens"] == row["tokens"] and before["ner_tags"] == row["ner_tags"]
        assert len(row["image"]) == (0 if before["image"] is None else 2)
        if before["image"] is not None:
            own = io.BytesIO()
            before["image"].save(own, "PNG")
            is_own = []
            for image in row["image"]:
                file = io.BytesIO()
                image.save(file, "PNG")
                is_own.append(file.getvalue() == own.getvalue())
            assert sum(is_own) == 1
            place = is_own.index(True)
            places.append(place)
            labels = [found["label"] for found in row["aux_objects"] if found["image"] == place]
            assert labels == [found["label"] for found in before["aux_objects"]]
    assert 5 < sum(places) < len(places) - 5, "either picture may be the one that decides"
