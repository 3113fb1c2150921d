#!/usr/bin/env python3
"""Golden values for the training engine: what Hugging Face Transformers and PEFT compute in f32 on the CPU.

    python3 tests/golden_hf.py tiny                    > silo/tests/golden/tiny.json
    python3 tests/golden_hf.py tiny-all                > silo/tests/golden/tiny-all.json
    python3 tests/golden_hf.py .demo/models/all-MiniLM-L6-v2 > silo/tests/golden/minilm.json

needs torch==2.11.0, transformers and peft. `tiny` is a BERT of two layers whose weights are a formula (below), which
silo/tests/common/mod.rs repeats, so that `cargo test` needs neither Python nor a download; `tiny-all` adapts every
linear layer of it instead of query and value.

Everything that is not the base model is a formula too (m = index of the module in our order, i = row, j = column):
    lora_A[m][i][j] = 0.05 sin(0.7 i + 1.3 j + m)     lora_B[m][i][j] = 0.02 cos(1.1 i + 0.3 j + 2 m)
    classifier.weight[i][j] = 0.1 sin(0.9 i + 0.2 j + 0.5)     classifier.bias = 0
r = 4, lora_alpha = 8, three labels. Per case: the logits, the loss, and L2 norms of the gradient of that example's own
loss, by module of lora_B and over the classifier. `padded` holds the logits of several cases in one padded batch.
"""
import json
import math
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

ORDER = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
         "intermediate.dense", "output.dense"]
SENTENCES = ["The patient was discharged from the hospital.",
             "Severe headache and nausea followed the second dose of the drug.",
             "Shares of the bank fell by 4% after the report.",
             "Once upon a time, there was a little girl named Lily."]
TINY = dict(vocab_size=128, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=512, type_vocab_size=2, hidden_act="gelu", layer_norm_eps=1e-12)


def uniform(stream, count):
    """Numbers in [-1, 1) from a linear congruential generator (Numerical Recipes' constants), the high 24 bits of each."""
    x, out = (stream * 0x9E3779B9) % 2**32, []
    for _ in range(count):
        x = (x * 1664525 + 1013904223) % 2**32
        out.append((x >> 8) / 2**23 - 1.0)
    return out


def formula(shape, f):
    return torch.tensor([[f(i, j) for j in range(shape[1])] for i in range(shape[0])], dtype=torch.float64).float()


def tiny():
    """Tensor number t (from 1, by name in ASCII order) is 0.25 u; layer norms' weights are 1 + 0.25 u."""
    model = BertForSequenceClassification(BertConfig(num_labels=3, **TINY))
    names = sorted(n for n, _ in model.named_parameters() if n.startswith("bert."))
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for t, name in enumerate(names, 1):
            p = parameters[name]
            u = torch.tensor(uniform(t, p.numel()), dtype=torch.float64).reshape(p.shape)
            p.copy_((1.0 if name.endswith("LayerNorm.weight") else 0.0) + 0.25 * u)
    return model


def sentence(n, first, last, low, count):
    body = [low + (k * 7919) % count for k in range(max(n - 2, 0))]
    return ([first] + body + [last])[:n]


def position(path):
    """Our order of modules: by layer, inside a layer as in ORDER, last the pooler."""
    if "pooler" in path:
        return (math.inf, 0)
    layer, rest = path.split("encoder.layer.")[1].split(".", 1)
    return (int(layer), ORDER.index(rest))


def main(which):
    every = which == "tiny-all"
    if which.startswith("tiny"):
        model, marks = tiny(), (2, 3, 5, 120)
    else:
        model = BertForSequenceClassification.from_pretrained(which, num_labels=3, dtype=torch.float32)
        marks = (101, 102, 1000, 20000)
    targets = ORDER + ["pooler.dense"] if every else ["query", "value"]
    config = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, lora_dropout=0.0, target_modules=targets)
    model = get_peft_model(model, config).eval()
    path = lambda name: name.split("base_model.model.")[1].split(".lora_")[0]
    ordered = lambda kind: sorted(((path(n), p) for n, p in model.named_parameters() if kind in n), key=lambda x: position(x[0]))
    a, b = ordered("lora_A"), ordered("lora_B")
    head = [p for n, p in model.named_parameters() if "classifier.modules_to_save" in n]
    with torch.no_grad():
        for m, (_, p) in enumerate(a):
            p.copy_(formula(p.shape, lambda i, j: 0.05 * math.sin(0.7 * i + 1.3 * j + m)))
        for m, (_, p) in enumerate(b):
            p.copy_(formula(p.shape, lambda i, j: 0.02 * math.cos(1.1 * i + 0.3 * j + 2 * m)))
        for p in head:
            p.copy_(formula(p.shape, lambda i, j: 0.1 * math.sin(0.9 * i + 0.2 * j + 0.5)) if p.dim() == 2 else torch.zeros(p.shape))
    for p in model.parameters():
        p.requires_grad_(False)
    for p in [p for _, p in b] + head:
        p.requires_grad_(True)

    cases = []
    inputs = [(None, sentence(n, *marks)) for n in [1, 2, 7, 33, 64, 65, 130, 512]]
    if not which.startswith("tiny"):
        tokenizer = AutoTokenizer.from_pretrained(which)
        inputs = [(text, tokenizer(text)["input_ids"]) for text in SENTENCES] + inputs
    for k, (text, ids) in enumerate(inputs):
        label = k % 3
        x = torch.tensor([ids])
        model.zero_grad(set_to_none=True)
        logits = model(input_ids=x, attention_mask=torch.ones_like(x), token_type_ids=torch.zeros_like(x)).logits
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([label]))
        loss.backward()
        norms = [float(p.grad.double().norm()) for _, p in b]
        cases.append({
            "text": text, "input_ids": ids, "label": label, "logits": logits[0].tolist(), "loss": loss.item(),
            "module_norms": norms, "head_norm": math.sqrt(sum(float(p.grad.double().norm()) ** 2 for p in head)),
            "norm": math.sqrt(sum(q * q for q in norms)),
            "last_module_corner": b[-1][1].grad[:2, :4].tolist(),
        })

    together = [cases[i]["input_ids"] for i in (2, 4, 0, 3)]
    longest = max(map(len, together))
    x = torch.tensor([ids + [0] * (longest - len(ids)) for ids in together])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in together])
    with torch.no_grad():
        padded = model(input_ids=x, attention_mask=mask, token_type_ids=torch.zeros_like(x)).logits
    out = {"targets": targets, "modules": [n for n, _ in b], "cases": cases,
           "padded": {"cases": [2, 4, 0, 3], "logits": padded.tolist()}}
    print(json.dumps(out))


main(*sys.argv[1:])
