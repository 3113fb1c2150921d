"""Forgeries from the masked inputs to the result."""

from forged import *


class Sums(Forger):
    """P3 to P6."""

    def masked(self):
        s = self.s
        packed = s.packed[1]
        one = lambda what, change, rule="SA-04", blamed=1, **more: self.add(
            what, "masked", rule, blamed, change, item=1, **more
        )
        resigned = lambda what, new: one(what, {"/masked/1": {**s.masked_header(1, new), "packed": new}})
        for bit, value in zip(("first", "last"), flipped(packed)):
            one(f"masked input with its {bit} bit flipped", {"/masked/1/packed": value})
        for bit, value in zip(("first", "last"), flipped(s.masked[1]["hash"])):
            one(f"masked header with the {bit} bit of its hash flipped", {"/masked/1/hash": value})
            self.add(
                f"masked header alone with the {bit} bit of its hash flipped",
                "masked_header",
                "SA-04",
                1,
                {"/masked/1/hash": value},
                item=1,
                by_signature=True,
            )
        one("masked input in another silo's name", {"/masked/1/silo": 0}, blamed=0, by_signature=True)
        one("masked input of a silo that dealt no shares", {"/masked/1/silo": 4}, "SA-05", 4)
        resigned("signed masked input of a byte less", packed[:-1])
        resigned("signed masked input of a byte more", packed + b"\0")
        resigned("signed masked input of no bytes", b"")
        last = (257 * 18 + 7) // 8 - 1
        for bit in range(257 * 18 % 8, 8):
            padded = packed[:last] + bytes([packed[last] | 1 << bit]) + packed[last + 1 :]
            resigned(f"signed masked input with padding bit {bit} set", padded)
        plain = pack([{"length": 262, "ring_bits": 32}], unpack(s.segments, packed))
        resigned("signed masked input in four bytes per coordinate", plain)
        for what, bind in {"another attempt's bind": self.other.bind, "T2 for bind": s.t2, "no bind": b""}.items():
            digest = s.masked[1]["hash"]
            signature = sign(s.seeds[1], "masked", s.ctx, 1, bind, digest)
            one(f"masked header signed under {what}", {"/masked/1/signature": signature}, by_signature=True)
        digest = H("sum", packed)
        signature = sign(s.seeds[1], "masked", s.ctx, 1, s.bind, digest)
        one("signed masked input hashed as a sum", {"/masked/1/hash": digest, "/masked/1/signature": signature})

    def survivor_lists(self):
        s, m = self.s, self.s.masked
        for check in ("survivor_list", "closed_list"):
            many = lambda what, rule, blamed, entries, **more: self.add(
                f"{what} ({check})", check, rule, blamed, {"/survivor_list": entries}, **more
            )
            many("survivors below m", "SA-05", None, [m[0], m[1]])
            many("one survivor twice", "SA-05", 1, [m[0], m[1], m[1]])
            many("survivors out of order", "SA-05", 0, [m[1], m[0], m[3]])
            many("more survivors than silos", "SA-12", None, m + [{**m[3], "silo": 4}])
            outsider = "SA-05" if check == "survivor_list" else "SA-04"
            many("a survivor that dealt no shares", outsider, 4, [m[0], m[1], {**m[3], "silo": 4}])
            for bit, value in zip(("first", "last"), flipped(m[3]["hash"])):
                many(
                    f"survivor with the {bit} bit of its hash flipped",
                    "SA-04",
                    3,
                    [m[0], m[1], {**m[3], "hash": value}],
                    by_signature=True,
                )
            many("a survivor in another's name", "SA-04", 2, [m[0], m[1], {**m[3], "silo": 2}], by_signature=True)
            foreign = self.other.masked_header(3, s.packed[3])
            many("a survivor of another attempt", "SA-04", 3, [m[0], m[1], foreign], by_signature=True)
            signature = sign(s.seeds[3], "masked", s.ctx, 3, self.other.bind, m[3]["hash"])
            many(
                "a survivor under another bind",
                "SA-04",
                3,
                [m[0], m[1], {**m[3], "signature": signature}],
                by_signature=True,
            )
        self.add(
            "a latecomer is told another bind", "closed_list", "SA-04", 0, {"/bind": self.other.bind}, by_signature=True
        )
        self.add("own masked input left out", "survivor_list", "SA-04", None, {"/survivor_list": m[1:]}, own=0)
        replaced = s.masked_header(0, s.packed[1])
        self.add(
            "own masked input replaced",
            "survivor_list",
            "SA-04",
            None,
            {"/survivor_list": [replaced, m[1], m[3]]},
            own=0,
        )

    def votes(self):
        s = self.s
        t3 = t3_of(s.bind, [s.masked[i] for i in (0, 1, 2)])
        other_list = [s.vote(i, "commit", t3) for i in SURVIVORS]
        commit = lambda what, blamed, votes, **more: self.add(
            what, "commit_certificate", "SA-08", blamed, {"/commits": votes}, **more
        )
        v = s.commits
        commit("q - 1 COMMIT votes", None, v[:2])
        commit("one COMMIT vote twice", 1, [v[0], v[1], v[1]])
        commit("COMMIT votes out of order", 0, [v[1], v[0], v[2]])
        commit("COMMIT of a dropped silo", 2, [v[0], v[1], s.vote(2, "commit", s.t3)])
        commit("COMMIT of a silo outside the roster", 4, [v[0], v[1], {**v[2], "silo": 4}])
        commit("COMMIT over another survivor list", 3, [v[0], v[1], other_list[2]], by_signature=True)
        commit("COMMIT over bind", 3, [v[0], v[1], s.vote(3, "commit", s.bind)], by_signature=True)
        commit("COMMIT in another survivor's name", 1, [v[0], {**v[2], "silo": 1}, v[2]], by_signature=True)
        commit("ABANDON as COMMIT", 3, [v[0], v[1], s.abandons[3]], by_signature=True)
        self.add(
            "COMMIT votes of another survivor list",
            "commit_certificate",
            "SA-08",
            0,
            {"/commits": other_list},
            by_signature=True,
        )

        a = s.abandons
        abandon = lambda what, blamed, votes, rule="SA-13", **more: self.add(
            what, "abandon_certificate", rule, blamed, {"/abandons": votes}, **more
        )
        abandon("q - 1 ABANDON votes", None, a[:2])
        abandon("one ABANDON vote twice", 1, [a[0], a[1], a[1]])
        abandon("ABANDON votes out of order", 0, [a[1], a[0], a[2]])
        abandon("more ABANDON votes than silos", None, a + [{**a[3], "silo": 4}], "SA-12")
        abandon("ABANDON of a silo outside the roster", 4, [a[0], a[1], {**a[2], "silo": 4}])
        abandon("ABANDON of another attempt", 2, [a[0], a[1], self.other.abandons[2]], by_signature=True)
        abandon("ABANDON in another's name", 3, [a[0], a[1], {**a[2], "silo": 3}], by_signature=True)
        abandon("COMMIT as ABANDON", 3, [a[0], a[1], v[2]], by_signature=True)

        r = s.results
        result = lambda what, blamed, votes, **more: self.add(
            what, "result_certificate", "SA-14", blamed, {"/results": votes}, **more
        )
        result("q - 1 RESULT votes", None, r[:2])
        result("one RESULT vote twice", 1, [r[0], r[1], r[1]])
        result("RESULT votes out of order", 0, [r[1], r[0], r[2]])
        result("RESULT of a silo outside the roster", 4, [r[0], r[1], {**r[2], "silo": 4}])
        result(
            "RESULT with its hashes swapped",
            2,
            [r[0], r[1], s.vote(2, "result", s.next_model, s.result_hash)],
            by_signature=True,
        )
        for field in ("result_hash", "next_model_hash"):
            good = s.result_hash if field == "result_hash" else s.next_model
            for bit, value in zip(("first", "last"), flipped(good)):
                self.add(
                    f"{field} with its {bit} bit flipped",
                    "result_certificate",
                    "SA-14",
                    0,
                    {f"/{field}": value},
                    by_signature=True,
                )
        for place, blamed, check, item, rule in (
            ("/commits/1", 0, "commit_vote", 1, "SA-08"),
            ("/abandons/2", 3, "abandon_vote", 2, "SA-13"),
            ("/results/2", 3, "result_vote", 2, "SA-14"),
        ):
            self.add(
                f"{check} in another's name",
                check,
                rule,
                blamed,
                {place + "/silo": blamed},
                item=item,
                by_signature=True,
            )

    def reveals(self):
        """Silo 1's reply (item 1): altered on the way, or changed and signed by silo 1. Silo 2 is the dropped one."""
        s, good = self.s, self.s.reveals[1]["shares"]
        held = [s.opening(peer, 1) for peer in range(N)]
        b = lambda peer, opening=None: {"peer": peer, "kind": "b", **(opening or held[peer]["b"])}
        of_s = lambda peer, opening=None: {"peer": peer, "kind": "s", **(opening or held[peer]["s"])}
        many = lambda what, rule, shares: self.add(what, "reveal", rule, 1, {"/reveals/1": s.reveal(1, shares)}, item=1)
        for k, kind in ((0, "b"), (2, "s")):
            for part in ("share", "nonce"):
                for bit, value in zip(("first", "last"), flipped(good[k][part])):
                    self.add(
                        f"revealed {kind} {part} with its {bit} bit flipped",
                        "reveal",
                        "SA-09",
                        1,
                        {f"/reveals/1/shares/{k}/{part}": value},
                        item=1,
                        by_signature=True,
                    )
                    wrong = [*good[:k], {**good[k], part: value}, *good[k + 1 :]]
                    many(f"signed {kind} {part} with its {bit} bit flipped", "SA-09", wrong)
        self.add(
            "a reply cut short on the way",
            "reveal",
            "SA-09",
            1,
            {"/reveals/1/shares": good[:3]},
            item=1,
            by_signature=True,
        )
        self.add(
            "a share's kind changed on the way",
            "reveal",
            "SA-09",
            1,
            {"/reveals/1/shares/2/kind": "b"},
            item=1,
            by_signature=True,
        )
        self.add(
            "a share's dealer changed on the way",
            "reveal",
            "SA-09",
            1,
            {"/reveals/1/shares/3/peer": 4},
            item=1,
            by_signature=True,
        )
        self.add(
            "a reply signed for another list",
            "reveal",
            "SA-09",
            1,
            {"/reveals/1": s.reveal(1, t3=t3_of(s.bind, [s.masked[i] for i in (0, 1, 2)]))},
            item=1,
            by_signature=True,
        )
        many("the b-share of a dropped silo", "SA-06", [good[0], good[1], b(2), good[3]])
        many("the s-share of a survivor", "SA-06", [of_s(0), *good[1:]])
        many("its own s-share", "SA-06", [good[0], of_s(1), *good[2:]])
        many("both shares of one survivor", "SA-06", [b(0), of_s(0), *good[2:]])
        many("both shares of the dropped silo", "SA-06", [good[0], b(2), of_s(2), good[3]])
        many("a b-share passed off as the s-share", "SA-09", [good[0], good[1], of_s(2, held[2]["b"]), good[3]])
        many("an s-share passed off as the b-share", "SA-09", [b(0, held[0]["s"]), *good[1:]])
        many("another holder's b-share", "SA-09", [b(0, s.opening(0, 3)["b"]), *good[1:]])
        many("another holder's s-share", "SA-09", [good[0], good[1], of_s(2, s.opening(2, 3)["s"]), good[3]])
        many("another dealer's b-share", "SA-09", [b(0, held[3]["b"]), *good[1:]])
        foreign = self.other.opening(0, 1)["b"]
        many("a share of another attempt", "SA-09", [b(0, foreign), *good[1:]])
        share = int.from_bytes(good[0]["share"], "little")
        many(
            "a share in another encoding, share + l",
            "SA-09",
            [b(0, {**held[0]["b"], "share": raw(share + ORDER)}), *good[1:]],
        )
        many("one share twice", "SA-06", [good[0], good[0], *good[2:]])
        many("shares out of order", "SA-06", [good[1], good[0], *good[2:]])
        many("more shares than dealers", "SA-12", [*good, b(4, held[3]["b"])])
        many("a share of a silo that dealt none", "SA-06", [*good[:3], b(4, held[3]["b"])])
        self.add(
            "a reply in another survivor's name",
            "reveal",
            "SA-09",
            0,
            {"/reveals/1/silo": 0},
            item=1,
            by_signature=True,
        )
        self.add(
            "another survivor's shares in its own name", "reveal", "SA-09", 0, {"/reveals/1": s.reveal(0, good)}, item=1
        )
        self.add("a reply of the dropped silo", "reveal", "SA-05", 2, {"/reveals/1": s.reveal(2)}, item=1)
        self.add("a reply of a silo outside the roster", "reveal", "SA-05", 4, {"/reveals/1/silo": 4}, item=1)

    def recoveries(self):
        """A dealer signs what is off its own polynomial or commitment; with exactly t replies nothing else is left."""
        s = self.s

        def dealt(what, dealer, **changes):
            dealing = s.deal(dealer, **changes)
            dealings = [dealing if i == dealer else d for i, d in enumerate(s.dealings)]
            bind = H("bind", t2_of(s.t1, [d["header"] for d in dealings]))
            entries = []
            for i in SURVIVORS:
                digest = s.masked[i]["hash"]
                entries.append(
                    {"silo": i, "hash": digest, "signature": sign(s.seeds[i], "masked", s.ctx, i, bind, digest)}
                )
            reveals = []
            for reveal in s.reveals:
                shares = list(reveal["shares"])
                if "openings" in changes:
                    kind = shares[dealer]["kind"]
                    shares[dealer] = {"peer": dealer, "kind": kind, **changes["openings"][reveal["silo"]][kind]}
                reveals.append(s.reveal(reveal["silo"], shares, t3_of(bind, entries)))
            change = {f"/dealings/{dealer}": dealing, "/survivor_list": entries, "/reveals": reveals}
            self.add(what, "recovery", "SA-09", dealer, change)

        for dealer, kind in ((1, "b"), (2, "s")):
            name = "b" if kind == "b" else "sigma"

            def spoilt(change, holder=0):
                openings = s.shares(dealer)
                share = int.from_bytes(openings[holder][kind]["share"], "little")
                openings[holder][kind]["share"] = change(share)
                return openings

            dealt(
                f"a share of {name} that is not canonical: share + l", dealer, openings=spoilt(lambda y: raw(y + ORDER))
            )
            dealt(f"a share of {name} that is not canonical: all ones", dealer, openings=spoilt(lambda y: b"\xff" * 32))
            dealt(f"a share of {name} off the polynomial", dealer, openings=spoilt(lambda y: raw((y + 1) % ORDER)))
            dealt(f"a share of {name} of zero", dealer, openings=spoilt(lambda y: bytes(32), 3))
            shifted = s.shares(dealer)
            for j in range(N):
                shifted[j][kind]["share"] = s.shares(dealer)[(j + 1) % N][kind]["share"]
            dealt(f"shares of {name} at x = i + 2", dealer, openings=shifted)
        dealt("a commitment to another b", 1, b=(s.secrets[1]["b"] + 1) % ORDER)
        dealt("a commitment to b of another dealer", 1, b=s.secrets[0]["b"])
        self.add("t - 1 replies", "recovery", "SA-09", None, {"/reveals": s.reveals[: T - 1]})

    # the verified sum
    def sketches(self):
        """Silo 3's sketch (item 2), altered on the way, or changed and signed by silo 3."""
        s, good = self.s, self.s.sketches[2]["values"]
        one = lambda what, change, blamed=3, **more: self.add(what, "sketch", "SA-16", blamed, change, item=2, **more)
        signed = lambda what, values: one(what, {"/sketches/2": s.sketch(3, values=values)})
        one("a subset sum of the first segment flipped", {"/sketches/2/values/0": good[0] ^ 1}, by_signature=True)
        one(
            "a subset sum of the last segment flipped",
            {"/sketches/2/values/255": good[255] ^ 1 << 31},
            by_signature=True,
        )
        one("a sketch in another survivor's name", {"/sketches/2/silo": 1}, 1, by_signature=True)
        one("a sketch of the dropped silo", {"/sketches/2": s.sketch(2)}, 2)
        one("a sketch of a silo outside the roster", {"/sketches/2/silo": 4}, 4)
        signed("a sketch of a value less", good[:-1])
        signed("a sketch of a value more", [*good, 0])
        signed("a sketch of no values", [])
        signed("a sketch of one segment", good[:128])
        signed("a subset sum outside its ring", [good[0] | 1 << 18, *good[1:]])
        one("a sketch for another sum", {"/sketches/2": s.sketch(3, sum_hash=H("sum", b"another"))}, by_signature=True)
        foreign = self.other.sketch(3, sum_hash=s.sum_hash, values=good)
        one("a sketch of another attempt", {"/sketches/2": foreign}, by_signature=True)

    def sums(self):
        """A false S, for which the coordinator has asked honest silos for sketches; then proofs that prove nothing."""
        s = self.s
        lanes = unpack(s.segments, s.sum)

        def claimed(what, packed, blamed=None):
            sketches = [s.sketch(i, sum_hash=H("sum", packed)) for i in SURVIVORS]
            self.add(what, "sum", "SA-16", blamed, {"/sum/packed": packed, "/sketches": sketches})

        altered = lambda k, by: pack(s.segments, [*lanes[:k], lanes[k] + by, *lanes[k + 1 :]])
        claimed("S with one step more in the first coordinate", altered(0, 1))
        claimed("S with one step less in the last value", altered(256, -1))
        claimed("S with half the ring more in one coordinate", altered(100, 1 << 17))
        claimed("S with a survivor more in the canary", altered(257, 1))
        claimed("S with the last count altered", altered(261, 1))
        claimed("S with two coordinates swapped", pack(s.segments, [*lanes[:20], lanes[21], lanes[20], *lanes[22:]]))
        claimed("S of zeros", bytes(len(s.sum)))
        claimed("S of another set: silo 0 twice, silo 1 not", self.sum_over([0, 0, 3]))
        claimed("S with silo 1's input left out", self.sum_over([0, 3]))
        claimed(
            "S with a self mask left in",
            pack(s.segments, [x + k for x, k in zip(lanes, keystream(s.self_seeds[1], 262))]),
        )
        claimed(
            "S with a pair mask left in",
            pack(s.segments, [x + k for x, k in zip(lanes, keystream(s.pair_seeds[0, 2], 262))]),
        )
        last = (257 * 18 + 7) // 8 - 1
        claimed("S with a padding bit set", s.sum[:last] + bytes([s.sum[last] | 0x80]) + s.sum[last + 1 :])
        claimed("S of a byte less", s.sum[:-1])

        proof = lambda what, rule, blamed, change, **more: self.add(what, "sum", rule, blamed, change, **more)
        k = s.sketches
        proof(
            "a false S with the sketches of the true one", "SA-16", 0, {"/sum/packed": altered(0, 1)}, by_signature=True
        )
        proof("a survivor without sketch", "SA-16", None, {"/sketches": k[:2]})
        proof("one sketch twice", "SA-16", None, {"/sketches": [k[0], k[1], k[1]]})
        proof("sketches out of order", "SA-16", 0, {"/sketches": [k[1], k[0], k[2]]})
        wrong = [k[0], k[1], s.sketch(3, values=[k[2]["values"][0] ^ 1, *k[2]["values"][1:]])]
        proof("a survivor that signs wrong subset sums", "SA-16", None, {"/sketches": wrong})
        shown = [{"silo": 3, "packed": s.packed[3]}]
        proof("a sketch and the masked input of one survivor", "SA-16", None, {"/opened": shown})
        proof(
            "another survivor's masked input in place of a sketch",
            "SA-16",
            3,
            {"/sketches": k[:2], "/opened": [{"silo": 3, "packed": s.packed[1]}]},
        )
        for bit, value in zip(("first", "last"), flipped(s.packed[3])):
            proof(
                f"a shown masked input with its {bit} bit flipped",
                "SA-16",
                3,
                {"/sketches": k[:2], "/opened": [{"silo": 3, "packed": value}]},
            )
        proof(
            "a shown masked input of a byte less",
            "SA-16",
            3,
            {"/sketches": k[:2], "/opened": [{"silo": 3, "packed": s.packed[3][:-1]}]},
        )
        proof("the masked input of the dropped silo", "SA-16", None, {"/opened": [{"silo": 2, "packed": s.packed[2]}]})
        secrets = [raw(s.rebuilt[i]) for i in range(N)]
        for i in range(N):
            kind = "b" if i in SURVIVORS else "sigma"
            proof(f"another {kind} of silo {i}", "SA-09", i, {f"/rebuilt/{i}": raw((s.rebuilt[i] + 1) % ORDER)})
        proof("a secret that is not canonical: b + l", "SA-09", 1, {"/rebuilt/1": raw(s.rebuilt[1] + ORDER)})
        proof("sigma of a survivor", "SA-09", 1, {"/rebuilt/1": raw(s.secrets[1]["sigma"])})
        proof("b of the dropped silo", "SA-09", 2, {"/rebuilt/2": raw(s.secrets[2]["b"])})
        proof("a secret too few", "SA-09", None, {"/rebuilt": secrets[:3]})
        proof("a secret too many", "SA-09", None, {"/rebuilt": [*secrets, secrets[0]]})
        proof("secrets swapped", "SA-09", 0, {"/rebuilt": [secrets[1], secrets[0], *secrets[2:]]})

    def limits(self):
        """What passes, and so is not claimed: the verified sum binds the coordinator while every survivor is honest."""
        s = self.s
        lanes = unpack(s.segments, s.sum)
        wanted = [123_456, *lanes[1:256], 99, *lanes[257:]]
        packed = pack(s.segments, wanted)
        moved = [a + b - c for a, b, c in zip(unpack(s.segments, s.packed[3]), wanted, lanes)]
        values = subset_sums(s.segments, row_sets(H("rows", s.t3, H("sum", packed)), len(moved)), moved)
        honest = [s.sketch(i, sum_hash=H("sum", packed)) for i in (0, 1)]
        change = {"/sum/packed": packed, "/sketches": [*honest, s.sketch(3, H("sum", packed), values)]}
        what = "S of the coordinator's choice, with a survivor whose sketch is of another masked input than it sent"
        return [{"what": what, "check": "sum", "set": change}]

    def sum_over(self, counted):
        """What the coordinator gets that adds these masked inputs and takes the right masks off."""
        s = self.s
        real = [sum(column) for column in zip(*(unpack(s.segments, s.packed[i]) for i in SURVIVORS))]
        masks = [a - b for a, b in zip(real, unpack(s.segments, s.sum))]
        total = [sum(column) for column in zip(*(unpack(s.segments, s.packed[i]) for i in counted))]
        return pack(s.segments, [a - m for a, m in zip(total, masks)])
