"""Measure what starts in processes of its own: a first prediction, and train.py with one process and with two."""

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from transformers import BertModel

from modeling_ifaformer.exporting import export_model

from .measuring import compare, summary
from .work import Work


LOAD_BERT = """
import sys
from transformers import BertModel
BertModel.from_pretrained(sys.argv[1])
"""
PREDICT = """
import sys
import torch
from PIL import Image
from modeling_ifaformer import IFAformerForTokenClassification
from processing import IFAformerProcessor
model = IFAformerForTokenClassification.from_pretrained(sys.argv[1])
processor = IFAformerProcessor.from_pretrained(sys.argv[1])
text, picture = "so Phoenix is all over my timeline again", Image.new("RGB", (128, 128), "teal")
with torch.inference_mode():
    inputs = processor(text=text, images=picture, aux_crops=[picture], return_tensors="pt")
    print(processor.post_process_entities(model(**inputs).tag_ids, text))
"""
# In which torch is as if it were not installed.
PREDICT_EXPORTED = """
import sys
sys.modules.update(dict.fromkeys(["torch", "transformers"]))
from PIL import Image
from processing.exported import load_exported
tagger = load_exported(sys.argv[1])
picture = Image.new("RGB", (128, 128), "teal")
print(tagger({"text": "so Phoenix is all over my timeline again", "image": picture, "aux_crops": [picture]}))
"""
SCRIPTS = Path(__file__).resolve().parents[1]
STEPS = 8


def measure_start(work: Work) -> dict[str, Any]:
    """From import to a first prediction, against importing transformers and loading a BertModel."""
    baseline = "importing transformers and loading a BertModel"
    with tempfile.TemporaryDirectory() as folder:
        bert, ifaformer = os.path.join(folder, "bert"), os.path.join(folder, "ifaformer")
        BertModel(work.bert_config()).save_pretrained(bert)
        work.ifaformer().save_pretrained(ifaformer)
        work.processor.save_pretrained(ifaformer)
        exported = export_model(ifaformer, os.path.join(folder, "exported"))
        program = partial(python, "-c", HF_HUB_OFFLINE="1")
        runs = {
            baseline: (1, partial(program, LOAD_BERT, bert)),
            "IFAformer, import to first prediction": (1, partial(program, PREDICT, ifaformer)),
            "IFAformer exported, the same without torch": (
                1,
                partial(program, PREDICT_EXPORTED, str(exported.folder)),
            ),
        }
        return {
            "seconds_of_export": exported.seconds,
            "comparison": compare(runs, baseline, work.options.repeats, "starts"),
        }


def measure_processes(work: Work) -> dict[str, Any]:
    """
    Train fresh towers of the given sizes with one process and with two, which share the same effective batch and have
    one thread each. The first steps, which warm up, count as well.
    """
    with tempfile.TemporaryDirectory() as folder:
        rounds = [
            {"1 process": train(work, 1, folder), "2 processes": train(work, 2, folder)}
            for _ in range(work.options.repeats)
        ]
    return {"comparison": summary(rounds, "1 process", "tweets")}


def train(work: Work, num_processes: int, folder: str) -> float:
    """Run train.py; returns its samples a second."""
    given, output = work.options, Path(folder) / f"run-{num_processes}"
    options = {
        **{name: getattr(given, name) for name in ("dataset", "data_dir", "image_dir") if getattr(given, name)},
        "text_config": json.dumps(given.text_config or {}),
        "vision_config": json.dumps(given.vision_config or {}),
        "output_dir": output,
        "cache_dir": folder,
        "overwrite_output_dir": True,
        "use_cpu": True,
        "per_device_train_batch_size": given.batch_size // num_processes,
        "max_steps": STEPS,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "report_to": "none",
        "per_device_eval_batch_size": given.batch_size,
    }
    launcher = ["-m", "accelerate.commands.launch", "--config_file", SCRIPTS / "accelerate" / "cpu.yaml"]
    flags = [f"--{name}={value}" for name, value in options.items()]
    python(*(launcher if num_processes > 1 else ()), SCRIPTS / "train.py", *flags, OMP_NUM_THREADS="1")
    return json.loads((output / "results.json").read_bytes())["train_samples_per_second"]


def python(*arguments: str | Path, **variables: str) -> None:
    """Run Python with more variables of the environment; a RuntimeError has what a failed run printed last."""
    command = [sys.executable, *map(str, arguments)]
    finished = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {finished.returncode}: {finished.stderr[-4000:]}")
