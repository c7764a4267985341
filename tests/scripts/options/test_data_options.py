import pytest

from ifaformer_commands.options import data_options
from ifaformer_commands.options.command_line import user_errors
from modeling_ifaformer.prediction.annotation_files import TOOLS
from processing.data import DATASETS
from processing.data.own.tag_schemes import TAG_SCHEMES
from processing.data.tasks import ANSWERS
from processing.images import MAX_MEGAPIXELS
from processing.scoring.entity_metrics import PROTOCOLS


def test_options_offer_what_the_rooms_can_read():
    assert data_options.DATASETS == DATASETS
    assert data_options.TAG_SCHEMES == TAG_SCHEMES
    assert tuple(ANSWERS) == data_options.TASKS
    assert data_options.PROTOCOLS == PROTOCOLS
    assert data_options.MAX_MEGAPIXELS == MAX_MEGAPIXELS
    assert tuple(TOOLS) == data_options.ANNOTATION_TOOLS


def test_what_is_wrong_with_the_data_becomes_the_last_line_of_the_command(tmp_path):
    arguments = data_options.DataSourceArguments(dataset=str(tmp_path / "absent.jsonl"), cache_dir=str(tmp_path))
    with pytest.raises(SystemExit, match=r"absent\.jsonl.*no such file or folder"), user_errors():
        arguments.load()
