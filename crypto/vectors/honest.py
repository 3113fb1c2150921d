"""One honest session: what each silo draws, computes, signs and sends, and what comes of it."""

import hashlib
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from derive import *

NAMES = ["north", "east", "south", "west"]
N, T, Q, M, C = 4, 3, 3, 3, 1
SURVIVORS, DROPPED = [0, 1, 3], [2]


class Session:
    """One honest session of four silos of which silo 2 is dropped: its masked input is made but comes too late."""

    def __init__(self, attempt=2):
        self.seeds = [drawn(f"identity {i}", 32) for i in range(N)]
        self.identities = [identity_public(seed) for seed in self.seeds]
        self.federation, self.version = "vectors", 7
        entries = [part for name, key in zip(NAMES, self.identities) for part in (name, key)]
        self.roster_hash = H("roster", self.federation, self.version, N, *entries)
        self.segments = [
            {"name": "lora_B", "length": 257, "ring_bits": 18, "kind": "fixed_point", "value_bits": 16, "bound": 0.5},
            {"name": "metrics", "length": 5, "ring_bits": 32, "kind": "counts", "max_value": (2**32 - 1) // N},
        ]
        self.params = {
            "segments": self.segments,
            "quorum": {"n": N, "c": C, "t": T, "q": Q, "m": M},
            "noise": True,
            "verify_sum": "sketches",
            "training_deadline_ms": 600_000,
            "phase_deadline_ms": 30_000,
        }
        self.params_hash = self.hash_of_params()
        self.context = {
            "federation_id": self.federation,
            "roster_hash": self.roster_hash,
            "roster_version": self.version,
            "job_digest": hashlib.sha256(b"job").digest(),
            "round": 3,
            "attempt": attempt,
            "params_hash": self.params_hash,
            "previous_result_hash": hashlib.sha256(b"result of round 2").digest(),
            "model_hash": hashlib.sha256(b"model after round 2").digest(),
        }
        self.ctx = ctx_of(self.context)
        self.draw_secrets(attempt)
        self.adverts = [self.advert(i) for i in range(N)]
        self.t1 = t1_of(self.ctx, self.adverts)
        self.dealings = [self.deal(i) for i in range(N)]
        self.close()

    def hash_of_params(self):
        p, fields = self.params, []
        for s in p["segments"]:
            if s["kind"] == "fixed_point":
                bits = struct.unpack("<Q", struct.pack("<d", s["bound"]))[0]
                meaning = [0, s["value_bits"], bits]
            else:
                meaning = [1, s["max_value"], 0]
            fields += [s["name"], s["length"], s["ring_bits"], *meaning]
        numbers = [p["quorum"][k] for k in ("n", "c", "t", "q", "m")]
        times = [p["training_deadline_ms"], p["phase_deadline_ms"]]
        return H("params", SUITE, *numbers, int(p["noise"]), ["off", "sketches", "inputs"].index(p["verify_sum"]), *times, len(p["segments"]), *fields)

    def draw_secrets(self, attempt):
        """What each silo draws for this attempt, as bytes, in the order in which this page lists it."""
        self.secrets = []
        for i in range(N):
            own = lambda what, length: drawn(f"attempt {attempt} silo {i} {what}", length)
            s = {
                "sigma_wide": own("sigma", 64),
                "channel": own("channel", 32),
                "b_wide": own("b", 64),
                "b_coefficients_wide": [own(f"b coefficient {k}", 64) for k in range(1, T)],
                "sigma_coefficients_wide": [own(f"sigma coefficient {k}", 64) for k in range(1, T)],
                "nonces": [{"b": own(f"nonce b {j}", 32), "s": own(f"nonce s {j}", 32)} for j in range(N)],
            }
            s["sigma"], s["b"] = scalar(s["sigma_wide"]), scalar(s["b_wide"])
            s["mask_secret"] = mask_secret(s["sigma"], self.ctx)
            self.secrets.append(s)

    # P1
    def advert(self, i, **changes):
        """The advert of silo i, signed again after changes."""
        s = self.secrets[i]
        advert = {
            "silo": i,
            "channel_key": x25519_public(s["channel"]),
            "mask_key": x25519_public(s["mask_secret"]),
            "journal_length": 11 + i,
            "journal_head": hashlib.sha256(f"journal {i}".encode()).digest(),
            "counts": i != 1,
        }
        advert |= changes
        advert["signature"] = sign(self.seeds[i], "advert", self.ctx, advert["silo"], *advert_fields(advert))
        return advert

    # P2
    def share_key(self, dealer, recipient):
        secret, public = self.secrets[dealer]["channel"], self.adverts[recipient]["channel_key"]
        info = [sid(dealer), self.adverts[dealer]["channel_key"], sid(recipient), public]
        return hkdf(x25519(secret, public), self.t1, "share-key", *info)

    def shares(self, dealer):
        """One pair of openings for each silo."""
        s = self.secrets[dealer]
        b = [s["b"], *map(scalar, s["b_coefficients_wide"])]
        sigma = [s["sigma"], *map(scalar, s["sigma_coefficients_wide"])]
        return [
            {
                "b": {"share": raw(polynomial(b, j + 1)), "nonce": s["nonces"][j]["b"]},
                "s": {"share": raw(polynomial(sigma, j + 1)), "nonce": s["nonces"][j]["s"]},
            }
            for j in range(N)
        ]

    def leaf(self, dealer, recipient, kind, opening):
        return H("leaf", self.t1, sid(dealer), sid(recipient), kind.encode(), opening["share"], opening["nonce"])

    def seal(self, dealer, recipient, opening, key=None, aad=None, nonce=bytes(12), order="bs"):
        plain = b"".join(opening[kind]["share"] + opening[kind]["nonce"] for kind in order)
        key = key or self.share_key(dealer, recipient)
        return AESGCM(key).encrypt(nonce, plain, aad or H("bundle-aad", self.t1, sid(dealer), sid(recipient)))

    def deal(self, dealer, openings=None, leaves={}, sealed={}, b=None):
        """The dealing of one silo; a dishonest dealer brings its own openings, leaves, bundles or commitment."""
        openings = openings or self.shares(dealer)
        pairs = []
        for j, opening in enumerate(openings):
            pair = {"leaves": {kind: self.leaf(dealer, j, kind, opening[kind]) for kind in "bs"}}
            pair["leaves"] |= leaves.get(j, {})
            pair["sealed"] = sealed[j] if j in sealed else b"" if j == dealer else self.seal(dealer, j, opening)
            pairs.append(pair)
        b = self.secrets[dealer]["b"] if b is None else b
        commitment = H("self-commitment", self.t1, sid(dealer), raw(b))
        return {"header": self.header(dealer, merkle_root(pair_hashes(pairs)), commitment), "pairs": pairs}

    def header(self, dealer, root, commitment):
        signature = sign(self.seeds[dealer], "share-header", self.ctx, dealer, self.t1, root, commitment)
        return {"silo": dealer, "root": root, "commitment_b": commitment, "signature": signature}

    def delivery(self, dealer, recipient, dealing=None):
        pairs = (dealing or self.dealings[dealer])["pairs"]
        path = merkle_path(pair_hashes(pairs), recipient)
        return {"dealer": dealer, "recipient": recipient, **pairs[recipient], "path": path}

    def complaint(self, silo, dealer, dealing=None):
        dealing = dealing or self.dealings[dealer]
        digest = H("ciphertext", dealing["pairs"][silo]["sealed"])
        fields = [self.t1, sid(dealer), dealing["header"]["root"], digest]
        signature = sign(self.seeds[silo], "complaint", self.ctx, silo, *fields)
        return {"silo": silo, "dealer": dealer, "ciphertext": digest, "signature": signature}

    # P3 to P6
    def close(self):
        """Everything after the dealings."""
        self.t2 = t2_of(self.t1, [d["header"] for d in self.dealings])
        self.bind = H("bind", self.t2)
        self.self_seeds = [hkdf(raw(s["b"]), self.bind, "self-seed") for s in self.secrets]
        self.pair_seeds = {(i, j): self.pair_seed(i, j) for i in range(N) for j in range(i + 1, N)}
        self.inputs = [self.input(i) for i in range(N)]
        self.packed = [self.mask(i) for i in range(N)]
        self.masked = [self.masked_header(i, self.packed[i]) for i in range(N)]
        self.list = [self.masked[i] for i in SURVIVORS]
        self.t3 = t3_of(self.bind, self.list)
        self.commits = [self.vote(i, "commit", self.t3) for i in SURVIVORS]
        self.abandons = [self.vote(i, "abandon") for i in range(N)]
        self.reveals = [self.reveal(i) for i in SURVIVORS]
        self.sum = self.unmask()
        self.sum_hash = H("sum", self.sum)
        self.rows_key = H("rows", self.t3, self.sum_hash)
        self.sketches = [self.sketch(i) for i in SURVIVORS]
        self.check_sum()
        self.next_model = hashlib.sha256(b"model after round 3").digest()
        self.result_hash = H("result-hash", self.t3, self.sum_hash, self.next_model)
        self.results = [self.vote(i, "result", self.result_hash, self.next_model) for i in range(N)]

    def pair_seed(self, low, high):
        keys = [self.adverts[low]["mask_key"], self.adverts[high]["mask_key"]]
        shared = x25519(self.secrets[low]["mask_secret"], keys[1])
        assert shared == x25519(self.secrets[high]["mask_secret"], keys[0])
        return hkdf(shared, self.bind, "pair-seed", sid(low), keys[0], sid(high), keys[1])

    def input(self, i):
        """Values over and inside the bound, and some exact halves and quarters of a step."""
        length = self.segments[0]["length"]
        rounding = drawn(f"rounding {i}", 32)
        units = struct.unpack(f"<{length}I", drawn(f"values {i}", 4 * length))
        values = [as_f32(1.2 * u / 2**32 - 0.6) for u in units]
        for k, value in enumerate([0.0, -0.0, 0.5, -0.5, 0.75, -1e30, 0.25, -0.25, 2**-40, -(2**-40)]):
            values[k] = as_f32(value)
        lanes, clipped = fixed_point(values, keystream(rounding, length), self.segments[0])
        counts = [1, 1000 + i, 700 + 13 * i, clipped, 1]
        return {"values": values, "rounding": rounding, "counts": counts, "clipped": clipped, "lanes": lanes + counts}

    def mask(self, i):
        lanes = [x + k for x, k in zip(self.inputs[i]["lanes"], keystream(self.self_seeds[i], 262))]
        for (low, high), seed in self.pair_seeds.items():
            if i in (low, high):
                sign_of = 1 if i == low else -1
                lanes = [x + sign_of * k for x, k in zip(lanes, keystream(seed, 262))]
        return pack(self.segments, lanes)

    def masked_header(self, i, packed):
        digest = H("masked-input", packed)
        return {"silo": i, "hash": digest, "signature": sign(self.seeds[i], "masked", self.ctx, i, self.bind, digest)}

    def vote(self, i, label, *fields):
        return {"silo": i, "signature": sign(self.seeds[i], label, self.ctx, i, *fields)}

    def opening(self, dealer, recipient):
        """What the recipient finds in its bundle, or holds of its own."""
        sealed = self.dealings[dealer]["pairs"][recipient]["sealed"]
        if dealer == recipient:
            return self.shares(dealer)[recipient]
        secret, public = self.secrets[recipient]["channel"], self.adverts[dealer]["channel_key"]
        own = self.adverts[recipient]["channel_key"]
        key = hkdf(x25519(secret, public), self.t1, "share-key", sid(dealer), public, sid(recipient), own)
        plain = AESGCM(key).decrypt(bytes(12), sealed, H("bundle-aad", self.t1, sid(dealer), sid(recipient)))
        b, b_nonce, s, s_nonce = (plain[k : k + 32] for k in range(0, 128, 32))
        return {"b": {"share": b, "nonce": b_nonce}, "s": {"share": s, "nonce": s_nonce}}

    def reveal(self, holder, shares=None, t3=None):
        """The reply of one silo: b-shares of survivors, s-shares of the dropped; or what a dishonest one signs."""
        if shares is None:
            kinds = ["b" if peer in SURVIVORS else "s" for peer in range(N)]
            shares = [{"peer": j, "kind": kind, **self.opening(j, holder)[kind]} for j, kind in enumerate(kinds)]
        fields = [t3 or self.t3, shares_hash(shares)]
        return {
            "silo": holder,
            "shares": shares,
            "signature": sign(self.seeds[holder], "reveal", self.ctx, holder, *fields),
        }

    def unmask(self):
        """The coordinator's side, from nothing but what it received; checked against the plaintext sum."""
        secret = {}
        for peer in range(N):
            held = {r["silo"]: int.from_bytes(r["shares"][peer]["share"], "little") for r in self.reveals}
            secret[peer] = rebuilt(held)
        total = [0] * 262
        for i in SURVIVORS:
            total = [a + b for a, b in zip(total, unpack(self.segments, self.packed[i]))]
            total = [a - k for a, k in zip(total, keystream(hkdf(raw(secret[i]), self.bind, "self-seed"), 262))]
        for j in DROPPED:
            own = mask_secret(secret[j], self.ctx)
            assert x25519_public(own) == self.adverts[j]["mask_key"]
            for i in SURVIVORS:
                low, high = min(i, j), max(i, j)
                ends = [part for k in (low, high) for part in (sid(k), self.adverts[k]["mask_key"])]
                seed = hkdf(x25519(own, self.adverts[i]["mask_key"]), self.bind, "pair-seed", *ends)
                sign_of = 1 if i < j else -1  # what survivor i added
                total = [a - sign_of * k for a, k in zip(total, keystream(seed, 262))]
        packed = pack(self.segments, total)
        plain = [sum(lanes) for lanes in zip(*(self.inputs[i]["lanes"] for i in SURVIVORS))]
        assert packed == pack(self.segments, plain), "the sum is not the plaintext sum"
        self.rebuilt = secret
        return packed

    # the verified sum
    def sketch(self, i, sum_hash=None, values=None):
        """Silo i's subset sums under the rows that a sum asks for, signed."""
        sum_hash = sum_hash or self.sum_hash
        if values is None:
            rows = row_sets(H("rows", self.t3, sum_hash), 262)
            values = subset_sums(self.segments, rows, unpack(self.segments, self.packed[i]))
        fields = [self.t3, sum_hash, values_hash(values)]
        return {"silo": i, "values": values, "signature": sign(self.seeds[i], "sketch", self.ctx, i, *fields)}

    def check_sum(self):
        """What every silo checks: the subset sums of S with the masks put back are those of the survivors together."""
        total = unpack(self.segments, self.sum)
        for i in SURVIVORS:
            total = [a + k for a, k in zip(total, keystream(self.self_seeds[i], 262))]
            for j in DROPPED:
                sign_of = 1 if i < j else -1
                stream = keystream(self.pair_seeds[min(i, j), max(i, j)], 262)
                total = [a + sign_of * k for a, k in zip(total, stream)]
        found = subset_sums(self.segments, row_sets(self.rows_key, 262), total)
        rings = [s["ring_bits"] for s in self.segments for _ in range(ROWS)]
        together = [
            sum(column) % (1 << bits) for column, bits in zip(zip(*(k["values"] for k in self.sketches)), rings)
        ]
        assert found == together, "the sketches do not fit the sum"
