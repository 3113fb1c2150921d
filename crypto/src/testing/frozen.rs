//! Our own frozen vectors: a session of four silos with 257 coordinates, of which silo 2 is dropped, as an independent
//! program computes it (`crypto/vectors/oracle.py`). Every value is computed again here through this crate's functions from
//! what the silos draw at random, and compared by the name that it has in the file.

use super::json::{bytes, digest, fixed, hexed, list, number, session, text};
use super::*;
use crate::commit::AbandonVote;
use crate::complaint::Complaint;
use crate::keys::self_seed;
use crate::mask::{MaskSeed, Sign, Stream};
use crate::merkle::Tree;
use crate::result::ResultVote;
use crate::reveal::Reveal;
use crate::share::{DealtPair, Delivery, PairShares, ShareOpening};
use crate::sketch::{self, Sketch, SumProof};
use crate::transcript;
use crate::unmask::{self, Recovery};
use crate::verify::ClaimedSum;
use serde_json::{Value, json};

/// Every place at which two documents differ.
fn differences(at: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                differences(&format!("{at}/{key}"), &ours[key.as_str()], &theirs[key.as_str()], found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().for_each(|(i, (a, b))| differences(&format!("{at}/{i}"), a, b, found));
        }
        _ if ours == theirs => {}
        _ => found.push(format!("{at} is {ours} here and {theirs} in the vectors")),
    }
}

fn opening_json(o: &ShareOpening) -> Value {
    json!({ "share": hexed(&o.share.0), "nonce": hexed(o.nonce) })
}

fn shares_json(shares: &PairShares) -> Value {
    json!({ "b": opening_json(&shares.b), "s": opening_json(&shares.s) })
}

fn header_json(h: &ShareHeader) -> Value {
    let (root, commitment, signature) = (hexed(h.root), hexed(h.commitment_b), hexed(h.signature));
    json!({ "silo": h.silo.0, "root": root, "commitment_b": commitment, "signature": signature })
}

fn pair_json(p: &DealtPair) -> Value {
    json!({ "leaves": { "b": hexed(p.leaves.b), "s": hexed(p.leaves.s) }, "sealed": hexed(&p.sealed.0) })
}

fn delivery_json(recipient: SiloId, d: &Delivery) -> Value {
    let mut json = pair_json(&DealtPair { leaves: d.leaves, sealed: d.sealed.clone() });
    json["dealer"] = d.dealer.0.into();
    json["recipient"] = recipient.0.into();
    json["path"] = d.path.iter().map(hexed).collect();
    json
}

fn masked_json(m: &MaskedHeader) -> Value {
    json!({ "silo": m.silo.0, "hash": hexed(m.hash), "signature": hexed(m.signature) })
}

fn vote_json(silo: SiloId, signature: &crate::Signature) -> Value {
    json!({ "silo": silo.0, "signature": hexed(signature) })
}

fn reveal_json(r: &Reveal) -> Value {
    let share = |s: &crate::RevealedShare| {
        let mut json = opening_json(s.opening());
        json["peer"] = s.peer().0.into();
        json["kind"] = std::str::from_utf8(&[s.kind().byte()]).unwrap().into();
        json
    };
    json!({ "silo": r.silo.0, "shares": r.shares.iter().map(share).collect::<Value>(), "signature": hexed(r.signature) })
}

fn words(seed: &MaskSeed, first: usize, count: usize) -> Vec<u32> {
    let mut lanes = vec![0; count];
    mask::apply_range(&mut lanes, first, &[Stream { seed: seed.clone(), sign: Sign::Add }]);
    lanes
}

/// The kit of the vectors' session: everything up to P2 as this crate makes it, from the random bytes of the vectors.
pub(crate) fn kit(v: &Value) -> Kit {
    let keys: Vec<IdentityKey> = list(&v["identity_seeds"], |seed| IdentityKey::from_bytes(&fixed(seed)));
    let names = list(&v["roster"]["silos"], |s| text(&s["name"]));
    let entry = |(name, key): (String, &IdentityKey)| RosterEntry { name, identity: key.public() };
    let entries = names.into_iter().zip(&keys).map(entry).collect();
    let roster = Roster::new(text(&v["roster"]["federation_id"]), number(&v["roster"]["version"]), entries).unwrap();
    let params = json::params(&v["params"]);
    params.check().unwrap();
    let c = &v["context"];
    let context = Context {
        federation_id: text(&c["federation_id"]),
        roster_hash: roster.hash(),
        roster_version: number(&c["roster_version"]),
        job_digest: digest(&c["job_digest"]),
        round: number(&c["round"]),
        attempt: number(&c["attempt"]),
        params_hash: params.hash(),
        previous_result_hash: digest(&c["previous_result_hash"]),
        model_hash: digest(&c["model_hash"]),
    };
    let ctx = context.digest();
    let secrets: Vec<SessionSecrets> = list(&v["secrets"], |s| {
        let drawn = [bytes(&s["sigma_wide"]), bytes(&s["channel"]), bytes(&s["b_wide"])].concat();
        SessionSecrets::generate(&ctx, &mut Replay::new(drawn))
    });
    let mark = |i: SiloId| {
        let a = &v["adverts"][i.index()];
        JournalMark { length: number(&a["journal_length"]), head: digest(&a["journal_head"]) }
    };
    let counts = |i: SiloId| v["adverts"][i.index()]["counts"].as_bool().unwrap();
    let adverts =
        roster.ids().map(|i| Advert::sign(&keys[i.index()], &ctx, i, &secrets[i.index()], mark(i), counts(i)));
    let adverts = adverts.collect();
    let (dealings, own_pairs) = (Vec::new(), Vec::new());
    let mut kit = Kit { keys, roster, params, context, ctx, secrets, adverts, dealings, own_pairs, rng: rng(0) };
    let adverts = kit.verified_adverts();
    for i in kit.roster.ids() {
        let s = &v["secrets"][i.index()];
        let all = |field: &str| list(&s[field], bytes).concat();
        let nonces = list(&s["nonces"], |n| [bytes(&n["b"]), bytes(&n["s"])].concat()).concat();
        let drawn = [all("b_coefficients_wide"), all("sigma_coefficients_wide"), nonces].concat();
        let (key, secrets, t) = (&kit.keys[i.index()], &kit.secrets[i.index()], kit.params.quorum.t);
        let (dealing, own) = share::deal(key, i, secrets, &adverts, t, &mut Replay::new(drawn)).unwrap();
        kit.dealings.push(dealing);
        kit.own_pairs.push(own);
    }
    kit
}

/// What is chosen or drawn at random, and nothing that is computed.
fn drawn(v: &Value) -> Value {
    let some = |v: &Value, fields: &[&str]| fields.iter().map(|&f| (f.to_owned(), v[f].clone())).collect::<Value>();
    let each = |list: &Value, fields: &[&str]| -> Value {
        list.as_array().unwrap().iter().map(|item| some(item, fields)).collect()
    };
    let mut drawn = some(v, &["identity_seeds", "params", "next_model_hash", "opened"]);
    drawn["roster"] = some(&v["roster"], &["federation_id", "version"]);
    drawn["roster"]["silos"] = each(&v["roster"]["silos"], &["name"]);
    let fields =
        ["federation_id", "roster_version", "job_digest", "round", "attempt", "previous_result_hash", "model_hash"];
    drawn["context"] = some(&v["context"], &fields);
    let wide = ["sigma_wide", "b_wide", "channel", "b_coefficients_wide", "sigma_coefficients_wide", "nonces"];
    drawn["secrets"] = each(&v["secrets"], &wide);
    drawn["adverts"] = each(&v["adverts"], &["journal_length", "journal_head", "counts"]);
    drawn["inputs"] = each(&v["inputs"], &["values", "rounding", "counts"]);
    drawn
}

/// The whole document, computed from what is [`drawn`].
fn computed(v: &Value) -> Value {
    let kit = kit(v);
    let (adverts, headers, dealings) = (kit.verified_adverts(), kit.verified_headers(), kit.verified_dealings());
    let (t1, bind, silos) = (adverts.t1(), headers.bind(), || kit.roster.ids());
    let pairs = || silos().flat_map(|i| silos().filter(move |&j| j != i).map(move |j| (i, j)));
    let mut out = v.clone();

    // P0
    let names = kit.roster.entries().iter().map(|e| json!({ "name": e.name, "identity": hexed(e.identity) }));
    out["roster"]["silos"] = names
        .zip(&kit.keys)
        .map(|(mut silo, key)| {
            silo["identity"] = hexed(key.public());
            silo
        })
        .collect();
    out["roster_hash"] = hexed(kit.roster.hash());
    out["params_hash"] = hexed(kit.params.hash());
    out["context"]["roster_hash"] = hexed(kit.roster.hash());
    out["context"]["params_hash"] = hexed(kit.params.hash());
    out["ctx"] = hexed(kit.ctx);

    // P1
    for (i, s) in kit.secrets.iter().enumerate() {
        out["secrets"][i]["b"] = hexed(s.b.0.to_bytes());
        out["secrets"][i]["sigma"] = hexed(s.sigma.0.to_bytes());
        out["secrets"][i]["mask_secret"] = hexed(s.mask.to_bytes());
    }
    out["adverts"] = kit
        .adverts
        .iter()
        .map(|a| {
            let (length, head, signature) = (a.journal_length, hexed(a.journal_head), hexed(a.signature));
            json!({
                "silo": a.silo.0, "channel_key": hexed(a.channel_key), "mask_key": hexed(a.mask_key),
                "journal_length": length, "journal_head": head, "counts": a.counts, "signature": signature,
            })
        })
        .collect();
    out["t1"] = hexed(t1);

    // P2
    let key = |i: SiloId, j: SiloId| {
        let party = |silo: SiloId| (silo, &adverts.get(silo).unwrap().channel_key);
        let sent = kit.secrets[i.index()].channel.key_to(&t1, i, party(j)).unwrap();
        let received = kit.secrets[j.index()].channel.key_from(&t1, j, party(i)).unwrap();
        assert_eq!(sent.0, received.0, "both ends of {i} to {j}");
        json!({ "dealer": i.0, "recipient": j.0, "key": hexed(sent.0) })
    };
    out["share_keys"] = pairs().map(|(i, j)| key(i, j)).collect();
    let open = |i: SiloId, j: SiloId| kit.pair(i.0, j.0);
    out["shares"] = silos().map(|i| silos().map(|j| shares_json(&open(i, j))).collect::<Value>()).collect();
    let dealing = |d: &Dealing| json!({ "header": header_json(&d.header), "pairs": d.pairs.iter().map(pair_json).collect::<Value>() });
    out["dealings"] = kit.dealings.iter().map(dealing).collect();
    let hashes = |d: &Dealing| d.pairs.iter().map(|p| hexed(p.sealed.hash())).collect::<Value>();
    out["ciphertext_hashes"] = kit.dealings.iter().map(hashes).collect();
    let ids: Vec<SiloId> = silos().collect();
    let hash = |(&id, p): (&SiloId, &DealtPair)| hexed(p.leaves.pair_hash(id, &p.sealed));
    let hashes = |d: &Dealing| ids.iter().zip(&d.pairs).map(hash).collect::<Value>();
    out["pair_hashes"] = kit.dealings.iter().map(hashes).collect();
    let delivered = |(i, j): (SiloId, SiloId)| {
        let delivery = dealings[&i].delivery(j).unwrap();
        let channel = &kit.secrets[j.index()].channel;
        let held = verify::delivery(&delivery, dealings[&i].header(), &adverts, j, channel).unwrap();
        assert_eq!(held.shares, open(i, j), "what {j} opens of {i}");
        delivery_json(j, &delivery)
    };
    out["deliveries"] = pairs().map(delivered).collect();
    let (zero, one) = (SiloId(0), SiloId(1));
    let c = Complaint::sign(&kit.keys[0], zero, dealings[&one].header(), &dealings[&one].delivery(zero).unwrap());
    let (ciphertext, signature) = (hexed(c.ciphertext), hexed(c.signature));
    out["complaint"] = json!({ "silo": 0, "dealer": c.dealer.0, "ciphertext": ciphertext, "signature": signature });
    out["t2"] = hexed(headers.t2());
    out["bind"] = hexed(bind);

    after_the_dealings(v, &kit, &mut out);
    out
}

/// P3 to P6.
fn after_the_dealings(v: &Value, kit: &Kit, out: &mut Value) {
    let (adverts, headers, dealings) = (kit.verified_adverts(), kit.verified_headers(), kit.verified_dealings());
    let (bind, silos, rules) = (headers.bind(), || kit.roster.ids(), kit.rules());
    let key = |silo: SiloId| &kit.keys[silo.index()];

    // P3
    out["self_seeds"] = kit
        .secrets
        .iter()
        .map(|s| {
            let seed = self_seed(&s.b, &bind);
            json!({ "seed": hexed(seed.0), "first_words": words(&seed, 0, 8) })
        })
        .collect();
    let pair = |i: SiloId, j: SiloId| {
        let seed = |own: SiloId, peer: SiloId| {
            let peer = (peer, &adverts.get(peer).unwrap().mask_key);
            kit.secrets[own.index()].mask.pair_seed(&bind, own, peer).unwrap()
        };
        let low = seed(i, j);
        assert_eq!(low.0, seed(j, i).0, "both ends of {i} and {j}");
        let (first, far) = (words(&low, 0, 8), words(&low, 40_000, 4));
        json!({ "low": i.0, "high": j.0, "seed": hexed(low.0), "first_words": first, "words_at_40000": far })
    };
    out["pair_seeds"] = silos().flat_map(|i| silos().filter(move |&j| j > i).map(move |j| pair(i, j))).collect();
    let mut masked = Vec::new();
    for silo in silos() {
        let input = &v["inputs"][silo.index()];
        let values: Vec<f32> = list(&input["values"], |x| x.as_f64().unwrap() as f32);
        let (segments, mut lanes) = (&kit.params.segments, Vec::new());
        let mut rounding = Replay::new(bytes(&input["rounding"]));
        let saturation = fixed_point::encode(&values, &segments[0], &mut rounding, &mut lanes).unwrap();
        let counts: Vec<u32> = list(&input["counts"], number);
        fixed_point::encode_counts(&counts, &segments[1], &mut lanes).unwrap();
        out["inputs"][silo.index()]["clipped"] = saturation.saturated.into();
        out["inputs"][silo.index()]["lanes"] = lanes.clone().into();
        masked.push(kit.mask(silo, lanes));
    }
    out["masked"] = masked
        .iter()
        .map(|(header, packed)| {
            let mut json = masked_json(header);
            json["packed"] = hexed(packed);
            json
        })
        .collect();

    // P4
    let survivors = ids(&[0, 1, 3]);
    let of_survivors = || survivors.iter().map(|s| &masked[s.index()]);
    let entries: Vec<MaskedHeader> = of_survivors().map(|(header, _)| *header).collect();
    let list = verify::survivor_list(&rules, SurvivorList(entries), &headers, None).unwrap();
    let t3 = list.t3();
    assert_eq!(verify::closed_list(&rules, &bind, list.list()).unwrap().t3(), t3);
    out["survivor_list"] = list.list().0.iter().map(masked_json).collect();
    out["dropped"] = list.dropped().iter().map(|s| s.0).collect();
    out["t3"] = hexed(t3);
    let certificate = kit.certificate(&t3, &survivors);
    out["commits"] = certificate.0.iter().map(|v| vote_json(v.silo, &v.signature)).collect();
    let abandon = |i: SiloId| vote_json(i, &AbandonVote::sign(key(i), &kit.ctx, i).signature);
    out["abandons"] = silos().map(abandon).collect();

    // P5
    let (mut recovery, mut acc) = (Recovery::new(kit.params.quorum.t, &list), vec![0; kit.params.lanes()]);
    let proof = verify::commit_certificate(&rules, &certificate, &t3, &survivors).unwrap();
    let mut reveals = Vec::new();
    for (&silo, (header, packed)) in survivors.iter().zip(of_survivors()) {
        let reply = kit.reply(silo, &list);
        let reveal = reply.release(&proof).unwrap();
        assert!(recovery.add(&verify::reveal(&rules, reveal, &list, &dealings).unwrap()));
        let y = verify::masked(&rules, *header, packed, &kit.params, &headers).unwrap();
        unmask::accumulate(&mut acc, &y, &kit.params).unwrap();
        reveals.push(reveal_json(reveal));
    }
    out["reveals"] = reveals.into();
    let masks = recovery.streams(&adverts, &headers).unwrap();
    assert!(masks.guilty.is_empty());
    out["rebuilt"] = masks.secrets.iter().map(|s| hexed(s.0)).collect();

    // P6
    let sum = unmask::unmask(acc, &masks.streams, &kit.params, 1).unwrap();
    let sum_hash = transcript::sum_hash(&sum);
    let lanes = packing::unpack(&kit.params, &sum).unwrap();
    assert_eq!(lanes[257], 3, "the canary counts the survivors");
    out["sum"] = json!({ "lanes": lanes, "packed": hexed(&sum), "hash": hexed(sum_hash) });
    let rows = transcript::rows_key(&t3, &sum_hash);
    out["rows_key"] = hexed(rows);
    let sketch = |(&silo, (_, packed)): (&SiloId, &(MaskedHeader, Vec<u8>))| {
        let values = sketch::subset_sums_of(&kit.params, &rows, packed, 1).unwrap();
        Sketch::sign(key(silo), &kit.ctx, silo, &t3, &sum_hash, values)
    };
    let sketches: Vec<Sketch> = survivors.iter().zip(of_survivors()).map(sketch).collect();
    out["sketches"] = sketches
        .iter()
        .map(|s| {
            let signature = hexed(s.signature);
            json!({ "silo": s.silo.0, "values": s.values, "signature": signature })
        })
        .collect();
    let (opened, secrets) = (Vec::new(), masks.secrets);
    let proof = SumProof { adverts: kit.adverts.clone(), headers: kit.headers(), secrets, sketches, opened };
    let claim = ClaimedSum { params: &kit.params, list: list.list(), packed: &sum, proof: &proof, opened: &[] };
    assert_eq!(verify::sum(&rules, &claim, 2).unwrap().t3(), t3);
    let next = digest(&v["next_model_hash"]);
    let result = transcript::result_hash(&t3, &sum_hash, &next);
    out["result_hash"] = hexed(result);
    let vote = |i: SiloId| vote_json(i, &ResultVote::sign(key(i), &kit.ctx, i, &result, &next).signature);
    out["results"] = silos().map(vote).collect();
}

#[test]
fn the_session_of_the_vectors_comes_out_the_same() {
    let vectors = session();
    let mut found = Vec::new();
    differences("", &computed(&drawn(&vectors)), &vectors, &mut found);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn everything_drawn_counts() {
    let vectors = session();
    for at in [
        "/identity_seeds/2",
        "/secrets/0/b_wide",
        "/secrets/2/sigma_wide",
        "/secrets/1/channel",
        "/secrets/3/b_coefficients_wide/1",
        "/secrets/3/sigma_coefficients_wide/0",
        "/secrets/1/nonces/2/s",
        "/adverts/3/journal_head",
        "/context/model_hash",
        "/next_model_hash",
    ] {
        let mut changed = drawn(&vectors);
        let place = changed.pointer_mut(at).unwrap_or_else(|| panic!("{at} is not in the vectors"));
        let mut value = bytes(place);
        value[0] ^= 0x10; // a bit that X25519 does not clear
        *place = hexed(value);
        let mut found = Vec::new();
        differences("", &computed(&changed), &vectors, &mut found);
        assert!(found.iter().any(|line| line.starts_with("/results/0/signature is ")), "{at}: {found:?}");
    }
}

#[test]
fn trees_that_are_not_full_and_rings_of_every_width_come_out_the_same() {
    let small: Value = serde_json::from_str(include_str!("../../vectors/small.json")).unwrap();
    let trees = small["merkle"].as_array().unwrap();
    assert_eq!(trees.len(), 8);
    for tree in trees {
        let leaves = list(&tree["leaves"], digest);
        let ours = Tree::new(leaves.clone());
        assert_eq!(ours.root(), digest(&tree["root"]), "root over {} leaves", leaves.len());
        for (i, path) in list(&tree["paths"], |p| list(p, digest)).iter().enumerate() {
            assert_eq!(&ours.path(i), path, "leaf {i} of {}", leaves.len());
        }
    }
    let rings = small["packing"].as_array().unwrap();
    assert_eq!(rings.len(), 32);
    for ring in rings {
        let ring_bits: u8 = number(&ring["ring_bits"]);
        let segment = |length: &Value| {
            let name = format!("s{length}");
            Segment { name, length: number(length), ring_bits, kind: SegmentKind::Counts { max_value: 0 } }
        };
        let segments = list(&ring["lengths"], segment);
        let params = Params { segments, ..json::params(&session()["params"]) };
        let packed = packing::pack(&params, &list(&ring["lanes"], number)).unwrap();
        assert_eq!(hexed(&packed), ring["packed"], "{ring_bits} bits");
        assert_eq!(packing::pack(&params, &packing::unpack(&params, &packed).unwrap()).unwrap(), packed);
    }
}
