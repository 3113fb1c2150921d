#!/usr/bin/env python3
"""This engine, Hugging Face + PEFT, and PEFT + Opacus take the same training steps, in one table.

    make bench-training ARGS="[--model DIR] [--data FILE…] [--rounds N] …"

Each contender is a process of its own with two threads. They take turns, batch by batch, in an order that rotates, so
that whatever else the machine does meets them all. A step is what a training loop does with one batch: gradients,
optimiser (SGD), and for the private ones a clip for each example and noise.

Workloads: batches of 32 rows (`--rows`) of exactly 64 tokens (`--tokens`), and batches of 32 random rows of the demo's
data with their own lengths, cut to 128 tokens, which Hugging Face pads to the longest of each batch. Every contender trains LoRA r = 8 on
the family's default modules and the classification head, without dropout: ours B alone (FFA-LoRA), PEFT A and B
("-ffa": with A frozen, as ours). Hugging Face's attention is the one it chooses by itself, or "eager", which is much
faster on a CPU in bf16; judge by the faster.

The arguments after `--` are the command that runs our side (engine/torch/benches/training.rs).
"""
import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

THREADS = 2
ROOT = Path(__file__).resolve().parents[3]
TARGETS = {"bert": ["query", "value"], "roberta": ["query", "value"], "distilbert": ["q_lin", "v_lin"],
           "llama": ["q_proj", "v_proj"], "mistral": ["q_proj", "v_proj"], "qwen2": ["q_proj", "v_proj"],
           "gpt2": ["c_attn"]}
OURS = ["bf16", "bf16-dp", "f32", "f32-dp"]
THEIRS = ["peft-bf16", "peft-bf16-eager", "peft-bf16-eager-ffa", "peft-f32", "peft-f32-eager", "opacus-bf16-eager",
          "opacus-f32", "opacus-f32-eager"]


def peak_kb():
    line = next(l for l in open("/proc/self/status") if l.startswith("VmHWM:"))
    return int(line.split()[1])


def serve(contender, model_dir, batches_file):
    """Takes steps as standard input asks, in the form of training.rs."""
    import contextlib
    import warnings
    import torch
    import transformers
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    device = torch.device(os.environ.get("BENCH_DEVICE", "cpu"))
    work = json.loads(Path(batches_file).read_text())
    lm = work["task"] == "causal-lm"
    extra = {} if lm else {"num_labels": work["labels"]}
    extra |= {"pad_token_id": 0} if work["pad_token_id"] is None else {}
    names = {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "dropout", "attention_dropout",
             "seq_classif_dropout"}
    model = (AutoModelForCausalLM if lm else AutoModelForSequenceClassification).from_pretrained(
        model_dir, attn_implementation="eager" if "eager" in contender else "sdpa", dtype=torch.float32, **extra)
    for name in names & set(vars(model.config)):
        setattr(model.config, name, 0.0)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model = get_peft_model(model, LoraConfig(task_type=TaskType.CAUSAL_LM if lm else TaskType.SEQ_CLS, r=8, lora_alpha=16,
                                             target_modules=work["targets"], lora_dropout=0.0))
    if contender.endswith("-ffa"):
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.requires_grad = False
    model.to(device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01)
    if contender.startswith("opacus"):
        from opacus import GradSampleModule
        from opacus.optimizers import DPOptimizer
        model = GradSampleModule(model)
        optimizer = DPOptimizer(optimizer, noise_multiplier=1.0, max_grad_norm=1.0,
                                expected_batch_size=len(work["batches"][0]))
    model.train()
    bf16 = "bf16" in contender
    batches = []
    for rows in work["batches"]:
        longest = max(len(r["ids"]) for r in rows)
        pad = work["pad_token_id"] or 0
        ids = torch.tensor([r["ids"] + [pad] * (longest - len(r["ids"])) for r in rows])
        mask = torch.tensor([[1] * len(r["ids"]) + [0] * (longest - len(r["ids"])) for r in rows])
        labels = ids.masked_fill(mask == 0, -100) if lm else torch.tensor([r["label"] for r in rows])
        batches.append((ids.to(device), mask.to(device), labels.to(device)))
    loaded = peak_kb()
    print("ready", flush=True)
    for line in sys.stdin:
        ids, mask, labels = batches[int(line)]
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else contextlib.nullcontext():
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        loss.item()
        print(f"{(time.perf_counter() - begin) * 1e3:.4f}", flush=True)
    print(json.dumps({"loaded_kb": loaded, "peak_kb": peak_kb()}), flush=True)


class Contender:
    """A process that takes steps on request."""

    def __init__(self, name, command):
        self.name, self.steps = name, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"bench-training: {self.name} ended early (its message is above)")
        return line

    def ready(self):
        while self.line().strip() != "ready":
            pass

    def step(self, batch, counts=True):
        self.process.stdin.write(f"{batch}\n")
        self.process.stdin.flush()
        took = float(self.line())
        if counts:
            self.steps.append(took)

    def finish(self):
        self.card_mb = card_memory(self.process.pid)
        self.process.stdin.close()
        self.memory = json.loads(self.line())
        self.process.wait()


def card_memory(pid):
    """MB that a process holds on the graphics card, by nvidia-smi; 0 on a processor."""
    if os.environ.get("BENCH_DEVICE", "cpu") == "cpu":
        return 0
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    lines = subprocess.run(query, stdout=subprocess.PIPE, text=True, check=False).stdout.splitlines()
    return next((int(line.split(",")[1]) for line in lines if line.split(",")[0].strip() == str(pid)), 0)


def texts_of(files):
    """(text, label) of .jsonl files with text and label, or of .tsv files with a header and columns sentence, label."""
    for file in files:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
        if file.endswith(".tsv"):
            for line in lines[1:]:
                text, label = line.rsplit("\t", 1)
                yield text, label
        else:
            for row in map(json.loads, lines):
                yield row["text"], row["label"]


def workloads(options, config):
    """Name, what it is, and the batches of each."""
    draw, size, vocab = random.Random(1), options.rows, config["vocab_size"]
    fixed = [[{"ids": [draw.randrange(5, vocab) for _ in range(options.tokens)], "label": k % 2} for k in range(size)]
             for _ in range(2)]
    every = {"fixed": (f"{size} rows of {options.tokens} tokens", fixed)}
    if "real" not in options.workloads:
        return [("fixed", *every["fixed"])], 2
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(Path(options.model) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    rows = list(texts_of(options.data))
    names = sorted({label for _, label in rows})
    chosen = draw.sample(rows, size * options.batches)
    ids = [tokenizer.encode(text).ids for text, _ in chosen]
    labels = [names.index(label) for _, label in chosen]
    examples = [{"ids": i, "label": l} for i, l in zip(ids, labels)]
    real = [examples[k:k + size] for k in range(0, len(examples), size)]
    tokens = [len(i) for i in ids]
    padded = sum(size * max(len(r["ids"]) for r in batch) for batch in real)
    what = (f"{len(real)} batches of {size} random rows, {statistics.mean(tokens):.1f} tokens on average, {max(tokens)} at most; "
            f"padding to each batch's longest makes {padded / sum(tokens):.2f} times as many")
    every["real"] = (what, real)
    return [(name, *every[name]) for name in options.workloads], max(len(names), 2)


def flop(config, lengths, lm):
    """Of the layers' matrix products, and of the output matrix: forward, and backward for activations alone."""
    get = lambda *names: next(config[n] for n in names if config.get(n))
    h, inner = get("hidden_size", "dim", "n_embd"), config.get("intermediate_size") or config.get("hidden_dim") or 4 * config["n_embd"]
    layers = get("num_hidden_layers", "n_layers", "n_layer")
    kv = h * config.get("num_key_value_heads", 1) // config.get("num_attention_heads", 1) if config.get("num_key_value_heads") else h
    gated = config["model_type"] in ("llama", "mistral", "qwen2")
    output = config["vocab_size"] * h if lm else 0
    linear = 2 * sum(lengths) * (layers * (2 * h * h + 2 * h * kv + (3 if gated else 2) * h * inner) + output)
    attention = sum(4 * n * n * h * layers for n in lengths)
    return 2 * linear + 3 * attention


def machine():
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    return (f"{cpu}, {len(os.sched_getaffinity(0))} cores, {THREADS} threads for each contender; load before the run "
            f"{os.getloadavg()[0]:.1f}; nice {os.nice(0)}, policy {os.sched_getscheduler(0)}")


def main():
    own, ours = sys.argv[1:], []
    if "--" in own:
        own, ours = own[:own.index("--")], own[own.index("--") + 1:]
    if own[:1] == ["serve"]:
        return serve(*own[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT / ".demo/models/all-MiniLM-L6-v2"), help="Hugging Face directory")
    parser.add_argument("--data", nargs="+", default=sorted(map(str, (ROOT / ".demo/data").glob("*/train.jsonl"))),
                        help=".jsonl (text, label) or .tsv (sentence, label, with a header)")
    parser.add_argument("--rounds", type=int, default=20, help="steps on each batch of the first workload; real batches: a quarter")
    parser.add_argument("--batches", type=int, default=12, help="batches of real lengths")
    parser.add_argument("--task", default="sequence-classification", choices=["sequence-classification", "causal-lm"],
                        help="causal-lm: decoders alone, whole texts predicted")
    parser.add_argument("--rows", type=int, default=32, help="rows in a batch")
    parser.add_argument("--tokens", type=int, default=64, help="tokens in a row of the first workload")
    parser.add_argument("--workloads", nargs="+", default=["fixed", "real"], choices=["fixed", "real"])
    parser.add_argument("--contenders", nargs="+", default=OURS + THEIRS)
    options = parser.parse_args(own)
    config = json.loads((Path(options.model) / "config.json").read_text())
    targets = TARGETS.get(config["model_type"])
    if targets is None:
        sys.exit(f"bench-training: {config['model_type']} is not compared yet")
    found, labels = workloads(options, config)
    floor = None
    if set(options.contenders) & set(OURS) and os.environ.get("BENCH_DEVICE", "cpu") == "cpu":
        h = str(config.get("hidden_size") or config.get("dim") or config["n_embd"])
        inner = str(config.get("intermediate_size") or config.get("hidden_dim") or 4 * config["n_embd"])
        floor = json.loads(subprocess.run([*ours, "floor", "2048", h, inner], check=True, stdout=subprocess.PIPE, text=True).stdout)
        print(f"matrix products, GFLOP/s, one on each thread: bf16 {floor['bf16']}, f32 {floor['f32']}; each on both threads: "
              f"bf16 {floor['bf16_together']}, f32 {floor['f32_together']}")
    print(machine())
    print(f"model {Path(options.model).name}; LoRA r = 8 on {', '.join(targets)}, "
          f"{'texts continued' if options.task == 'causal-lm' else 'head trained'}, SGD, no dropout")
    with tempfile.TemporaryDirectory() as folder:
        for name, what, batches in found:
            file = Path(folder) / f"{name}.json"
            file.write_text(json.dumps({"task": options.task, "labels": labels, "targets": targets, "pad_token_id": config.get("pad_token_id"),
                                        "batches": batches}))
            lengths = [len(r["ids"]) for batch in batches for r in batch]
            work = flop(config, lengths, options.task == "causal-lm") / len(batches)
            print(f"\n{name}: {what}")
            rounds = options.rounds if name == "fixed" else max(options.rounds // 4, 2)
            compare(options, ours, file, len(batches), rounds, work, floor)


def compare(options, ours, file, batches, rounds, work, floor):
    contenders = []
    for name in options.contenders:
        command = [*ours, name, options.model, str(file)]
        if name not in OURS:
            command = [sys.executable, "-B", __file__, "serve", name, options.model, str(file)]
        contenders.append(Contender(name, command))
    for contender in contenders:
        contender.ready()
    for turn in range(rounds + 1):
        for batch in range(batches):
            shift = (turn * batches + batch) % len(contenders)
            for contender in contenders[shift:] + contenders[:shift]:
                contender.step(batch, counts=turn > 0)
    for contender in contenders:
        contender.finish()
    print(f"{'contender':<20}{'examples/s':>12}{'median ms':>12}{'min ms':>10}{'peak MB':>10}{'loaded MB':>11}")
    middle, peak = {}, {}
    for c in contenders:
        # the time for every batch once, from each batch's median over the rounds
        median = statistics.mean(statistics.median(c.steps[b::batches]) for b in range(batches))
        least = statistics.mean(min(c.steps[b::batches]) for b in range(batches))
        middle[c.name], peak[c.name] = median, c.memory["peak_kb"] / 1e3
        print(f"{('ours ' if c.name in OURS else '') + c.name:<20}{options.rows * 1e3 / median:>12.1f}{median:>12.1f}{least:>10.1f}"
              f"{peak[c.name]:>10.0f}{c.memory['loaded_kb'] / 1e3:>11.0f}" + (f"{c.card_mb:>10} on the card" if c.card_mb else ""))
    if floor:
        print(f"floor of one step: {work / 1e9:.1f} GFLOP, {work / floor['bf16'] / 1e6:.1f} ms in bf16, "
              f"{work / floor['f32'] / 1e6:.1f} ms in f32")
    for kind, own in [("peft-bf16", "bf16"), ("peft-f32", "f32"), ("opacus", "bf16-dp"), ("opacus-f32", "f32-dp")]:
        theirs = [name for name in middle if name.startswith(kind)]
        if own in middle and theirs:
            best = min(theirs, key=middle.get)
            print(f"ours {own} is {middle[best] / middle[own]:.2f} times as fast as the fastest {kind} ({best}), with "
                  f"{peak[own] / peak[best]:.2f} of its memory")
    for a, b in [("bf16", "bf16-dp"), ("f32", "f32-dp")]:
        if a in middle and b in middle:
            print(f"a private step of ours in {a} takes {middle[b] / middle[a]:.3f} times as long as one that is not")


if __name__ == "__main__":
    main()
