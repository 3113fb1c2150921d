"""Forgeries from the roster to the complaints of P2."""

import hashlib

from forged import *


class Setup(Forger):
    """P0 to P2."""

    def rosters(self):
        s = self.s
        silo = lambda k: f"/roster/silos/{k}"
        refuse = lambda what, change: self.add(what, "roster", "SA-01", None, change)
        refuse("a name twice", {silo(3) + "/name": NAMES[0]})
        refuse("a key twice", {silo(3) + "/identity": s.identities[0]})
        refuse("a name with a capital", {silo(1) + "/name": "East"})
        refuse("an empty name", {silo(1) + "/name": ""})
        refuse("a name of 64 letters", {silo(1) + "/name": "e" * 64})
        refuse("a federation id with a space", {"/roster/federation_id": "two words"})
        refuse(
            "two silos", {"/roster/silos": [{"name": n, "identity": k} for n, k in list(zip(NAMES, s.identities))[:2]]}
        )
        for what, key in small_order_identities():
            refuse(f"an identity key of small order: {what}", {silo(2) + "/identity": key})
        refuse("an identity key that is no point", {silo(2) + "/identity": little(2)})
        for y in (P + 3, P + 4):
            refuse(f"an identity key that is not canonical: y = p + {y - P}", {silo(2) + "/identity": little(y)})

    def parameters(self):
        segment = lambda k, field: f"/params/segments/{k}/{field}"
        refuse = lambda what, rule, change: self.add(what, "params", rule, None, change)
        refuse("a ring of a bit less than four silos fill", "SA-10", {segment(0, "ring_bits"): 17})
        refuse("a ring of no bits", "SA-10", {segment(0, "ring_bits"): 0})
        refuse("a ring of 33 bits", "SA-10", {segment(0, "ring_bits"): 33})
        refuse("values of a bit more in the same ring", "SA-10", {segment(0, "value_bits"): 17})
        refuse("values of 25 bits", "SA-10", {segment(0, "value_bits"): 25})
        refuse("a bound of zero", "SA-10", {segment(0, "bound"): 0.0})
        refuse("a negative bound", "SA-10", {segment(0, "bound"): -0.5})
        refuse("counts that four silos overflow", "SA-10", {segment(1, "max_value"): (2**32 - 1) // N + 1})
        refuse("a segment without coordinates", "SA-10", {segment(1, "length"): 0})
        refuse("two segments of one name", "SA-10", {segment(1, "name"): "lora_B"})
        refuse("more coordinates than a session admits", "SA-12", {segment(0, "length"): 2**28})
        refuse("no segment", "SA-12", {"/params/segments": []})
        for name, value in (
            ("t", T - 1),
            ("t", T + 1),
            ("q", Q - 1),
            ("m", M - 1),
            ("m", N + 1),
            ("c", N - 1),
            ("n", N + 1),
        ):
            refuse(f"quorums that are not derived: {name} = {value}", "SA-08", {f"/params/quorum/{name}": value})

    def contexts(self):
        """Each differs from the silo's own in one field, which it names; its digest is another."""
        words = {
            "federation_id": "federation id",
            "roster_hash": "roster",
            "roster_version": "roster version",
            "job_digest": "job",
            "round": "round",
            "attempt": "attempt",
            "params_hash": "parameters",
            "previous_result_hash": "previous result",
            "model_hash": "global adapter",
        }
        for field, says in words.items():
            value = self.s.context[field]
            new = "vectors2" if isinstance(value, str) else flipped(value)[0]
            digest = ctx_of({**self.s.context, field: new})
            self.add(f"another {says}", "context", "SA-02", None, {f"/context/{field}": new}, says=says, digest=digest)

    # P1
    def adverts(self):
        s = self.s
        one = lambda what, advert, blamed=2, **more: self.add(
            what, "advert", "SA-01", blamed, {"/adverts/2": advert}, item=2, **more
        )
        for field in ("channel_key", "mask_key", "journal_length", "journal_head"):
            for bit, value in zip(("first", "last"), flipped(s.adverts[2][field])):
                one(f"advert with the {bit} bit of {field} flipped", {**s.adverts[2], field: value}, by_signature=True)
        counts = not s.adverts[2]["counts"]
        one("advert with counts flipped", {**s.adverts[2], "counts": counts}, by_signature=True)
        one("advert in another silo's name", {**s.adverts[2], "silo": 3}, 3, by_signature=True)
        one("advert of a silo outside the roster", {**s.adverts[2], "silo": 4}, 4)
        one("advert of another attempt", self.other.adverts[2], by_signature=True)
        for field in ("channel_key", "mask_key"):
            for what, key in low_order_exchange_keys():
                one(f"{field} of low order: {what}", s.advert(2, **{field: key}))
            for what, key in (
                ("u = p + 9", little(P + 9)),
                ("its top bit set", little(int.from_bytes(s.adverts[2][field], "little") | 1 << 255)),
            ):
                one(f"{field} not canonical: {what}", s.advert(2, **{field: key}))

        many = lambda what, rule, blamed, adverts, **more: self.add(
            what, "adverts", rule, blamed, {"/adverts": adverts}, **more
        )
        a = s.adverts
        many("a silo's two keys are one", "SA-01", 2, a[:2] + [s.advert(2, mask_key=a[2]["channel_key"])] + a[3:])
        many(
            "a channel key of another silo", "SA-01", 2, a[:2] + [s.advert(2, channel_key=a[0]["channel_key"])] + a[3:]
        )
        many("a mask key of another silo", "SA-01", 2, a[:2] + [s.advert(2, mask_key=a[0]["mask_key"])] + a[3:])
        many(
            "another silo's mask key as channel key",
            "SA-01",
            2,
            a[:2] + [s.advert(2, channel_key=a[0]["mask_key"])] + a[3:],
        )
        many("one advert twice", "SA-05", 1, [a[0], a[1], a[1], a[3]])
        many("adverts out of order", "SA-05", 1, [a[0], a[2], a[1], a[3]])
        many("adverts below m", "SA-05", None, a[:2])
        many("more adverts than the roster has silos", "SA-12", None, a + [s.advert(3)])
        many("own advert missing", "SA-01", None, a[1:], own=0)
        many("own advert replaced by one signed before", "SA-01", None, [s.advert(0, journal_length=5)] + a[1:], own=0)
        seen = {"silo": 2, "length": 14, "head": hashlib.sha256(b"journal later").digest()}
        self.add("a journal that went backwards", "adverts", "SA-07", 2, {}, known=seen)
        self.add(
            "a journal of the same length with another head", "adverts", "SA-07", 2, {}, known={**seen, "length": 13}
        )

    # P2
    def headers(self):
        s = self.s
        h = [d["header"] for d in s.dealings]
        for field in ("root", "commitment_b"):
            for bit, value in zip(("first", "last"), flipped(h[1][field])):
                self.add(
                    f"header with the {bit} bit of {field} flipped",
                    "header",
                    "SA-03",
                    1,
                    {f"/dealings/1/header/{field}": value},
                    item=1,
                    by_signature=True,
                )
        self.add(
            "header in another silo's name",
            "header",
            "SA-03",
            0,
            {"/dealings/1/header/silo": 0},
            item=1,
            by_signature=True,
        )
        self.add("header of a silo without advert", "header", "SA-05", 4, {"/dealings/1/header/silo": 4}, item=1)
        self.add(
            "header signed under another T1",
            "header",
            "SA-03",
            1,
            {"/dealings/1/header": self.other.dealings[1]["header"]},
            item=1,
            by_signature=True,
        )

        def many(what, rule, blamed, headers, **more):
            self.add(
                what, "headers", rule, blamed, {"/dealings": [{"header": x, "pairs": []} for x in headers]}, **more
            )

        many("one header twice", "SA-05", 1, [h[0], h[1], h[1], h[3]])
        many("headers out of order", "SA-05", 1, [h[0], h[2], h[1], h[3]])
        many("headers below m", "SA-05", None, h[:2])
        many("own header missing", "SA-05", None, h[1:], own=0)
        replaced = s.header(0, H("node"), h[0]["commitment_b"])
        many("own header replaced by one of another root", "SA-05", None, [replaced] + h[1:], own=0)

    def dealings(self):
        s = self.s
        pair = "/dealings/1/pairs/2"
        good = s.dealings[1]["pairs"]
        one = lambda what, change, rule="SA-03": self.add(what, "dealing", rule, 1, change, item=1)
        for field, value in (
            ("leaves/b", good[2]["leaves"]["b"]),
            ("leaves/s", good[2]["leaves"]["s"]),
            ("sealed", good[2]["sealed"]),
        ):
            for bit, new in zip(("first", "last"), flipped(value)):
                one(f"dealing with the {bit} bit of {field} flipped", {f"{pair}/{field}": new})
        one("two pairs of a dealing swapped", {"/dealings/1/pairs": [good[0], good[1], good[3], good[2]]})
        one(
            "the leaves of a pair swapped",
            {pair + "/leaves": {"b": good[2]["leaves"]["s"], "s": good[2]["leaves"]["b"]}},
        )
        one("a pair missing", {"/dealings/1/pairs": good[:3]})
        one("a pair too many", {"/dealings/1/pairs": good + [good[3]]})
        one("a bundle of a byte less", {pair + "/sealed": good[2]["sealed"][:-1]}, "SA-12")
        one("a bundle of a byte more", {pair + "/sealed": good[2]["sealed"] + b"\0"}, "SA-12")
        one("no bundle for a peer", {pair + "/sealed": b""}, "SA-12")
        one("a bundle for the dealer itself", {"/dealings/1/pairs/1/sealed": bytes(144)}, "SA-12")
        hashes = pair_hashes(good)
        commitment = s.dealings[1]["header"]["commitment_b"]
        chain = H("node", H("node", H("node", hashes[0], hashes[1]), hashes[2]), hashes[3])
        one("a root over a tree of another shape", {"/dealings/1/header": s.header(1, chain, commitment)})
        plain = [hashlib.sha256(h).digest() for h in hashes]
        one("a root over hashes without labels", {"/dealings/1/header": s.header(1, merkle_root(plain), commitment)})

    def deliveries(self):
        """On the way from dealer 1 to silo 0 (item 3 of the deliveries): nobody is to blame but the coordinator."""
        s, place = self.s, "/deliveries/3"
        good = s.delivery(1, 0)
        altered = lambda what, change, blamed=1, rule="SA-03": self.add(
            what, "delivery", rule, blamed, change, item=3, fault="not-as-signed"
        )
        fields = [("leaves/b", good["leaves"]["b"]), ("leaves/s", good["leaves"]["s"]), ("sealed", good["sealed"])]
        fields += [(f"path/{k}", node) for k, node in enumerate(good["path"])]
        for field, value in fields:
            for bit, new in zip(("first", "last"), flipped(value)):
                altered(f"delivery with the {bit} bit of {field} flipped", {f"{place}/{field}": new})
        altered("delivery in another dealer's name", {place + "/dealer": 2}, 2)
        altered("delivery for another silo", {place + "/recipient": 3})
        altered("another silo's delivery", {place: {**s.delivery(1, 3), "recipient": 0}})
        altered("another dealer's delivery", {place: {**s.delivery(2, 0), "dealer": 1}})
        altered("delivery with its path upside down", {place + "/path": good["path"][::-1]})
        altered("delivery with a path too long", {place + "/path": good["path"] + [s.dealings[1]["header"]["root"]]})
        altered("delivery with a path too short", {place + "/path": good["path"][:1]})
        altered("delivery with a bundle of a byte less", {place + "/sealed": good["sealed"][:-1]}, rule="SA-12")
        altered("delivery of another attempt", {place: self.other.delivery(1, 0)})

    def bundles(self):
        """Dealer 1 signs a bundle for silo 0 that it made wrongly."""
        s, t1 = self.s, self.s.t1
        opening, keys = s.shares(1)[0], [a["channel_key"] for a in s.adverts]
        shared = x25519(s.secrets[1]["channel"], keys[0])

        def dealt(what, openings=None, leaves=None, bundle=None):
            dealing = s.deal(1, openings, {0: leaves} if leaves else {}, {0: bundle} if bundle else {})
            change = {"/dealings/1/header": dealing["header"], "/dealings/1/pairs/0": dealing["pairs"][0]}
            self.add(what, "bundle", "SA-03", 1, change, item=1, recipient=0, fault="dealer")

        right = [sid(1), keys[1], sid(0), keys[0]]
        assert hkdf(shared, t1, "share-key", *right) == s.share_key(1, 0)
        masks = [a["mask_key"] for a in s.adverts]
        mask_shared = x25519(s.secrets[1]["mask_secret"], masks[0])
        for what, key in {
            "with ctx as salt": hkdf(shared, s.ctx, "share-key", *right),
            "with T2 as salt": hkdf(shared, s.t2, "share-key", *right),
            "with T1 of another attempt as salt": hkdf(shared, self.other.t1, "share-key", *right),
            "without salt": hkdf(shared, bytes(32), "share-key", *right),
            "with ids sorted in the info": hkdf(shared, t1, "share-key", sid(0), keys[0], sid(1), keys[1]),
            "with ids swapped in the info": hkdf(shared, t1, "share-key", sid(0), keys[1], sid(1), keys[0]),
            "with keys but no ids in the info": hkdf(shared, t1, "share-key", keys[1], keys[0]),
            "with ids but no keys in the info": hkdf(shared, t1, "share-key", sid(1), sid(0)),
            "with label pair-seed": hkdf(shared, t1, "pair-seed", *right),
            "with ids big-endian": hkdf(shared, t1, "share-key", sid(1)[::-1], keys[1], sid(0), keys[0]),
            "from the mask keys": hkdf(mask_shared, t1, "share-key", *right),
            "for another recipient": s.share_key(1, 2),
            "that is the bare exchange": shared,
        }.items():
            dealt(f"bundle sealed with a key {what}", bundle=s.seal(1, 0, opening, key=key))
        for what, aad in {
            "without associated data": b"\0",
            "bound to the other direction": H("bundle-aad", t1, sid(0), sid(1)),
            "bound to another recipient": H("bundle-aad", t1, sid(1), sid(2)),
            "bound to another attempt": H("bundle-aad", self.other.t1, sid(1), sid(0)),
            "bound to ctx": H("bundle-aad", s.ctx, sid(1), sid(0)),
        }.items():
            dealt(f"bundle {what}", bundle=s.seal(1, 0, opening, aad=aad))
        dealt("bundle sealed with another nonce", bundle=s.seal(1, 0, opening, nonce=bytes(11) + b"\1"))
        dealt("bundle with the share of sigma first", bundle=s.seal(1, 0, opening, order="sb"))
        dealt("bundle with another silo's shares", bundle=s.seal(1, 0, s.shares(1)[2]))
        dealt("bundle of noise", bundle=drawn("noise", 144))
        dealt("bundle of silo 0 sent back", bundle=s.dealings[0]["pairs"][1]["sealed"])
        for kind in "bs":
            for part in ("share", "nonce"):
                for bit, new in zip(("first", "last"), flipped(opening[kind][part])):
                    wrong = {**opening, kind: {**opening[kind], part: new}}
                    dealt(f"bundle with the {bit} bit of the {kind} {part} flipped", bundle=s.seal(1, 0, wrong))
        leaf = lambda t1, dealer, to, kind, of: H(
            "leaf", t1, sid(dealer), sid(to), kind.encode(), of["share"], of["nonce"]
        )
        for what, make in {
            "of the other kind": lambda k, o: leaf(t1, 1, 0, "s" if k == "b" else "b", o),
            "for another recipient": lambda k, o: leaf(t1, 1, 2, k, o),
            "of another dealer": lambda k, o: leaf(t1, 2, 0, k, o),
            "with dealer and recipient swapped": lambda k, o: leaf(t1, 0, 1, k, o),
            "of another attempt": lambda k, o: leaf(self.other.t1, 1, 0, k, o),
            "without its nonce": lambda k, o: leaf(t1, 1, 0, k, {**o, "nonce": b""}),
        }.items():
            for kind in "bs":
                dealt(f"{kind} leaf {what}", leaves={kind: make(kind, opening[kind])})

    def complaints(self):
        s = self.s
        good = s.complaint(0, 1)
        one = lambda what, change, blamed, **more: self.add(what, "complaint", "SA-03", blamed, change, **more)
        for bit, value in zip(("first", "last"), flipped(good["ciphertext"])):
            one(
                f"complaint with the {bit} bit of its ciphertext hash flipped",
                {"/complaint/ciphertext": value},
                0,
                by_signature=True,
            )
        one("complaint in another silo's name", {"/complaint/silo": 2}, 2, by_signature=True)
        one("complaint of a dealer about itself", {"/complaint": s.complaint(1, 1)}, 1)
        one("complaint about another dealer", {"/complaint/dealer": 2}, 0)
        one("complaint of a silo without advert", {"/complaint/silo": 4}, 4)
