#!/bin/sh
# Everything that is to be known of a graphics card, in one command of less than ten minutes:
#
#     engine/torch/benches/gpu.sh PYTHON BENCH [DEVICE]
#
# PYTHON has torch 2.11.0 with CUDA, transformers, peft and opacus; BENCH is the program that
# `cargo bench --profile release -p blindsum-torch --bench training --no-run` names (its machine needs no toolchain).
# Models are made there at random: a RoBERTa-large-sized encoder (24 x 1024, sequences of 128) and a Llama of 1.2 billion
# parameters (16 x 2048, 8 key heads of 32). It prints parity with the processor on small models of both kinds, then
# examples per second beside PEFT in bf16 and beside Opacus, and what a private step costs. SMALL=1 makes everything tiny, to try the script itself.
set -eu
python=$1 bench=$2 device=${3:-cuda:0}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
BENCH_DEVICE=$device
LD_LIBRARY_PATH=$("$python" -c 'import os, torch; print(os.path.join(os.path.dirname(torch.__file__), "lib"))')${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export BENCH_DEVICE LD_LIBRARY_PATH

"$python" - "$work" "${SMALL:-}" <<'PY'
import sys
import torch
from transformers import LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaForSequenceClassification
out, small = sys.argv[1], bool(sys.argv[2])
torch.manual_seed(0)
encoder = lambda h, n, heads: RobertaForSequenceClassification(RobertaConfig(
    hidden_size=h, num_hidden_layers=n, num_attention_heads=heads, intermediate_size=4 * h, vocab_size=50265,
    max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, num_labels=2))
decoder = lambda h, n, heads, keys, inner: LlamaForCausalLM(LlamaConfig(
    hidden_size=h, num_hidden_layers=n, num_attention_heads=heads, num_key_value_heads=keys, intermediate_size=inner,
    vocab_size=128256, max_position_embeddings=2048, tie_word_embeddings=True, rms_norm_eps=1e-5, bos_token_id=0,
    eos_token_id=1))
models = {"small-encoder": encoder(256, 4, 8), "small-decoder": decoder(256, 4, 8, 2, 512)}
models["encoder"] = encoder(256, 2, 8) if small else encoder(1024, 24, 16)
models["decoder"] = decoder(256, 2, 8, 2, 512) if small else decoder(2048, 16, 32, 8, 8192)
for name, model in models.items():
    # half precision as published checkpoints have it; parity is compared in f32 on f32 weights
    (model if name.startswith("small") else model.half()).save_pretrained(f"{out}/{name}")
    open(f"{out}/{name}/tokenizer.json", "w").write("{}")
    print(f"{name}: {sum(p.numel() for p in model.parameters()) / 1e6:.0f}M parameters")
PY
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
"$bench" parity "$work/small-encoder" sequence-classification
"$bench" parity "$work/small-decoder" causal-lm
rounds=10 tokens=512
[ -z "${SMALL:-}" ] || { rounds=1 tokens=64; }
table() { "$python" -B "$here/training.py" --workloads fixed --rounds $rounds "$@" -- "$bench"; }
table --model "$work/encoder" --rows 64 --tokens 128 --contenders bf16 bf16-dp peft-bf16 opacus-bf16
table --model "$work/decoder" --task causal-lm --rows 8 --tokens $tokens --contenders bf16 bf16-dp peft-bf16 opacus-bf16
