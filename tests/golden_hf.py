#!/usr/bin/env python3
"""Golden values for the training engine: what Hugging Face Transformers and PEFT compute in f32 on the CPU.

    python3 tests/golden_hf.py tiny                    > engine/torch/tests/golden/tiny.json
    python3 tests/golden_hf.py tiny-all                > engine/torch/tests/golden/tiny-all.json
    python3 tests/golden_hf.py tiny-roberta            > engine/torch/tests/golden/tiny-roberta.json
    python3 tests/golden_hf.py .demo/models/all-MiniLM-L6-v2 > engine/torch/tests/golden/minilm.json

needs torch==2.11.0, transformers and peft. `tiny` is a BERT of two layers whose weights are a formula (below), which
testkit/src/models.rs repeats, so that `cargo test` needs neither Python nor a download; `tiny-all` adapts every
linear layer of it instead of PEFT's default. `tiny-FAMILY` and `tiny-FAMILY-all` are the same in the other families
(roberta, distilbert, llama, mistral, qwen2, gpt2); `-lm` after a decoder's name gives it the task of continuing texts:

    for name in llama llama-lm llama-all llama-lm-all …; do
        python3 tests/golden_hf.py tiny-$name > engine/torch/tests/golden/tiny-$name.json; done

Everything that is not the base model is a formula too (m = index of the module in our order, i = row, j = column):
    lora_A[m][i][j] = 0.05 sin(0.7 i + 1.3 j + m)     lora_B[m][i][j] = 0.02 cos(1.1 i + 0.3 j + 2 m)
    last layer of the head:  weight[i][j] = 0.1 sin(0.9 i + 0.2 j + 0.5)     bias = 0
    dense layer before it:   weight[i][j] = 0.1 sin(0.9 i + 0.2 j + 1.5)     bias[i] = 0.05 cos(0.4 i)
r = 4, lora_alpha = 8, three labels. Per case: the logits, the loss, and L2 norms of the gradient of that example's own
loss, by module of lora_B and over the whole head. `padded` holds the logits of several cases in one padded batch. Where
texts are continued, the logits are those after the last token, and the loss is the mean over the tokens after `prompt`.
"""
import json
import math
import re
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import (AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, BertConfig,
                          BertForSequenceClassification, DistilBertConfig, DistilBertForSequenceClassification, GPT2Config,
                          GPT2ForSequenceClassification, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM,
                          LlamaForSequenceClassification, MistralConfig, MistralForCausalLM,
                          MistralForSequenceClassification, Qwen2Config, Qwen2ForCausalLM,
                          Qwen2ForSequenceClassification, RobertaConfig, RobertaForSequenceClassification)

BERT_LAYER = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
              "intermediate.dense", "output.dense"]
SENTENCES = ["The patient was discharged from the hospital.",
             "Severe headache and nausea followed the second dose of the drug.",
             "Shares of the bank fell by 4% after the report.",
             "Once upon a time, there was a little girl named Lily."]
DECODER_LAYER = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
                 "mlp.up_proj", "mlp.down_proj"]
SHAPE = dict(vocab_size=128, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
SIZES = dict(hidden_act="gelu", **SHAPE)
# two heads of keys and values; token 0 pads
DECODER = dict(num_labels=3, num_key_value_heads=2, max_position_embeddings=512, pad_token_id=0, bos_token_id=2,
               eos_token_id=3, **SHAPE)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
PLAIN_ROPE = dict(rope_type="default", rope_theta=10000.0)


class Family:
    """What differs between families: classes, order of the linear layers, targets, and the head from first to last."""

    def __init__(self, model, config, layer, targets, head, extra=(), inputs=(), prefix=None, lm=None):
        self.model, self.config, self.layer, self.targets, self.head = model, config, layer, targets, head
        self.prefix, self.lm = prefix, lm  # of the base model's tensors; the class that continues texts
        self.extra = list(extra)  # linear layers after the last one of the encoder
        self.inputs = list(inputs)  # id sequences that matter to this family alone


FAMILIES = {
    "bert": Family(BertForSequenceClassification,
                   BertConfig(num_labels=3, max_position_embeddings=512, type_vocab_size=2, layer_norm_eps=1e-12, **SIZES),
                   BERT_LAYER, ["query", "value"], ["classifier"], extra=["pooler.dense"]),
    # positions count from pad_token_id + 1 and pass over padding tokens, also inside a text
    "roberta": Family(RobertaForSequenceClassification,
                      RobertaConfig(num_labels=3, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5,
                                    pad_token_id=1, **SIZES),
                      BERT_LAYER, ["query", "value"], ["classifier.dense", "classifier.out_proj"],
                      inputs=[[0, 10, 11, 1, 1, 12, 2]]),
    "distilbert": Family(DistilBertForSequenceClassification,
                         DistilBertConfig(num_labels=3, vocab_size=128, max_position_embeddings=512, dim=32, n_layers=2,
                                          n_heads=4, hidden_dim=64, activation="gelu"),
                         ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1",
                          "ffn.lin2"], ["q_lin", "v_lin"], ["pre_classifier", "classifier"]),
    # a text may end in the padding token, which classification passes over
    "llama": Family(LlamaForSequenceClassification,
                    LlamaConfig(tie_word_embeddings=True, rms_norm_eps=1e-5, rope_parameters=LLAMA3, **DECODER),
                    DECODER_LAYER, ["q_proj", "v_proj"], ["score"], inputs=[[2, 10, 11, 0, 0]], prefix="model",
                    lm=LlamaForCausalLM),
    "mistral": Family(MistralForSequenceClassification,
                      MistralConfig(tie_word_embeddings=False, rms_norm_eps=1e-6, sliding_window=16,
                                    rope_parameters=PLAIN_ROPE, **DECODER),
                      DECODER_LAYER, ["q_proj", "v_proj"], ["score"], prefix="model", lm=MistralForCausalLM),
    # a window in the second layer only
    "qwen2": Family(Qwen2ForSequenceClassification,
                    Qwen2Config(tie_word_embeddings=False, rms_norm_eps=1e-6, use_sliding_window=True, sliding_window=16,
                                max_window_layers=1, rope_parameters=PLAIN_ROPE, **DECODER),
                    DECODER_LAYER, ["q_proj", "v_proj"], ["score"], prefix="model", lm=Qwen2ForCausalLM),
    "gpt2": Family(GPT2ForSequenceClassification,
                   GPT2Config(num_labels=3, vocab_size=128, n_positions=512, n_embd=32, n_layer=2, n_head=4, n_inner=64,
                              pad_token_id=0, bos_token_id=2, eos_token_id=3),
                   ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"], ["c_attn"], ["score"], prefix="transformer",
                   lm=GPT2LMHeadModel),
}


def uniform(stream, count):
    """Numbers in [-1, 1) from a linear congruential generator (Numerical Recipes' constants), the high 24 bits of each."""
    x, out = (stream * 0x9E3779B9) % 2**32, []
    for _ in range(count):
        x = (x * 1664525 + 1013904223) % 2**32
        out.append((x >> 8) / 2**23 - 1.0)
    return out


def formula(shape, f):
    return torch.tensor([[f(i, j) for j in range(shape[1])] for i in range(shape[0])], dtype=torch.float64).float()


def tiny(name, family, lm):
    """Tensor number t (from 1, by name in ASCII order) is 0.25 u; norms' weights are 1 + 0.25 u; an output matrix of its
    own has number 1000."""
    model = (family.lm if lm else family.model)(family.config)
    prefix = family.prefix or name
    names = sorted(n for n, _ in model.named_parameters() if n.startswith(f"{prefix}."))
    parameters = dict(model.named_parameters())
    numbers = list(enumerate(names, 1)) + ([(1000, "lm_head.weight")] if "lm_head.weight" in parameters else [])
    with torch.no_grad():
        for t, name in numbers:
            p = parameters[name]
            u = torch.tensor(uniform(t, p.numel()), dtype=torch.float64).reshape(p.shape)
            p.copy_((1.0 if re.search(r"(norm|ln_[12f])\.weight$", name.lower()) else 0.0) + 0.25 * u)
    return model


def sentence(n, first, last, low, count):
    body = [low + (k * 7919) % count for k in range(max(n - 2, 0))]
    return ([first] + body + [last])[:n]


def position(path, family):
    """Our order of modules: by layer, inside a layer as in the family's list, last what comes after the layers."""
    layer = re.search(r"\b(?:layers?|h)\.(\d+)\.(.*)$", path)
    return (int(layer[1]), family.layer.index(layer[2])) if layer else (math.inf, 0)


def head_values(family, k, p):
    """Layer k of the head from its formula."""
    last = k == len(family.head) - 1
    if p.dim() == 2:
        return formula(p.shape, lambda i, j: 0.1 * math.sin(0.9 * i + 0.2 * j + (0.5 if last else 1.5)))
    return torch.tensor([0.0 if last else 0.05 * math.cos(0.4 * i) for i in range(len(p))])


def main(which):
    every = which.endswith("-all")
    lm = "-lm" in which
    if which.startswith("tiny"):
        name = which.removesuffix("-all").removesuffix("-lm").removeprefix("tiny").removeprefix("-") or "bert"
        family = FAMILIES[name]
        model, marks = tiny(name, family, lm), (0, 2, 5, 120) if name == "roberta" else (2, 3, 5, 120)
    else:
        which = which.removesuffix("-lm")
        auto = AutoModelForCausalLM if lm else AutoModelForSequenceClassification
        model = auto.from_pretrained(which, dtype=torch.float32, **({} if lm else {"num_labels": 3}))
        name, marks = model.config.model_type, (101, 102, 1000, 20000)
        family = FAMILIES[name]
    targets = family.layer + family.extra if every else family.targets
    config = LoraConfig(task_type="CAUSAL_LM" if lm else "SEQ_CLS", r=4, lora_alpha=8, lora_dropout=0.0,
                        target_modules=targets,
                        modules_to_save=None if lm else sorted({path.split(".")[0] for path in family.head}))
    model = get_peft_model(model, config).eval()
    path = lambda name: name.split("base_model.model.")[1].split(".lora_")[0]
    ordered = lambda kind: sorted(((path(n), p) for n, p in model.named_parameters() if kind in n),
                                  key=lambda x: position(x[0], family))
    a, b = ordered("lora_A"), ordered("lora_B")
    saved = {n.split("base_model.model.")[1].replace(".modules_to_save.default", ""): p
             for n, p in model.named_parameters() if ".modules_to_save." in n}
    head = [(k, saved[f"{layer}.{part}"]) for k, layer in enumerate(family.head) for part in ("weight", "bias")
            if f"{layer}.{part}" in saved]
    assert len(head) == len(saved), "PEFT saves what is not in our head"
    with torch.no_grad():
        for m, (_, p) in enumerate(a):
            p.copy_(formula(p.shape, lambda i, j: 0.05 * math.sin(0.7 * i + 1.3 * j + m)))
        for m, (_, p) in enumerate(b):
            p.copy_(formula(p.shape, lambda i, j: 0.02 * math.cos(1.1 * i + 0.3 * j + 2 * m)))
        for k, p in head:
            p.copy_(head_values(family, k, p))
    head = [p for _, p in head]
    for p in model.parameters():
        p.requires_grad_(False)
    for p in [p for _, p in b] + head:
        p.requires_grad_(True)
    types = lambda x: {"token_type_ids": torch.zeros_like(x)} if name == "bert" else {}

    cases = []
    inputs = [(None, sentence(n, *marks)) for n in [1, 2, 7, 33, 64, 65, 130, 512]] + [(None, x) for x in family.inputs]
    if not which.startswith("tiny"):
        tokenizer = AutoTokenizer.from_pretrained(which)
        inputs = [(text, tokenizer(text)["input_ids"]) for text in SENTENCES] + inputs
    if lm:
        inputs = [(text, ids) for text, ids in inputs if len(ids) > 1]  # a lone token leaves nothing to predict
    for k, (text, ids) in enumerate(inputs):
        label, prompt = k % 3, min([0, 2, 5, 1, 40][k % 5], len(ids) - 1)
        x = torch.tensor([ids])
        model.zero_grad(set_to_none=True)
        logits = model(input_ids=x, attention_mask=torch.ones_like(x), **types(x)).logits
        if lm:
            first = max(prompt, 1)
            loss = torch.nn.functional.cross_entropy(logits[0, first - 1:-1], x[0, first:])
            logits = logits[:, -1]
        else:
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor([label]))
        loss.backward()
        norms = [float(p.grad.double().norm()) for _, p in b]
        cases.append({
            "text": text, "input_ids": ids, **({"prompt": prompt} if lm else {"label": label}), "logits": logits[0].tolist(), "loss": loss.item(),
            "module_norms": norms, "head_norm": math.sqrt(sum(float(p.grad.double().norm()) ** 2 for p in head)),
            "norm": math.sqrt(sum(q * q for q in norms)),
            "last_module_corner": b[-1][1].grad[:2, :4].tolist(),
        })

    together = [cases[i]["input_ids"] for i in (2, 4, 0, 3)]
    longest, pad = max(map(len, together)), model.config.pad_token_id
    x = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in together])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in together])
    with torch.no_grad():
        padded = model(input_ids=x, attention_mask=mask, **types(x)).logits
        if lm:
            padded = torch.stack([row[len(ids) - 1] for row, ids in zip(padded, together)])
    out = {"targets": targets, **({"task": "causal-lm"} if lm else {}), "modules": [n for n, _ in b], "cases": cases,
           "padded": {"cases": [2, 4, 0, 3], "logits": padded.tolist()}}
    print(json.dumps(out))


main(*sys.argv[1:])
