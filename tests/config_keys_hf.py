#!/usr/bin/env python3
"""Golden values for keys of `config.json`: which keys Hugging Face's configuration classes read, and the losses that
Transformers computes where one of them has another value, or where keys or tensors contradict each other.

    python3 tests/config_keys_hf.py keys   > adapter/tests/config-keys.json
    python3 tests/config_keys_hf.py losses > engine/torch/tests/golden/config-keys.json

needs torch==2.11.0 and transformers. The models are the tiny ones of `tests/golden_hf.py`, without an adapter, the head
from the same formulas; each is written to a folder as people have it and read by `AutoModelFor…from_pretrained`.

A case is a change of the base `config` (`change`; keys in `without` are left out), and of the tensors: `tensors` says
from which stream of numbers one more is made, or of which other it is a copy; `dropped` are left out. Cases with a
`name` stand in the table of docs/base-models.md. `losses` are those
of INPUTS, by task; "base" where they are those of the first case, null where Transformers refuses, "random" where it
draws a tensor that the checkpoint lacks.
"""
import dataclasses
import importlib.util
import json
import logging
import math
import pathlib
import sys
import tempfile

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig

HERE = pathlib.Path(__file__).parent
COMMON = dict(vocab_size=128, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
DECODER = dict(num_key_value_heads=2, max_position_embeddings=512, pad_token_id=0, eos_token_id=3, rms_norm_eps=1e-5,
               hidden_act="silu", **COMMON)
BASES = {
    "bert": dict(max_position_embeddings=512, type_vocab_size=2, hidden_act="gelu", pad_token_id=0,
                 layer_norm_eps=1e-12, **COMMON),
    "roberta": dict(max_position_embeddings=514, type_vocab_size=1, hidden_act="gelu", pad_token_id=1,
                    layer_norm_eps=1e-5, **COMMON),
    "distilbert": dict(vocab_size=128, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=512,
                       activation="gelu", pad_token_id=0),
    "llama": dict(tie_word_embeddings=True, rope_theta=10000.0, **DECODER),
    # Transformers' code for a Mistral with layer_types needs head_dim
    "mistral": dict(tie_word_embeddings=False, rope_theta=10000.0, sliding_window=16, head_dim=8, **DECODER),
    "qwen2": dict(tie_word_embeddings=False, rope_theta=10000.0, use_sliding_window=True, sliding_window=16,
                  max_window_layers=1, **DECODER),
    "gpt2": dict(vocab_size=128, n_embd=32, n_layer=2, n_head=4, n_inner=64, n_positions=512, pad_token_id=0,
                 eos_token_id=3, activation_function="gelu_new"),
}
DECODERS = ["llama", "mistral", "qwen2", "gpt2"]
# the second outgrows the window; the third ends in padding
INPUTS = [[2, 10, 25, 3], [2] + [5 + (k * 7919) % 120 for k in range(38)] + [3], [2, 10, 11, 1, 0, 0]]

# Keys that no dataclass field names, with what reads them in Transformers 5.24: constructors (`kwargs`), model code
# (`getattr(config, …)`), the loader; and keys of earlier versions that changed a forward pass then.
BESIDE = {
    "": ["model_type", "torch_dtype", "num_labels", "name_or_path", "_name_or_path", "attn_implementation",
         "experts_implementation", "output_attentions", "per_layer_config", "quantization_config", "fusion_config",
         "configuration_files", "transformers_weights", "auto_map", "gradient_checkpointing", "pruned_heads",
         "tie_encoder_decoder", "is_decoder", "add_cross_attention", "cross_attention_hidden_size", "loss_type",
         "rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor", "original_max_position_embeddings",
         "tie_word_embeddings", "is_causal", "layer_types", "sliding_window", "use_return_dict", "torchscript",
         "use_bfloat16", "tf_legacy_loss", "finetuning_task", "task_specific_params", "tokenizer_class", "prefix",
         "sep_token_id", "decoder_start_token_id", "text_config", "text_encoder", "decoder", "generator",
         "compile_config", "distributed_config", "max_length", "temperature",
         "allow_global_per_layer_attribute_access"],
    "bert": ["position_embedding_type", "gradient_checkpointing", "embedding_size"],
    "roberta": ["position_embedding_type", "embedding_size"],
    "distilbert": ["tie_weights_", "output_past"],
    "llama": ["_rope_type_labels"],
    "mistral": ["attention_bias", "mlp_bias"],
    "qwen2": ["head_dim", "attention_bias", "mlp_bias"],
    "gpt2": ["n_ctx"],
}


def class_of(family):
    return AutoConfig.for_model(family).__class__


def keys(family):
    """Every key that Transformers reads for the family."""
    config = class_of(family)
    fields = {f.name for f in dataclasses.fields(config)}
    return sorted(fields | set(config.attribute_map) | set(BESIDE[""]) | set(BESIDE[family]))


def other(key, default):
    """Values that are not the default, to be tried one by one."""
    if isinstance(default, bool):
        return [not default, None]
    if isinstance(default, int):
        return [default + 1, 2 * default, None]
    if isinstance(default, float):
        return [default * 3 + 0.125, None]
    if isinstance(default, str):
        return ["relu", "gelu_new", "silu", "gelu", "tanh", None]
    return [1, None]


LLAMA_TENSORS = ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.0.self_attn.o_proj.bias",
                 "model.layers.2.mlp.up_proj.weight", "model.norm.bias"]
# what no module reads: known ones, and such as belong to another model than config.json describes
TENSORS = {
    "bert": ["cls.predictions.bias", "bert.encoder.layer.2.output.dense.bias", "bert.embeddings.position_ids",
             "bert.encoder.layer.0.attention.self.distance_embedding.weight"],
    "roberta": ["lm_head.bias", "roberta.pooler.dense.bias", "roberta.encoder.layer.2.output.dense.bias"],
    "distilbert": ["vocab_projector.bias", "distilbert.transformer.layer.2.ffn.lin1.bias"],
    "llama": LLAMA_TENSORS, "mistral": LLAMA_TENSORS, "qwen2": LLAMA_TENSORS,
    "gpt2": ["transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias", "lm_head.bias",
             "transformer.h.0.crossattention.c_attn.weight", "transformer.h.2.ln_1.bias"],
}
LINEAR = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
OLD64 = {**LLAMA3, "original_max_position_embeddings": 64}


def by_hand(family):
    """Cases that are not one key at another value of its kind: (change, more)."""
    yield {}, {"name": "as it is"}
    for name in TENSORS[family]:
        yield {}, {"tensors": {name: 1001}}
    yield {"problem_type": "regression"}, {"name": "problem_type of another loss"}
    yield {"problem_type": "multi_label_classification"}, {}
    yield {"problem_type": "single_label_classification"}, {}
    yield {"per_layer_config": {"1": {"intermediate_size": 32}}}, {}
    yield {"per_layer_config": {}}, {}
    yield {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, {"name": "quantised"}
    yield {"fusion_config": {"patch_embeddings": True}}, {}
    yield {"transformers_weights": "other.safetensors"}, {}
    yield {"configuration_files": ["config.4.0.0.json"]}, {}
    yield {"pruned_heads": {"0": [1]}}, {}
    yield {"pruned_heads": {}}, {}
    yield {"is_causal": False}, {"name": "a decoder that reads both ways"} if family in DECODERS else {}
    yield {"is_causal": True}, {}
    yield {"torch_dtype": "bfloat16"}, {}
    yield {"attn_implementation": "eager"}, {}
    yield {"chunk_size_feed_forward": 2}, {}
    yield {"id2label": {str(i): str(i) for i in range(7)}}, {}
    yield {"text_config": {"hidden_size": 8}}, {}
    yield {"layer_types": ["full_attention", "full_attention"]}, {}
    yield {"rope_scaling": LINEAR}, {}
    yield {"rope_parameters": LINEAR}, {}
    yield {"pad_token_id": -1}, {"name": "pad_token_id -1"}
    yield {"eos_token_id": [3, 7]}, {}
    if family in ("bert", "roberta"):
        for kind in ("relative_key", "absolute"):
            yield {"position_embedding_type": kind}, {}
        yield {"is_decoder": True, "add_cross_attention": True}, {}
        yield {"hidden_size": 32, "embedding_size": 16}, {}
    if family in ("distilbert", "gpt2"):
        for alias, name in class_of(family).attribute_map.items():
            value = BASES[family][name]
            yield {alias: value}, {}
            heads = alias == "num_attention_heads"
            yield {alias: 2 * value}, {"name": "heads under two names that differ"} if heads else {}
            yield {alias: value}, {"without": [name]}
        more = {"name": "heads under Transformers' name"}
        yield {"num_attention_heads": 8}, {**more, "without": [class_of(family).attribute_map["num_attention_heads"]]}
    if family not in DECODERS:
        return
    # an output matrix of its own beside tied embeddings: another, the same, and the only one
    words = "transformer.wte.weight" if family == "gpt2" else "model.embed_tokens.weight"
    for tied in (True, False):
        name = {"name": "tied, an lm_head of its own"} if tied and family in ("llama", "gpt2") else {}
        yield {"tie_word_embeddings": tied}, {**name, "tensors": {"lm_head.weight": 1000}}
        yield {"tie_word_embeddings": tied}, {"tensors": {"lm_head.weight": words}}
        yield {"tie_word_embeddings": tied}, {"dropped": ["lm_head.weight"]}
        name = {"name": "tied, lm_head alone"} if tied else {}
        yield {"tie_word_embeddings": tied}, {**name, "tensors": {"lm_head.weight": 1000}, "dropped": [words]}
    yield {"tie_word_embeddings": True}, {"tensors": {"lm_head.bias": 1001}}
    if family == "gpt2":
        yield {"activation_function": "gelu_pytorch_tanh"}, {}
        yield {"reorder_and_upcast_attn": True, "attn_implementation": "eager"}, {}
        yield {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True}, {}
        return
    for first, second in (("full", "sliding"), ("sliding", "full"), ("sliding", "sliding")):
        listed = {"layer_types": [f"{first}_attention", f"{second}_attention"]}
        for window in (16, None):
            name = {"name": f"layer_types: {first}, {second}"} if window and family != "llama" else {}
            yield {**listed, "sliding_window": window}, name
            yield {**listed, "sliding_window": window, "use_sliding_window": False}, {}
    yield {"layer_types": ["full_attention"]}, {}
    yield {"layer_types": ["attention", "sliding_attention"]}, {}
    yield {"layer_types": ["full_attention", "chunked_attention"]}, {}
    yield {"sliding_window": None, "layer_types": None}, {}
    yield {}, {"without": ["sliding_window"]}
    yield {}, {"without": ["num_key_value_heads"]}
    for table in ("rope_scaling", "rope_parameters"):
        for value in ({}, {"type": "linear", "factor": 4.0}, {**LINEAR, "type": "linear"},
                      {**LINEAR, "type": "dynamic"},
                      {"rope_type": "default", "type": "linear", "factor": 4.0}, {**LINEAR, "rope_theta": 500.0},
                      {"rope_type": None, "type": "linear", "factor": 4.0}, {**LINEAR, "factor": 0.5}, LLAMA3, OLD64,
                      {**LINEAR, "partial_rotary_factor": 0.5}, {"rope_type": "default", "partial_rotary_factor": 0.5},
                      {"rope_type": "yarn", "factor": 4.0}, {"rope_type": "dynamic", "factor": 4.0},
                      {"full_attention": LINEAR}, {"full_attention": LINEAR, "sliding_attention": LINEAR},
                      {"rope_type": "proportional", "factor": 4.0}, {"factor": 4.0}, {"rope_theta": 500.0},
                      {"rope_type": "default", "mrope_section": [1, 2, 1]}):
            both = table == "rope_scaling" and value == {**LINEAR, "type": "linear"}
            yield {table: value}, {"name": "rope_type and type that agree"} if both else {}
            if table == "rope_scaling" and value != LLAMA3:
                yield {table: value}, {"without": ["rope_theta"]}
    yield {"rope_scaling": OLD64, "original_max_position_embeddings": 32}, {}
    yield {"rope_scaling": OLD64, "original_max_position_embeddings": 64}, {}
    yield {"rope_scaling": LLAMA3, "original_max_position_embeddings": 32}, {"name": "llama3, first length outside"}
    differ = {"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
    yield differ, {"name": "two rope tables that differ"}
    agree = {"rope_scaling": LINEAR, "rope_parameters": {**LINEAR, "rope_theta": 10000.0}}
    yield agree, {"name": "two rope tables that agree"}
    yield {"rope_scaling": LINEAR, "rope_parameters": {**LINEAR, "rope_theta": 500.0}}, {"without": ["rope_theta"]}
    yield {"rope_scaling": {}, "rope_parameters": {**LINEAR, "rope_theta": 500.0}}, {}
    yield {"rope_scaling": None, "rope_parameters": None}, {"without": ["rope_theta"]}
    yield {"partial_rotary_factor": 0.5}, {}
    yield {"partial_rotary_factor": 0.5, "rope_scaling": LINEAR}, {}
    yield {"partial_rotary_factor": 1.0}, {}
    yield {"head_dim": 8}, {}
    yield {}, {"without": ["head_dim"]}
    yield {"head_dim": 4}, {}


def cases(family):
    for change, more in by_hand(family):
        yield change, more
    config = class_of(family)
    fields = {f.name: f.default for f in dataclasses.fields(config)}
    for key in keys(family):
        if key in ("model_type", "transformers_version", "configuration_files"):
            continue
        default = BASES[family].get(key, fields.get(key))
        for value in other(key, default):
            yield {key: value}, {}


def golden():
    """`tests/golden_hf.py` as a module, without its main."""
    text = (HERE / "golden_hf.py").read_text().rsplit("\nmain(", 1)[0]
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("golden_hf", None))
    exec(compile(text, "golden_hf.py", "exec"), module.__dict__)
    return module


def stored(golden, family, config):
    """The tiny model's tensors, with the output matrix that it has of its own."""
    with tempfile.TemporaryDirectory() as dir:
        pathlib.Path(dir, "config.json").write_text(json.dumps(config))
        kinds = golden.FAMILIES[family]
        kinds.config = AutoConfig.from_pretrained(dir)
        kinds.config.num_labels = 3
        model = golden.tiny(family, kinds, family in DECODERS)
    prefix = f"{kinds.prefix or family}."
    return {n: p.detach().clone() for n, p in model.named_parameters() if n.startswith(prefix) or n == "lm_head.weight"}


def losses(golden, family, task, dir):
    auto = AutoModelForCausalLM if task == "lm" else AutoModelForSequenceClassification
    try:
        more = {} if task == "lm" else {"num_labels": 3}
        model, info = auto.from_pretrained(dir, dtype=torch.float32, output_loading_info=True, **more)
        kinds = golden.FAMILIES[family]
        drawn = [n for n in info["missing_keys"] if task == "lm" or not n.startswith(tuple(kinds.head))]
        if drawn:
            return "random"
        model.eval()
        with torch.no_grad():
            for k, path in enumerate(kinds.head if task != "lm" else []):
                for name, p in model.get_submodule(path).named_parameters():
                    p.copy_(golden.head_values(kinds, k, p))
            found = []
            for k, ids in enumerate(INPUTS):
                x = torch.tensor([ids])
                if task == "lm":
                    found.append(model(input_ids=x, attention_mask=torch.ones_like(x), labels=x).loss.item())
                else:
                    label = torch.tensor([k % 3])
                    found.append(model(input_ids=x, attention_mask=torch.ones_like(x), labels=label).loss.item())
        return [round(v, 7) for v in found] if all(v == v for v in found) else None
    except Exception as error:
        print(family, task, type(error).__name__, str(error).splitlines()[:1], file=sys.stderr)
        return None


def main(what):
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if what == "keys":
        listed = {"transformers": transformers.__version__, **{f: keys(f) for f in BASES}}
        print("{\n" + ",\n".join(f" {json.dumps(f)}: {json.dumps(of)}" for f, of in listed.items()) + "\n}")
        return
    helper = golden()
    out = {"transformers": transformers.__version__, "inputs": INPUTS, "families": {}}
    for family, base in BASES.items():
        config = {"model_type": family, **base}
        tensors = stored(helper, family, config)
        found, seen = [], set()
        for change, more in cases(family):
            case = {"change": change, **more}
            what = json.dumps({**case, "name": ""})
            if what in seen:
                continue
            seen.add(what)
            with tempfile.TemporaryDirectory() as dir:
                changed = {k: v for k, v in {**config, **change}.items() if k not in more.get("without", [])}
                pathlib.Path(dir, "config.json").write_text(json.dumps(changed))
                held = {n: t for n, t in tensors.items() if n not in more.get("dropped", [])}
                for name, stream in more.get("tensors", {}).items():
                    shape = [128] if name.endswith(".bias") else [128, 32]
                    if isinstance(stream, str):
                        held[name] = tensors[stream].clone()
                        continue
                    numbers = torch.tensor(helper.uniform(stream, math.prod(shape)), dtype=torch.float64)
                    held[name] = numbers.reshape(shape).mul(0.25).float()
                save_file({n: t.contiguous() for n, t in held.items()}, pathlib.Path(dir, "model.safetensors"),
                          metadata={"format": "pt"})
                tasks = ["classify", "lm"] if family in DECODERS else ["classify"]
                by_task = {task: losses(helper, family, task, dir) for task in tasks}
                base_losses = found[0]["losses"] if found else {}
                same = {task: "base" if loss == base_losses.get(task) else loss for task, loss in by_task.items()}
                found.append({**case, "losses": same})
        out["families"][family] = {"config": config, "cases": found}
    text = json.dumps(out)
    print(text.replace('{"change"', '\n{"change"'))


if __name__ == "__main__":
    main(*sys.argv[1:])
