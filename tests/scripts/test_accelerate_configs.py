"""The launch configurations that are shipped are such as accelerate reads."""

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file


@pytest.mark.parametrize(
    ("name", "distributed_type", "machines", "processes"),
    [
        ("cpu", "MULTI_GPU", 1, 2),
        ("one_gpu", "NO", 1, 1),
        ("ddp_8_gpus", "MULTI_GPU", 1, 8),
        ("ddp_2_machines", "MULTI_GPU", 2, 16),
        ("fsdp_8_gpus", "FSDP", 1, 8),
    ],
)
def test_configuration(repository, name, distributed_type, machines, processes):
    config = load_config_from_file(str(repository / "scripts" / "accelerate" / f"{name}.yaml"))
    assert isinstance(config, ClusterConfig)
    assert config.distributed_type == distributed_type
    assert (config.num_machines, config.num_processes) == (machines, processes)


def test_all_are_listed_above(repository):
    assert len(list((repository / "scripts" / "accelerate").glob("*.yaml"))) == 5
