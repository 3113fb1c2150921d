#!/usr/bin/env python3
"""Checks that Hugging Face PEFT computes the same logits from an exported adapter as blindsum does.

    blindsum-silo predict --logits ... > logits.jsonl          (in f32)
    python3 tests/peft_parity.py --model DIR --adapter DIR --rows rows.jsonl --logits logits.jsonl

rows.jsonl has one {"text": ...} per line, logits.jsonl one {"logits": [...]} per row, in the same order: of the classes, or
of the token after the text where the adapter's task is to continue texts. Prints the
largest difference between the two, and the largest difference between the adapter's logits and those of the same model
and head with B at zero, so that a match cannot come from an adapter that does nothing.

Exit status: 0 the logits agree, 1 they do not (or the adapter does nothing), 2 the check could not run.
"""

import argparse
import json
import os
import sys


def fail(message):
    print(f"peft_parity: {message}", file=sys.stderr)
    sys.exit(2)


def read_lines(path, key, kind):
    values = []
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    value = json.loads(line).get(key)
                    if not isinstance(value, kind):
                        fail(f"{path}:{number}: no {key!r} of type {kind.__name__}")
                    values.append(value)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        fail(f"{path}: {error}")
    return values


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="base model: config.json, model.safetensors, tokenizer.json")
    parser.add_argument("--adapter", required=True, help="exported adapter: adapter_config.json and its neighbours")
    parser.add_argument("--rows", required=True, help='JSON lines with "text"')
    parser.add_argument("--logits", required=True, help='JSON lines with "logits", one per row')
    parser.add_argument("--max-tokens", type=int, help="the job's max_sequence_tokens (default: the model's longest)")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference allowed (default 1e-4)")
    parser.add_argument("--effect", type=float, default=0.1, help="least effect of the adapter (default 0.1)")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import torch
        from peft import PeftModel
        from tokenizers import Tokenizer
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    except ImportError as error:
        fail(f"{error}; this check needs PyTorch, transformers and peft: pip install torch transformers peft")

    texts = read_lines(arguments.rows, "text", str)
    ours = read_lines(arguments.logits, "logits", list)
    if not texts or len(texts) != len(ours):
        fail(f"{len(texts)} rows but {len(ours)} lines of logits")
    try:
        with open(os.path.join(arguments.adapter, "blindsum.json"), encoding="utf-8") as file:
            meta = json.load(file)
        labels, lm = meta["labels"], meta.get("task") == "causal-lm"
        tokenizer = Tokenizer.from_file(os.path.join(arguments.model, "tokenizer.json"))
        auto, options = (AutoModelForCausalLM, {}) if lm else (AutoModelForSequenceClassification, {"num_labels": len(labels)})
        base = auto.from_pretrained(arguments.model, dtype=torch.float32, **options)
        model = PeftModel.from_pretrained(base, arguments.adapter).eval()
    except Exception as error:  # whatever these libraries raise: the check could not run
        fail(f"cannot load: {error}")
    width = base.config.vocab_size if lm else len(labels)
    if any(len(row) != width for row in ours):
        fail(f"{arguments.logits}: a line does not have {width} logits")

    # Each text alone: no padding, so nothing but the adapter is compared.
    tokenizer.no_padding()
    longest = base.config.max_position_embeddings
    if base.config.model_type == "roberta":  # whose positions start behind the padding token's
        longest -= base.config.pad_token_id + 1
    tokenizer.enable_truncation(arguments.max_tokens or longest)
    encoded = [tokenizer.encode(text).ids for text in texts]

    def logits():
        with torch.no_grad():
            found = [model(input_ids=torch.tensor([ids])).logits for ids in encoded]
            return torch.cat([x[:, -1] if lm else x for x in found])

    adapted = logits()
    with torch.no_grad():
        zeroed = [p.zero_() for name, p in model.named_parameters() if ".lora_B." in name]
    if not zeroed:
        fail("PEFT loaded no lora_B from the adapter")
    difference = (adapted - torch.tensor(ours, dtype=torch.float32)).abs().max().item()
    effect = (adapted - logits()).abs().max().item()
    # Written so that a NaN fails.
    agree, acts = difference <= arguments.tolerance, effect >= arguments.effect
    print(f"{len(texts)} rows, {'next tokens' if lm else f'{len(labels)} labels'}, {len(zeroed)} modules")
    print(f"largest difference from PEFT: {difference:.2e} (at most {arguments.tolerance:.0e}): {'ok' if agree else 'FAILED'}")
    print(f"largest effect of the adapter: {effect:.3f} (at least {arguments.effect}): {'ok' if acts else 'FAILED'}")
    sys.exit(0 if agree and acts else 1)


if __name__ == "__main__":
    main()
