"""`.pth` files, as `torch.save` writes them: only plain data and tensors are read from them, in bounded memory."""

import os
import pickletools
import re
import zipfile
from typing import IO, Any


ZIP = b"PK\x03\x04"  # the first bytes of what torch.save writes since version 1.6
NUM_PICKLES = 5  # of what it wrote before: magic number, version, system, the data, keys of storages; then storages

# What a state dict is made with. Torch regards more as safe that can use up all memory: `bytearray(10**10)` is a line.
GLOBALS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch(\.cuda)? \w+Storage"
)
MOST_NESTED_TUPLES = 4
MOST_OPCODES = 3 * 10**6  # a list of crops has some 14 for each image; so many take some seconds


def load_plain_pickle(path: str | os.PathLike, expected: str) -> Any:
    """
    What `torch.save` wrote to a `.pth` file. No code in it is run. Tensors lie in the file's own bytes.

    Raises:
        ValueError: for a file that is damaged, holds code, or claims to be larger than it is; `expected` ends its
            message.
        OSError: for a file that cannot be read.
    """
    import torch  # Reading text, or prepared data, need not wait for it.

    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} was not loaded, because it is no file; {expected}.")
    try:
        with open(path, "rb") as file:
            is_zip = file.read(len(ZIP)) == ZIP
            file.seek(0)
            if is_zip:
                _check_pickle(_zipped_pickle(file))
            else:
                for _ in range(NUM_PICKLES):
                    _check_pickle(file)
        # Only as a map of the file, torch compares the size that a tensor claims with that of the file.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except OSError:
        raise
    except _NotPlain as error:
        raise ValueError(f"{path} was not loaded, because {error}; {expected}.") from None
    except Exception:  # Torch checks little before it unpacks: damage comes as nearly every kind of error.
        # Torch's own message may advise to load the file all the same, hence `from None`.
        raise ValueError(
            f"{path} was not loaded, because it is no pickle of plain data, or damaged or cut off; {expected}."
        ) from None


class _NotPlain(Exception):
    """Why a file is not read, as the end of a sentence that begins with `because`."""


def _zipped_pickle(file: IO[bytes]) -> bytes:
    """The pickle in an archive whose records are together no larger than the file."""
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        if any(record.filename.endswith("/constants.pkl") for record in records):
            raise _NotPlain("it is a TorchScript archive, a program")
        is_compressed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
        if is_compressed or sum(record.file_size for record in records) > size:
            raise _NotPlain("its records are compressed, or claim to be larger than it, as in no file of torch.save")
        pickles = [record for record in records if record.filename.lower().endswith("data.pkl")]
        if len(pickles) != 1:
            raise _NotPlain(f"it is an archive with {len(pickles)} pickles of the name data.pkl, not 1")
        return archive.read(pickles[0])


def _check_pickle(data: bytes | IO[bytes]) -> None:
    """
    Raise [`_NotPlain`] for a pickle with anything but plain data and tensors, and for one whose tuples are deeply
    nested or used again: the hash of such a tuple, as the key of a dict, may never end, or end the interpreter.
    """
    stack: list[int] = []  # of each object, how deeply tuples are nested in it
    marks: list[int] = []  # where on the stack lists of objects begin
    memo: dict[Any, int] = {}
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        name, before = opcode.name, [entry.name for entry in opcode.stack_before]
        if name == "GLOBAL" and not GLOBALS.fullmatch(str(argument)):
            raise _NotPlain(f"loading it would run code ({str(argument).replace(' ', '.'):.100})")
        if number == MOST_OPCODES:
            raise _NotPlain(f"it has more than {MOST_OPCODES} instructions")
        if name == "MARK":
            marks.append(len(stack))
            continue
        start = marks.pop() - before.index("mark") if "mark" in before else len(stack) - len(before)
        taken = stack[start:]
        del stack[start:]
        if name.endswith("BINPUT"):
            memo[argument] = stack[-1]
        elif name.endswith("BINGET"):
            if memo[argument]:
                raise _NotPlain("it uses a tuple several times, as torch.save never does")
            stack.append(0)
        else:
            depth = 1 + max(taken, default=0) if name.startswith("TUPLE") else 0
            if depth > MOST_NESTED_TUPLES:
                raise _NotPlain("its tuples are nested more deeply than torch.save nests them")
            stack += [depth] * len(opcode.stack_after)
