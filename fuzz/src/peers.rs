//! What honest and colluding silos would send: keys, dealings, masked inputs and votes of any silo in any session.
//!
//! Contract: everything is a function of its arguments: secrets come from a generator seeded with session, silo and a
//! salt (another salt: another life of the same silo, or a lie). So what was computed once can be kept; that is what
//! makes thousands of sessions a second possible.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::rc::Rc;

use blindsum_crypto::advert::SessionSecrets;
use blindsum_crypto::share::{self, HeldPair, HeldShares};
use blindsum_crypto::unmask::{self, Recovery};
use blindsum_crypto::verify::{self, Rules, VerifiedAdverts, VerifiedDealing, VerifiedHeaders, VerifiedList};
use blindsum_crypto::{
    AbandonCertificate, AbandonVote, Advert, CommitCertificate, CommitVote, Dealing, Delivery, Digest, JournalMark,
    MaskedHeader, OpenedSecret, ResultCertificate, ResultVote, Reveal, ShareHeader, SiloId, Sketch, SurvivorList, mask,
    masked, packing, sha256, sketch, transcript,
};
use blindsum_protocol::{AttemptId, RoundKind};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use crate::world::World;

/// A masked input, packed, with its signed hash.
pub type Masked = Rc<(MaskedHeader, Vec<u8>)>;
/// A dealing and what its dealer keeps.
pub type Dealt = Rc<(Dealing, HeldPair)>;

/// A table that forgets everything when it has grown to its bound.
struct Memo<K, V>(HashMap<K, V>);

impl<K: Hash + Eq, V: Clone> Memo<K, V> {
    fn new() -> Self {
        Memo(HashMap::new())
    }

    fn get(&mut self, key: K, make: impl FnOnce() -> V) -> V {
        if self.0.len() > 4096 {
            self.0.clear();
        }
        self.0.entry(key).or_insert_with(make).clone()
    }
}

struct Memos {
    secrets: Memo<(SiloId, Digest, u8), Rc<SessionSecrets>>,
    adverts: Memo<(Digest, Digest), Option<Rc<VerifiedAdverts>>>,
    headers: Memo<(Digest, Digest), Option<Rc<VerifiedHeaders>>>,
    dealings: Memo<(SiloId, Digest, u8, u8), Option<Dealt>>,
    masked: Memo<(SiloId, Digest, u8), Option<Masked>>,
    signed: Memo<Digest, Rc<Advert>>,
}

thread_local! {
    static MEMOS: RefCell<Memos> = RefCell::new(Memos {
        secrets: Memo::new(),
        adverts: Memo::new(),
        headers: Memo::new(),
        dealings: Memo::new(),
        masked: Memo::new(),
        signed: Memo::new(),
    });
}

/// One session as its silos see it.
#[derive(Clone, Copy)]
pub struct Peers<'a> {
    /// The federation.
    pub world: &'a World,
    /// The session's context.
    pub ctx: &'a Digest,
    /// Which parameters it has.
    pub kind: RoundKind,
}

impl Peers<'_> {
    /// What is checked against.
    pub fn rules(&self) -> Rules<'_> {
        Rules { roster: &self.world.setup.roster, ctx: self.ctx, quorum: &self.world.plan().params(self.kind).quorum }
    }

    fn rng(&self, purpose: u8, silo: SiloId, salt: u8, extra: &Digest) -> ChaCha20Rng {
        let [low, high] = silo.to_bytes();
        let seed = [&[purpose, salt, low, high][..], &self.ctx.0, &extra.0].concat();
        ChaCha20Rng::from_seed(sha256(&seed).0)
    }

    /// A silo's secrets.
    pub fn secrets(&self, silo: SiloId, salt: u8) -> Rc<SessionSecrets> {
        let make = || Rc::new(SessionSecrets::generate(self.ctx, &mut self.rng(1, silo, salt, &Digest([0; 32]))));
        MEMOS.with_borrow_mut(|m| m.secrets.get((silo, *self.ctx, salt), make))
    }

    /// A silo's advert, whose journal has grown with every attempt.
    pub fn advert(&self, silo: SiloId, at: AttemptId, salt: u8) -> Advert {
        let secrets = self.secrets(silo, salt);
        let key = [&self.ctx.0[..], &silo.to_bytes(), &[salt]].concat();
        let length = u64::from(at.round) << 40 | u64::from(at.attempt) << 8;
        let journal = JournalMark { length, head: sha256(&key) };
        let make =
            || Rc::new(Advert::sign(&self.world.keys[silo.index()], self.ctx, silo, &secrets, journal, salt & 1 == 0));
        MEMOS.with_borrow_mut(|m| (*m.signed.get(sha256(&key), make)).clone())
    }

    /// U1, if these adverts are sound.
    pub fn adverts(&self, adverts: &[Advert]) -> Option<Rc<VerifiedAdverts>> {
        let key = sha256(&serde_json::to_vec(adverts).ok()?);
        let make = || verify::adverts(&self.rules(), adverts.to_vec(), None, &[]).ok().map(Rc::new);
        MEMOS.with_borrow_mut(|m| m.adverts.get((*self.ctx, key), make))
    }

    /// A silo's dealing. With `lie` it is made from other secrets than those advertised: 1 seals with another channel key
    /// (nobody can open it), 2 deals another `b` and σ.
    pub fn dealing(&self, silo: SiloId, adverts: &VerifiedAdverts, salt: u8, lie: u8) -> Option<Dealt> {
        let secrets = self.secrets(silo, salt);
        let make = || {
            let own = SessionSecrets::generate(self.ctx, &mut self.rng(1, silo, salt, &Digest([0; 32])));
            let other = SessionSecrets::generate(self.ctx, &mut self.rng(2, silo, lie, &adverts.t1()));
            let secrets = match lie {
                0 => &*secrets,
                1 => &SessionSecrets { channel: other.channel, ..own },
                _ => &SessionSecrets { channel: own.channel, ..other },
            };
            let rng = &mut self.rng(3, silo, salt, &adverts.t1());
            let t = self.rules().quorum.t;
            share::deal(&self.world.keys[silo.index()], silo, secrets, adverts, t, rng).ok().map(Rc::new)
        };
        MEMOS.with_borrow_mut(|m| m.dealings.get((silo, adverts.t1(), salt, lie), make))
    }

    /// U2, if these headers are sound.
    pub fn headers(&self, headers: &[ShareHeader], adverts: &VerifiedAdverts) -> Option<Rc<VerifiedHeaders>> {
        let key = sha256(&serde_json::to_vec(headers).ok()?);
        let make = || verify::headers(&self.rules(), headers.to_vec(), adverts, None).ok().map(Rc::new);
        MEMOS.with_borrow_mut(|m| m.headers.get((adverts.t1(), key), make))
    }

    /// What a silo adds up: small numbers of its own and the canary.
    pub fn lanes(&self, silo: SiloId) -> Vec<u32> {
        let params = self.world.plan().params(self.kind);
        let mut lanes = vec![0; params.lanes()];
        let metrics = params.lanes() - self.world.plan().metrics_len();
        for (i, lane) in lanes[..metrics].iter_mut().enumerate() {
            *lane = (i as u32 * 7 + u32::from(silo.0) * 1001) % 500;
        }
        lanes[metrics] = 1;
        lanes
    }

    /// The packed plain sum over some silos.
    pub fn sum(&self, survivors: &[SiloId]) -> Vec<u8> {
        let params = self.world.plan().params(self.kind);
        let mut sum = vec![0u32; params.lanes()];
        for silo in survivors {
            sum.iter_mut().zip(self.lanes(*silo)).for_each(|(a, b)| *a = a.wrapping_add(b));
        }
        packing::pack(params, &sum).unwrap()
    }

    /// A silo's masked input.
    pub fn masked(
        &self,
        silo: SiloId,
        adverts: &VerifiedAdverts,
        headers: &VerifiedHeaders,
        salt: u8,
    ) -> Option<Masked> {
        let secrets = self.secrets(silo, salt);
        let make = || {
            let streams = masked::streams(silo, &secrets, adverts, headers).ok()?;
            let mut lanes = self.lanes(silo);
            mask::apply(&mut lanes, &streams, 1);
            let packed = packing::pack(self.world.plan().params(self.kind), &lanes).unwrap();
            Some(Rc::new((self.masked_header(silo, &headers.bind(), &packed), packed)))
        };
        MEMOS.with_borrow_mut(|m| m.masked.get((silo, headers.bind(), salt), make))
    }

    /// A silo's signature under whatever it is said to have sent.
    pub fn masked_header(&self, silo: SiloId, bind: &Digest, packed: &[u8]) -> MaskedHeader {
        MaskedHeader::sign(&self.world.keys[silo.index()], self.ctx, bind, silo, packed)
    }

    /// The shares that a silo holds from these deliveries and its own dealing.
    pub fn held(
        &self,
        silo: SiloId,
        adverts: &VerifiedAdverts,
        headers: &VerifiedHeaders,
        deliveries: &[Delivery],
        own: &HeldPair,
        salt: u8,
    ) -> (HeldShares, Vec<SiloId>) {
        let secrets = self.secrets(silo, salt);
        let (mut held, mut bad) = (HeldShares::new(silo), Vec::new());
        held.insert(own.clone());
        for delivery in deliveries {
            let Some(header) = headers.get(delivery.dealer) else { continue };
            let Ok(header) = verify::header(&self.rules(), header.clone(), adverts) else { continue };
            match verify::delivery(delivery, &header, adverts, silo, &secrets.channel) {
                Ok(pair) => drop(held.insert(pair)),
                Err(_) => bad.push(delivery.dealer),
            }
        }
        (held, bad)
    }

    /// What the coordinator learns from these replies: the sum of these masked inputs, and the secrets that it opens.
    pub fn unmasked(
        &self,
        replies: &[Reveal],
        masked: &[&[u8]],
        list: &VerifiedList,
        dealings: &BTreeMap<SiloId, VerifiedDealing>,
        (adverts, headers): (&VerifiedAdverts, &VerifiedHeaders),
    ) -> Option<(Vec<u8>, Vec<OpenedSecret>)> {
        let mut recovery = Recovery::new(self.rules().quorum.t, list);
        for reply in replies {
            recovery.add(&verify::reveal(&self.rules(), reply, list, dealings).ok()?);
        }
        let masks = recovery.streams(adverts, headers).ok()?;
        let params = self.world.plan().params(self.kind);
        let mut acc = vec![0; params.lanes()];
        for packed in masked {
            packing::add_packed(params, packed, &mut acc).ok()?;
        }
        Some((unmask::unmask(acc, &masks.streams, params, 1).ok()?, masks.secrets))
    }

    /// A silo's subset sums of a masked input.
    pub fn sketch(&self, silo: SiloId, t3: &Digest, sum_hash: &Digest, packed: &[u8]) -> Option<Sketch> {
        let key = transcript::rows_key(t3, sum_hash);
        let values = sketch::subset_sums_of(self.world.plan().params(self.kind), &key, packed, 1).ok()?;
        Some(Sketch::sign(&self.world.keys[silo.index()], self.ctx, silo, t3, sum_hash, values))
    }

    /// A survivor list, if it is sound.
    pub fn list(&self, list: &SurvivorList, headers: &VerifiedHeaders) -> Option<VerifiedList> {
        verify::survivor_list(&self.rules(), list.clone(), headers, None).ok()
    }

    /// Dealings as the coordinator keeps them.
    pub fn verified_dealings(
        &self,
        dealings: &[Dealing],
        adverts: &VerifiedAdverts,
    ) -> BTreeMap<SiloId, VerifiedDealing> {
        let verified = dealings.iter().filter_map(|d| verify::dealing(&self.rules(), d.clone(), adverts).ok());
        verified.map(|d| (d.dealer(), d)).collect()
    }

    /// COMMIT votes over T3.
    pub fn commits(&self, voters: &[SiloId], t3: &Digest) -> CommitCertificate {
        CommitCertificate(
            voters.iter().map(|&v| CommitVote::sign(&self.world.keys[v.index()], self.ctx, v, t3)).collect(),
        )
    }

    /// ABANDON votes.
    pub fn abandons(&self, voters: &[SiloId]) -> AbandonCertificate {
        AbandonCertificate(
            voters.iter().map(|&v| AbandonVote::sign(&self.world.keys[v.index()], self.ctx, v)).collect(),
        )
    }

    /// RESULT votes.
    pub fn results(&self, voters: &[SiloId], result_hash: &Digest, model_hash: &Digest) -> ResultCertificate {
        let sign = |&v: &SiloId| ResultVote::sign(&self.world.keys[v.index()], self.ctx, v, result_hash, model_hash);
        ResultCertificate(voters.iter().map(sign).collect())
    }
}

/// The silos whose bits are set; all of them for 0.
pub fn subset(bits: u8) -> Vec<SiloId> {
    let bits = if bits & 15 == 0 { 15 } else { bits & 15 };
    (0..4u16).filter(|i| bits >> i & 1 == 1).map(SiloId).collect()
}
