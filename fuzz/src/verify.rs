//! The checks of one real session of four silos, each against an altered message: they end, and what they accept is
//! exactly what was sent, or says the same.
//!
//! Byte 0: which check; three bytes: how its message is altered; two bytes: whose message; the rest, if any: bytes that
//! are decoded instead of the altered message.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::rc::Rc;

use blindsum_crypto::unmask::Recovery;
use blindsum_crypto::verify::{self, ClaimedSum, VerifiedAdverts, VerifiedDealing, VerifiedHeaders, VerifiedList};
use blindsum_crypto::{
    Complaint, Context, Dealing, Digest, Reveal, SiloId, SumProof, SurvivorList, sha256, transcript,
};
use blindsum_protocol::{AttemptId, Payload, RoundKind, codec};
use serde::{Serialize, de::DeserializeOwned};

use crate::input::Input;
use crate::peers::{Dealt, Masked, Peers};
use crate::tamper::Tamper;
use crate::world::{SILOS, World};

/// Checks that this target knows.
pub const CHECKS: u8 = 18;

/// Everything that was sent in one session, and what the checks made of it.
struct Session {
    world: &'static World,
    ctx: Digest,
    adverts: Rc<VerifiedAdverts>,
    dealt: Vec<Dealt>,
    dealings: BTreeMap<SiloId, VerifiedDealing>,
    headers: Rc<VerifiedHeaders>,
    masked: Vec<Masked>,
    /// Silo 3 was lost after its shares.
    list: VerifiedList,
    reveals: Vec<Reveal>,
    sum: Vec<u8>,
    proof: SumProof,
}

thread_local! {
    static SESSION: Session = Session::new();
}

impl Session {
    fn new() -> Session {
        let world = World::get(false);
        let at = AttemptId { round: 1, attempt: 1 };
        let chain = crate::world::Chain::start(world);
        let context: Context = world.plan().context(at, RoundKind::TrainB, chain.result_hash, chain.model_hash);
        let ctx = context.digest();
        let peers = Peers { world, ctx: &ctx, kind: RoundKind::TrainB };
        let adverts: Vec<_> = world.ids().map(|silo| peers.advert(silo, at, 0)).collect();
        let adverts = peers.adverts(&adverts).unwrap();
        let dealt: Vec<Dealt> = world.ids().map(|silo| peers.dealing(silo, &adverts, 0, 0).unwrap()).collect();
        let raw: Vec<Dealing> = dealt.iter().map(|d| d.0.clone()).collect();
        let dealings = peers.verified_dealings(&raw, &adverts);
        let headers: Vec<_> = raw.into_iter().map(|d| d.header).collect();
        let headers = peers.headers(&headers, &adverts).unwrap();
        let masked: Vec<_> = world.ids().map(|silo| peers.masked(silo, &adverts, &headers, 0).unwrap()).collect();
        let survivors = SurvivorList(masked[..3].iter().map(|m| m.0).collect());
        let list = peers.list(&survivors, &headers).unwrap();
        let certificate = peers.commits(list.survivors(), &list.t3());
        let proof = verify::commit_certificate(&peers.rules(), &certificate, &list.t3(), list.survivors()).unwrap();
        let reveal = |&silo: &SiloId| {
            let deliveries: Vec<_> = dealings.values().filter_map(|d| d.delivery(silo)).collect();
            let own = &dealt[silo.index()].1;
            let (held, bad) = peers.held(silo, &adverts, &headers, &deliveries, own, 0);
            assert!(bad.is_empty());
            held.into_reply(&list, &world.keys[silo.index()], &ctx).release(&proof).unwrap().clone()
        };
        let reveals: Vec<Reveal> = list.survivors().iter().map(reveal).collect();
        let inputs: Vec<&[u8]> = masked[..3].iter().map(|m| m.1.as_slice()).collect();
        let (sum, secrets) = peers.unmasked(&reveals, &inputs, &list, &dealings, (&adverts, &headers)).unwrap();
        assert_eq!(sum, peers.sum(list.survivors()));
        let sum_hash = transcript::sum_hash(&sum);
        let sketch =
            |silo: u16| peers.sketch(SiloId(silo), &list.t3(), &sum_hash, &masked[usize::from(silo)].1).unwrap();
        // silo 2 has no sketch
        let proof = SumProof {
            adverts: adverts.adverts().to_vec(),
            headers: headers.headers().to_vec(),
            secrets,
            sketches: vec![sketch(0), sketch(1)],
            opened: vec![SiloId(2)],
        };
        Session { world, ctx, adverts, dealt, dealings, headers, masked, list, reveals, sum, proof }
    }

    fn peers(&self) -> Peers<'_> {
        Peers { world: self.world, ctx: &self.ctx, kind: RoundKind::TrainB }
    }
}

/// The message in its place: altered, or decoded from what is left of the input.
fn message<T>(input: &mut Input<'_>, tamper: Tamper, genuine: &T) -> Option<T>
where
    T: Serialize + DeserializeOwned + Clone + PartialEq + Debug,
{
    if input.is_empty() {
        return Some(tamper.apply(genuine.clone()));
    }
    codec::decode(input.rest(), 1 << 16).ok()
}

/// A check that must accept nothing but what was sent.
fn only<T: PartialEq + Debug>(accepted: bool, found: &T, genuine: &T) {
    assert!(!accepted || found == genuine, "accepted in the place of {genuine:?}: {found:?}");
    assert!(accepted || found != genuine, "refused, though it is what was sent: {found:?}");
}

/// Runs one check.
pub fn run(bytes: &[u8]) {
    SESSION.with(|session| check(session, Input(bytes)));
}

fn check(s: &Session, mut input: Input<'_>) {
    let which = input.byte() % CHECKS;
    let tamper = Tamper::read(&mut input);
    let (whose, other) = (SiloId(u16::from(input.byte()) % SILOS), SiloId(u16::from(input.byte()) % SILOS));
    let peers = s.peers();
    let rules = peers.rules();
    let input = &mut input;
    let i = whose.index();
    let survivor = &s.list.survivors()[i % 3];
    let (result, model) = (sha256(b"result"), sha256(b"model"));
    match which {
        0 => {
            let genuine = &s.adverts.adverts()[i];
            let Some(advert) = message(input, tamper, genuine) else { return };
            only(verify::advert(&rules, &advert).is_ok(), &advert, genuine);
        }
        1 => {
            let genuine = s.adverts.adverts().to_vec();
            let Some(adverts) = message(input, tamper, &genuine) else { return };
            let own = &genuine[i];
            if let Ok(verified) = verify::adverts(&rules, adverts.clone(), Some(own), &[]) {
                // fewer are an attempt with fewer; none may be another's
                assert!(adverts.len() >= 3 && adverts.iter().all(|a| genuine.contains(a)) && adverts.contains(own));
                assert_eq!(verified.t1() == s.adverts.t1(), adverts == genuine);
            }
        }
        2 => {
            let genuine = &s.dealt[i].0.header;
            let Some(header) = message(input, tamper, genuine) else { return };
            only(verify::header(&rules, header.clone(), &s.adverts).is_ok(), &header, genuine);
        }
        3 => {
            let genuine = s.headers.headers().to_vec();
            let Some(headers) = message(input, tamper, &genuine) else { return };
            if let Ok(verified) = verify::headers(&rules, headers.clone(), &s.adverts, Some(&genuine[i])) {
                assert!(
                    headers.len() >= 3 && headers.iter().all(|h| genuine.contains(h)) && headers.contains(&genuine[i])
                );
                assert_eq!(verified.bind() == s.headers.bind(), headers == genuine);
            }
        }
        4 => {
            let genuine = &s.dealt[i].0;
            let Some(dealing) = message(input, tamper, genuine) else { return };
            only(verify::dealing(&rules, dealing.clone(), &s.adverts).is_ok(), &dealing, genuine);
        }
        5 => {
            let Some(genuine) = s.dealings[&whose].delivery(other) else { return };
            let Some(delivery) = message(input, tamper, &genuine) else { return };
            let channel = &peers.secrets(other, 0).channel;
            let held = verify::delivery(&delivery, s.dealings[&whose].header(), &s.adverts, other, channel);
            only(held.is_ok(), &delivery, &genuine);
            let altered = matches!(held, Err(verify::DeliveryError::NotAsSigned(_)));
            assert!(held.is_ok() || altered, "SA-03: an honest dealer is blamed for what was altered on the way");
        }
        6 => {
            let Some(delivery) = s.dealings[&whose].delivery(other) else { return };
            let header = s.dealings[&whose].header();
            let genuine = Complaint::sign(&s.world.keys[other.index()], other, header, &delivery);
            let Some(complaint) = message(input, tamper, &genuine) else { return };
            only(verify::complaint(&rules, &complaint, header, &s.adverts).is_ok(), &complaint, &genuine);
        }
        7 => {
            let genuine = s.masked[i].0;
            let Some(header) = message(input, tamper, &genuine) else { return };
            only(verify::masked_header(&rules, &header, &s.headers).is_ok(), &header, &genuine);
        }
        8 => {
            let (header, packed) = (s.masked[i].0, &s.masked[i].1);
            let found = if input.is_empty() {
                tamper.payload(Payload::new(packed.clone())).map_or(Vec::new(), |p| p.to_vec())
            } else {
                input.rest().to_vec()
            };
            let params = s.world.plan().params(RoundKind::TrainB);
            only(verify::masked(&rules, header, &found, params, &s.headers).is_ok(), &found, packed);
        }
        9 => {
            let genuine = s.list.list().clone();
            let Some(list) = message(input, tamper, &genuine) else { return };
            let all: Vec<_> = s.masked.iter().map(|m| m.0).collect();
            if let Ok(verified) =
                verify::survivor_list(&rules, list.clone(), &s.headers, Some(&s.masked[survivor.index()].0))
            {
                assert!(list.0.len() >= 3 && list.0.iter().all(|m| all.contains(m)), "SA-04, SA-05");
                assert_eq!(verified.t3() == s.list.t3(), list == genuine);
            }
            let closed = verify::closed_list(&rules, &s.headers.bind(), &list);
            assert!(closed.is_err() || list.0.iter().all(|m| all.contains(m)));
        }
        10 => {
            let genuine = peers.commits(s.list.survivors(), &s.list.t3());
            let Some(votes) = message(input, tamper, &genuine) else { return };
            let accepted = verify::commit_certificate(&rules, &votes, &s.list.t3(), s.list.survivors());
            only(accepted.is_ok(), &votes, &genuine);
        }
        11 => {
            let genuine = peers.abandons(&[SiloId(0), SiloId(1), SiloId(3)]);
            let Some(votes) = message(input, tamper, &genuine) else { return };
            only(verify::abandon_certificate(&rules, &votes).is_ok(), &votes, &genuine);
        }
        12 => {
            let genuine = peers.results(&[SiloId(0), SiloId(1), SiloId(3)], &result, &model);
            let Some(votes) = message(input, tamper, &genuine) else { return };
            only(verify::result_certificate(&rules, &votes, &result, &model).is_ok(), &votes, &genuine);
        }
        13 => {
            let genuine = &s.reveals[i % 3];
            let Some(reveal) = message(input, tamper, genuine) else { return };
            // SA-06, SA-09: a share more, less or another one is none
            only(verify::reveal(&rules, &reveal, &s.list, &s.dealings).is_ok(), &reveal, genuine);
        }
        14 => {
            let genuine = &s.proof.sketches[i % 2];
            let Some(sketch) = message(input, tamper, genuine) else { return };
            let params = s.world.plan().params(RoundKind::TrainB);
            let accepted = verify::sketch(&rules, &sketch, params, &s.list, &transcript::sum_hash(&s.sum));
            only(accepted.is_ok(), &sketch, genuine);
        }
        15 => {
            let genuine = &s.proof.secrets;
            let Some(secrets) = message(input, tamper, genuine) else { return };
            only(verify::opened_secrets(&secrets, &s.list, &s.adverts, &s.headers).is_ok(), &secrets, genuine);
        }
        16 => {
            // SA-16: the sum, its proof or the masked input beside it is altered
            let (mut sum, mut proof, mut opened) = (s.sum.clone(), s.proof.clone(), s.masked[2].1.clone());
            let alter = |bytes: Vec<u8>| tamper.payload(Payload::new(bytes)).map_or(Vec::new(), |p| p.to_vec());
            match whose.0 {
                0 => sum = alter(sum),
                1 => opened = alter(opened),
                _ => {
                    let Some(found) = message(input, tamper, &proof) else { return };
                    proof = found;
                }
            }
            let claim = ClaimedSum {
                params: s.world.plan().params(RoundKind::TrainB),
                list: s.list.list(),
                packed: &sum,
                proof: &proof,
                opened: &[&opened],
            };
            let found = (&sum, &proof, &opened);
            only(verify::sum(&rules, &claim, 1).is_ok(), &found, &(&s.sum, &s.proof, &s.masked[2].1));
        }
        _ => {
            // a rebuilt sum out of replies of which one is altered: the same, or none
            let mut recovery = Recovery::new(rules.quorum.t, &s.list);
            for (n, genuine) in s.reveals.iter().enumerate() {
                let reveal = if n == i % 3 { tamper.apply(genuine.clone()) } else { genuine.clone() };
                if let Ok(verified) = verify::reveal(&rules, &reveal, &s.list, &s.dealings) {
                    recovery.add(&verified);
                }
            }
            if recovery.is_ready() {
                assert!(
                    recovery.streams(&s.adverts, &s.headers).unwrap().guilty.is_empty(),
                    "an honest dealer is blamed"
                );
            }
        }
    }
}
