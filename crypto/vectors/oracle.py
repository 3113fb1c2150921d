"""An independent computation of one whole blindsum session, from docs/protocol.md, from the contracts at the heads of
the files in crypto/src, and from README.md beside this script for what those leave open (which field follows which). It
shares no code with the Rust side, and no library.

Uses `cryptography` for X25519, Ed25519, AES-256-GCM and AES-256-CTR, and the standard library for all else. Everything
that a silo draws at random comes from SHAKE-256 of a name, so two runs print the same bytes.

  oracle.py --check    compute again and compare with the JSON files beside this script (what `make vectors` runs)
  oracle.py --write    replace them
"""

import hashlib
import json
import struct
import sys
from pathlib import Path

from derive import H, drawn, keystream, merkle_path, merkle_root, pack, pair_hashes, raw, unpack
from forge import negative_json
from honest import DROPPED, N, NAMES, Session


def session_json(s):
    """The good session, message by message, with every value on the way."""
    pairs = [(i, j) for i in range(N) for j in range(N) if i != j]
    silos = [{"name": name, "identity": key} for name, key in zip(NAMES, s.identities)]
    return {
        "identity_seeds": s.seeds,
        "roster": {"federation_id": s.federation, "version": s.version, "silos": silos},
        "roster_hash": s.roster_hash,
        "params": s.params,
        "params_hash": s.params_hash,
        "context": s.context,
        "ctx": s.ctx,
        "secrets": [{k: raw(v) if isinstance(v, int) else v for k, v in own.items()} for own in s.secrets],
        "adverts": s.adverts,
        "t1": s.t1,
        "share_keys": [{"dealer": i, "recipient": j, "key": s.share_key(i, j)} for i, j in pairs],
        "shares": [s.shares(i) for i in range(N)],
        "dealings": s.dealings,
        "ciphertext_hashes": [[H("ciphertext", p["sealed"]) for p in d["pairs"]] for d in s.dealings],
        "pair_hashes": [pair_hashes(d["pairs"]) for d in s.dealings],
        "deliveries": [s.delivery(i, j) for i, j in pairs],
        "complaint": s.complaint(0, 1),
        "t2": s.t2,
        "bind": s.bind,
        "self_seeds": [{"seed": seed, "first_words": keystream(seed, 8)} for seed in s.self_seeds],
        "pair_seeds": [
            {
                "low": i,
                "high": j,
                "seed": seed,
                "first_words": keystream(seed, 8),
                "words_at_40000": keystream(seed, 4, 40_000),
            }
            for (i, j), seed in s.pair_seeds.items()
        ],
        "inputs": s.inputs,
        "masked": [{**m, "packed": packed} for m, packed in zip(s.masked, s.packed)],
        "survivor_list": s.list,
        "dropped": DROPPED,
        "t3": s.t3,
        "commits": s.commits,
        "abandons": s.abandons,
        "reveals": s.reveals,
        "rebuilt": [raw(s.rebuilt[i]) for i in range(N)],
        "sum": {"lanes": unpack(s.segments, s.sum), "packed": s.sum, "hash": s.sum_hash},
        "rows_key": s.rows_key,
        "sketches": s.sketches,
        "opened": [],
        "next_model_hash": s.next_model,
        "result_hash": s.result_hash,
        "results": s.results,
    }


def small_json():
    """Shapes that the session does not have: trees that are not full, and rings of every kind of width."""
    trees = []
    for n in range(1, 9):
        leaves = [hashlib.sha256(bytes([n, k])).digest() for k in range(n)]
        trees.append(
            {"leaves": leaves, "root": merkle_root(leaves), "paths": [merkle_path(leaves, k) for k in range(n)]}
        )
    rings = []
    for bits in range(1, 33):
        lanes = list(struct.unpack("<45I", drawn(f"packing {bits}", 180)))
        first, second = ({"length": length, "ring_bits": bits} for length in (37, 8))
        rings.append({"ring_bits": bits, "lengths": [37, 8], "lanes": lanes, "packed": pack([first, second], lanes)})
    return {"merkle": trees, "packing": rings}


def hexed(value):
    """The same with bytes as hex."""
    if isinstance(value, dict):
        return {key: hexed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hexed(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value


def text(value, indent="\n"):
    """JSON, one object or list of objects to a line where it is short, else opened; plain lists always on one line."""
    flat = json.dumps(value)
    plain = not isinstance(value, dict) and not any(isinstance(x, (dict, list)) for x in value)
    if plain or len(flat) <= 110:
        return flat
    named = isinstance(value, dict)
    items = value.items() if named else enumerate(value)
    lines = []
    for key, item in items:
        inner = text(item, indent + " ") if isinstance(item, (dict, list)) else json.dumps(item)
        lines.append(f"{indent} {json.dumps(key)}: {inner}" if named else f"{indent} {inner}")
    return ("{%s}" if named else "[%s]") % (",".join(lines) + indent)


def first_difference(ours, theirs):
    for number, (a, b) in enumerate(zip(ours.splitlines(), theirs.splitlines()), 1):
        if a != b:
            return f"line {number} should be {a[:160]} and is {b[:160]}"
    return "they have different lengths"


def main():
    session = Session()
    files = {
        "session.json": session_json(session),
        "small.json": small_json(),
        "negative.json": negative_json(session, Session(attempt=3)),
    }
    here, differ = Path(__file__).parent, []
    for name, value in files.items():
        path, new = here / name, text(hexed(value)) + "\n"
        if sys.argv[1:] == ["--write"]:
            path.write_text(new)
        elif not path.exists():
            differ.append(f"{name} is missing")
        elif (old := path.read_text()) != new:
            differ.append(f"{name} differs from what this script computes: {first_difference(new, old)}")
    count = len(files["negative.json"]["cases"])
    if differ:
        sys.exit("\n".join("vectors: " + line for line in differ))
    print(f"vectors: {', '.join(files)} are what this script computes ({count} negative cases)")


if __name__ == "__main__":
    if sys.argv[1:] not in (["--write"], ["--check"]):
        sys.exit(__doc__)
    main()
