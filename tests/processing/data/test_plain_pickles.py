"""Files of `torch.save`: what is read, and what is refused before it takes time or memory."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from processing.data import plain_pickles
from processing.data.plain_pickles import load_plain_pickle


NAMES = {"a.jpg": ["1.png", "2.png"], 7: ["3.png"]}
FORMATS = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "older pickle"])
HEADER = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
LARGE = b"\x8a\x08" + struct.pack("<q", 10**10)  # the number, as an instruction


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("was_run",)


@pytest.fixture
def load(tmp_path):
    return lambda: load_plain_pickle(tmp_path / "a.pth", "expected a dict")


@pytest.fixture
def write(tmp_path):
    """Write the instructions of a pickle as `torch.save` would, with a record of 16 bytes."""

    def write(instructions, is_zip=True, compression=zipfile.ZIP_STORED, name="data.pkl", record=bytes(16)):
        content = b"\x80\x02" + instructions + b"."
        if not is_zip:
            (tmp_path / "a.pth").write_bytes(HEADER + content + b"\x80\x02].")
            return
        with zipfile.ZipFile(tmp_path / "a.pth", "w", compression) as archive:
            for file, data in {name: content, "data/0": record, "version": b"3\n"}.items():
                archive.writestr(f"archive/{file}", data)

    return write


@FORMATS
def test_plain_data_and_tensors(tmp_path, load, is_zip):
    state = torch.nn.Linear(3, 2).state_dict() | {"tied": torch.arange(6).view(2, 3).T}
    torch.save(NAMES, tmp_path / "a.pth", _use_new_zipfile_serialization=is_zip)
    assert load() == NAMES
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=is_zip)
    loaded = load()
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[name], state[name]) for name in state)


@FORMATS
def test_code_is_not_run(tmp_path, monkeypatch, load, is_zip):
    monkeypatch.chdir(tmp_path)
    torch.save({"a.jpg": RunsCode()}, "a.pth", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ValueError, match=r"a\.pth was not loaded, because loading it would run code \(.*mkdir\)") as e:
        load()
    assert not Path("was_run").exists() and str(e.value).endswith("; expected a dict.")
    assert "weights_only" not in str(e.value)


@FORMATS
@pytest.mark.parametrize(
    ("instructions", "problem"),
    [
        (b"cbuiltins\nbytearray\n" + LARGE + b"\x85R", r"would run code \(builtins\.bytearray\)"),
        (b"c_codecs\nencode\n", r"would run code \(_codecs\.encode\)"),
        (b"ctorch\nFloatTensor\n" + LARGE + b"\x85R", r"would run code \(torch\.FloatTensor\)"),
        (b"}" + b")" + b"\x85" * 10**5 + b"Ns", "tuples are nested more deeply"),
        (b"})\x85q\x00h\x00h\x00\x86q\x01Ns", "uses a tuple several times"),
        (b"N2", "damaged"),
        (b"u", "damaged"),
        (b"h\x09", "damaged"),
    ],
    ids=["bytes", "codec", "tensor", "deep key", "key of shared tuples", "DUP", "no stack", "no memo"],
)
def test_what_takes_time_or_memory_is_refused(write, load, is_zip, instructions, problem):
    write(instructions, is_zip)
    with pytest.raises(ValueError, match=f"a.pth was not loaded, because .*{problem}.*; expected a dict"):
        load()


def test_more_instructions_than_a_list_has(write, load, monkeypatch):
    monkeypatch.setattr(plain_pickles, "MOST_OPCODES", 1000)
    write(b"(" + b"N" * 900 + b"t")
    assert load() == (None,) * 900
    write(b"(" + b"N" * 1000 + b"t")
    with pytest.raises(ValueError, match="has more than 1000 instructions"):
        load()


def tensor(numel, size, stride):
    """Instructions that make a tensor of the record `data/0`."""

    def of(value):
        if isinstance(value, int):
            return b"\x8a\x08" + struct.pack("<q", value)
        return b"(" + b"".join(map(of, value)) + b"t"

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value

    storage = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + of(numel) + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + of(0) + of(size) + of(stride) + b"\x89" + hooks + b"tR"


def test_a_tensor_that_claims_more_than_the_file(write, load):
    write(tensor(4, (2, 2), (2, 1)))
    assert torch.equal(load(), torch.zeros(2, 2))
    for claimed in ((10**8, (10**8,), (1,)), (4, (2**32, 2**32), (0, 0)), (4, (-4,), (1,)), (-4, (4,), (1,))):
        write(tensor(*claimed))
        with pytest.raises(ValueError, match="damaged"):
            load()


def test_archives_that_torch_never_writes(tmp_path, write, load):
    write(b"}", compression=zipfile.ZIP_DEFLATED, record=bytes(10**6))
    assert (tmp_path / "a.pth").stat().st_size < 10**4
    with pytest.raises(ValueError, match="its records are compressed, or claim to be larger than it"):
        load()
    write(b"}", name="other.pkl")
    with pytest.raises(ValueError, match=r"an archive with 0 pickles of the name data\.pkl, not 1"):
        load()
    torch.jit.script(torch.nn.Identity()).save(tmp_path / "a.pth")
    with pytest.raises(ValueError, match="it is a TorchScript archive"):
        load()


def test_a_record_whose_size_is_a_lie(tmp_path, write, load):
    write(b"}")
    content = bytearray((tmp_path / "a.pth").read_bytes())
    entry = content.index(b"PK\x01\x02")  # of the directory at the end; sizes are at 20 and 24
    content[entry + 20 : entry + 28] = struct.pack("<II", 2**31, 2**31)
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ValueError, match="claim to be larger than it"):
        load()


@FORMATS
def test_damaged(tmp_path, load, is_zip):
    buffer = io.BytesIO()
    torch.save(NAMES, buffer, _use_new_zipfile_serialization=is_zip)
    data = buffer.getvalue()
    for damaged in (b"no pickle", *(data[:size] for size in range(0, len(data) - 20, len(data) // 30))):
        (tmp_path / "a.pth").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.pth was not loaded, because .*damaged.*; expected a dict"):
            load()


def test_what_is_no_file(tmp_path, load):
    with pytest.raises(FileNotFoundError):
        load()
    os.mkfifo(tmp_path / "a.pth")  # which nobody writes to
    with pytest.raises(ValueError, match="because it is no file"):
        load()
