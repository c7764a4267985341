"""Measure the time from import to a first prediction, each in a process of its own."""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from transformers import BertModel

from .measuring import compare
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
REPOSITORY = Path(__file__).resolve().parents[2]


def measure_start(work: Work) -> dict[str, Any]:
    baseline = "importing transformers and loading a BertModel"
    with tempfile.TemporaryDirectory() as folder:
        bert, ifaformer = os.path.join(folder, "bert"), os.path.join(folder, "ifaformer")
        BertModel(work.bert_config()).save_pretrained(bert)
        work.ifaformer().save_pretrained(ifaformer)
        work.processor.save_pretrained(ifaformer)
        runs = {
            baseline: (1, partial(python, LOAD_BERT, bert)),
            "IFAformer, import to first prediction": (1, partial(python, PREDICT, ifaformer)),
        }
        return {"comparison": compare(runs, baseline, work.options.repeats, "starts")}


def python(code: str, folder: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", code, folder], env=environment, check=True, capture_output=True)
