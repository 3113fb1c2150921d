"""Every signature of the session forged in every way, and values that a slip in a derivation gives."""

from forged import *

SIGNING = ["advert", "share-header", "complaint", "masked", "commit", "abandon", "reveal", "sketch", "result"]


class Signatures(Forger):
    """All phases."""

    def signed_messages(self):
        """Every signed message: check, place, label, fields, signer, rule, and more for the case."""
        s = self.s
        header, complaint = s.dealings[1]["header"], s.complaint(0, 1)
        about = [s.t1, sid(1), header["root"], complaint["ciphertext"]]
        masked = lambda i: [s.bind, s.masked[i]["hash"]]
        sketch = lambda k: [s.t3, s.sum_hash, values_hash(s.sketches[k]["values"])]
        result = [s.result_hash, s.next_model]
        return [
            ("advert", "/adverts/2", "advert", advert_fields(s.adverts[2]), 2, "SA-01", {"item": 2}),
            ("adverts", "/adverts/3", "advert", advert_fields(s.adverts[3]), 3, "SA-01", {}),
            (
                "header",
                "/dealings/1/header",
                "share-header",
                [s.t1, header["root"], header["commitment_b"]],
                1,
                "SA-03",
                {"item": 1},
            ),
            (
                "dealing",
                "/dealings/1/header",
                "share-header",
                [s.t1, header["root"], header["commitment_b"]],
                1,
                "SA-03",
                {"item": 1},
            ),
            ("complaint", "/complaint", "complaint", about, 0, "SA-03", {}),
            ("masked_header", "/masked/1", "masked", masked(1), 1, "SA-04", {"item": 1}),
            ("masked", "/masked/3", "masked", masked(3), 3, "SA-04", {"item": 3}),
            ("survivor_list", "/survivor_list/2", "masked", masked(3), 3, "SA-04", {}),
            ("closed_list", "/survivor_list/0", "masked", masked(0), 0, "SA-04", {}),
            ("commit_vote", "/commits/1", "commit", [s.t3], 1, "SA-08", {"item": 1}),
            ("commit_certificate", "/commits/2", "commit", [s.t3], 3, "SA-08", {}),
            ("abandon_vote", "/abandons/2", "abandon", [], 2, "SA-13", {"item": 2}),
            ("abandon_certificate", "/abandons/3", "abandon", [], 3, "SA-13", {}),
            ("reveal", "/reveals/1", "reveal", [s.t3, shares_hash(s.reveals[1]["shares"])], 1, "SA-09", {"item": 1}),
            ("sketch", "/sketches/2", "sketch", sketch(2), 3, "SA-16", {"item": 2}),
            ("sum", "/sketches/0", "sketch", sketch(0), 0, "SA-16", {}),
            ("result_vote", "/results/2", "result", result, 2, "SA-14", {"item": 2}),
            ("result_certificate", "/results/1", "result", result, 1, "SA-14", {}),
        ]

    def signatures(self):
        s = self.s
        for check, place, label, fields, signer, rule, more in self.signed_messages():
            good = sign(s.seeds[signer], label, s.ctx, signer, *fields)

            def forged(what, signature, **extra):
                change = {place + "/signature": signature}
                self.add(f"{label}: {what}", check, rule, signer, change, by_signature=True, **more, **extra)

            forged("signature with a bit of R flipped", flipped(good)[0])
            forged("signature with a bit of S flipped", flipped(good)[1])
            forged("signature of zeros", bytes(64))
            forged(
                "S replaced by S + l: the same scalar, malleable",
                good[:32] + little(int.from_bytes(good[32:], "little") + ORDER),
            )
            for wrong in SIGNING:
                if wrong != label:
                    forged(f"signed with label {wrong}", sign(s.seeds[signer], wrong, s.ctx, signer, *fields))
            forged("signed for another attempt", sign(s.seeds[signer], label, self.other.ctx, signer, *fields))
            stranger = (signer + 1) % N
            forged("signed with another silo's key", sign(s.seeds[stranger], label, s.ctx, signer, *fields))
            forged("signed in another silo's name", sign(s.seeds[signer], label, s.ctx, stranger, *fields))
            forged("signed with a field more", sign(s.seeds[signer], label, s.ctx, signer, *fields, b""))
            message = H(label, s.ctx, sid(signer), *fields)
            short = small_order_r(s.seeds[signer], message)
            claim = {"signer": signer, "message": message, "signature": short}
            forged("R of small order, where the equation holds", short, plain_accepts=claim)
            if fields:
                forged("signed without its last field", sign(s.seeds[signer], label, s.ctx, signer, *fields[:-1]))
                joined = b"".join(fields)
                if len(fields) > 1:
                    forged("signed over its fields as one", sign(s.seeds[signer], label, s.ctx, signer, joined))

    # slips
    def confusions(self):
        """Values that a slip in the derivation gives: `at` of session.json is another one."""
        s = self.s
        low, high = 0, 1
        keys = [a["mask_key"] for a in s.adverts]
        shared = x25519(s.secrets[low]["mask_secret"], keys[high])
        right = [sid(low), keys[low], sid(high), keys[high]]
        b = raw(s.secrets[0]["b"])
        sigma = raw(s.secrets[0]["sigma"])
        seed = s.pair_seeds[low, high]
        assert seed == hkdf(shared, s.bind, "pair-seed", *right)
        big_endian = [int.from_bytes(w.to_bytes(4, "little"), "big") for w in keystream(seed, 8)]
        unclamped = hkdf(sigma, s.ctx, "mask-secret")
        entries = [
            ("SA-14", "pair seed with T2 as salt", "/pair_seeds/0/seed", hkdf(shared, s.t2, "pair-seed", *right)),
            ("SA-14", "pair seed with ctx as salt", "/pair_seeds/0/seed", hkdf(shared, s.ctx, "pair-seed", *right)),
            (
                "SA-14",
                "pair seed under another attempt's bind",
                "/pair_seeds/0/seed",
                hkdf(shared, self.other.bind, "pair-seed", *right),
            ),
            (
                "SA-15",
                "pair seed with the higher id first",
                "/pair_seeds/0/seed",
                hkdf(shared, s.bind, "pair-seed", *right[2:], *right[:2]),
            ),
            (
                "SA-15",
                "pair seed with label share-key",
                "/pair_seeds/0/seed",
                hkdf(shared, s.bind, "share-key", *right),
            ),
            ("SA-15", "pair seed that is the bare exchange", "/pair_seeds/0/seed", shared),
            (
                "SA-15",
                "pair seed of channel keys",
                "/pair_seeds/0/seed",
                hkdf(x25519(s.secrets[0]["channel"], s.adverts[1]["channel_key"]), s.bind, "pair-seed", *right),
            ),
            ("SA-14", "self seed with T2 as salt", "/self_seeds/0/seed", hkdf(b, s.t2, "self-seed")),
            ("SA-15", "self seed of sigma", "/self_seeds/0/seed", hkdf(sigma, s.bind, "self-seed")),
            ("SA-15", "self seed with label pair-seed", "/self_seeds/0/seed", hkdf(b, s.bind, "pair-seed")),
            ("SA-15", "self seed that is b", "/self_seeds/0/seed", b),
            (
                "SA-02",
                "mask key with T1 as salt",
                "/adverts/0/mask_key",
                x25519_public(hkdf(sigma, s.t1, "mask-secret")),
            ),
            ("SA-02", "mask key of b", "/adverts/0/mask_key", x25519_public(hkdf(b, s.ctx, "mask-secret"))),
            ("SA-09", "mask secret without clamping", "/secrets/0/mask_secret", unclamped),
            ("SA-14", "mask words big-endian", "/pair_seeds/0/first_words", big_endian),
            ("SA-14", "mask words from counter 1", "/pair_seeds/0/first_words", keystream(seed, 8, 4)),
            (
                "SA-02",
                "T1 without the number of adverts",
                "/t1",
                H("t1", s.ctx, *(f for a in s.adverts for f in (sid(a["silo"]), *advert_fields(a)))),
            ),
            (
                "SA-02",
                "T1 over signatures too",
                "/t1",
                H("t1", s.ctx, N, *(f for a in s.adverts for f in (sid(a["silo"]), *advert_fields(a), a["signature"]))),
            ),
            ("SA-14", "bind that is T2", "/bind", s.t2),
            ("SA-05", "T3 over T2", "/t3", t3_of(s.t2, s.list)),
            ("SA-05", "T3 over all of U2", "/t3", t3_of(s.bind, s.masked)),
            ("SA-16", "rows key without T3", "/rows_key", H("rows", s.sum_hash)),
            ("SA-16", "rows key over S itself", "/rows_key", H("rows", s.t3, s.sum)),
            (
                "SA-16",
                "subset sums of each segment from its own first row bits",
                "/sketches/0/values",
                self.rows_per_segment(0),
            ),
            ("SA-14", "result hash without the next model", "/result_hash", H("result-hash", s.t3, s.sum_hash)),
            ("SA-14", "result hash over S itself", "/result_hash", H("result-hash", s.t3, s.sum, s.next_model)),
            ("SA-09", "H(b) without session and dealer", "/dealings/0/header/commitment_b", H("self-commitment", b)),
            ("SA-04", "masked input with all signs the other way", "/masked/1/packed", self.wrong_signs(1)),
            (
                "SA-04",
                "masked input with bits from the top",
                "/masked/1/packed",
                pack_from_the_top(s.segments, unpack(s.segments, s.packed[1])),
            ),
        ]
        return [{"what": what, "rule": rule, "at": at, "value": value} for rule, what, at, value in entries]

    def rows_per_segment(self, i):
        s, values, start = self.s, [], 0
        for segment in s.segments:
            lanes = unpack(s.segments, s.packed[i])[start : start + segment["length"]]
            values += subset_sums([segment], row_sets(s.rows_key, segment["length"]), lanes)
            start += segment["length"]
        return values

    def wrong_signs(self, i):
        s = self.s
        lanes = [x + k for x, k in zip(s.inputs[i]["lanes"], keystream(s.self_seeds[i], 262))]
        for (low, high), seed in s.pair_seeds.items():
            if i in (low, high):
                lanes = [x + (-k if i == low else k) for x, k in zip(lanes, keystream(seed, 262))]
        return pack(s.segments, lanes)


def pack_from_the_top(segments, lanes):
    out, place = b"", 0
    for s in segments:
        bits, length = s["ring_bits"], s["length"]
        size = (length * bits + 7) // 8
        number = sum(lanes[place + k] << (size * 8 - (k + 1) * bits) for k in range(length))
        out, place = out + number.to_bytes(size, "big"), place + length
    return out
