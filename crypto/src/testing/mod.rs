//! What this crate's tests share: a whole honest session whose every message lies open to be forged.

mod attacks_commit;
mod attacks_keys;
mod attacks_shares;
mod evidence;
mod frozen;
mod json;
mod primitives;
mod project_wycheproof;
mod refused;
mod session;
mod sums;
mod teeth_evidence;
mod teeth_keys;
mod teeth_shares;
mod teeth_sums;
mod teeth_votes;
mod vectors;

use crate::advert::{Advert, JournalMark, SessionSecrets};
use crate::commit::{CommitCertificate, CommitVote, SurvivorList};
use crate::context::Context;
use crate::fixed_point;
use crate::hash::{Digest, sha256};
use crate::identity::{IdentityKey, SiloId};
use crate::labels::Label;
use crate::mask;
use crate::masked::{self, MaskedHeader};
use crate::packing;
use crate::params::{Params, Segment, SegmentKind, VerifySum};
use crate::quorum::Quorum;
use crate::reveal::PendingReveal;
use crate::roster::{Roster, RosterEntry};
use crate::share::{self, Dealing, HeldPair, HeldShares, PairShares, ShareHeader};
use crate::verify::{self, Rules, VerifiedAdverts, VerifiedDealing, VerifiedHeaders, VerifiedList, VerifyError};
use rand_chacha::ChaCha20Rng;
use rand_core::{SeedableRng, TryCryptoRng, TryRng};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;

pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// "Randomness" of one repeated byte, for keys that are known and for the worst case.
pub(crate) struct Repeat(pub u8);
impl TryRng for Repeat {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes([self.0; 4]))
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes([self.0; 8]))
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(self.0);
        Ok(())
    }
}
impl TryCryptoRng for Repeat {}

/// "Randomness" that gives the bytes of a vector, in order, and no more than there are.
pub(crate) struct Replay(VecDeque<u8>);

impl Replay {
    pub fn new(bytes: impl IntoIterator<Item = u8>) -> Replay {
        Replay(bytes.into_iter().collect())
    }
}
impl TryRng for Replay {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        assert!(bytes.len() <= self.0.len(), "the vector has no more random bytes");
        let next = self.0.drain(..bytes.len());
        bytes.copy_from_slice(&next.collect::<Vec<u8>>());
        Ok(())
    }
}
impl TryCryptoRng for Replay {}

/// The keystream of a seed: what its mask adds to lanes from coordinate 0 on.
pub(crate) fn keystream(seed: mask::MaskSeed, lanes: usize) -> Vec<u32> {
    let mut stream = vec![0; lanes];
    mask::apply_range(&mut stream, 0, &[mask::Stream { seed, sign: mask::Sign::Add }]);
    stream
}

pub(crate) fn ids(silos: &[u16]) -> Vec<SiloId> {
    silos.iter().map(|&i| SiloId(i)).collect()
}

/// An error must come from the expected rule and blame the expected silo.
#[track_caller]
pub(crate) fn assert_refused<T>(result: Result<T, VerifyError>, rule: &str, blamed: Option<u16>) {
    match result {
        Ok(_) => panic!("accepted, where {rule} should have refused"),
        Err(e) => assert_eq!((e.check.rule(), e.blamed), (rule, blamed.map(SiloId)), "{e}"),
    }
}

/// Roster, context and parameters, and one session's secrets and messages up to P2.
pub(crate) struct Kit {
    pub keys: Vec<IdentityKey>,
    pub roster: Roster,
    pub params: Params,
    pub context: Context,
    pub ctx: Digest,
    pub secrets: Vec<SessionSecrets>,
    pub adverts: Vec<Advert>,
    pub dealings: Vec<Dealing>,
    /// Each dealer's own pair.
    pub own_pairs: Vec<HeldPair>,
    pub rng: ChaCha20Rng,
}

impl Kit {
    /// n silos that have all advertised and dealt; d coordinates, then two counts.
    pub fn new(n: u16, d: u32, attempt: u32) -> Kit {
        Kit::with_colluders(n, d, attempt, None)
    }

    /// As [`Kit::new`], for a number of colluders.
    pub fn with_colluders(n: u16, d: u32, attempt: u32, c: Option<u16>) -> Kit {
        let mut rng = rng(u64::from(n) << 32 | u64::from(attempt));
        let keys: Vec<IdentityKey> = (0..n).map(|i| IdentityKey::from_bytes(&[i as u8 + 1; 32])).collect();
        let entries = keys.iter().enumerate();
        let entries = entries.map(|(i, k)| RosterEntry { name: format!("silo-{i}"), identity: k.public() }).collect();
        let roster = Roster::new("test", 1, entries).unwrap();
        let quorum = Quorum::derive(n, c, None).unwrap();
        let params = Params {
            segments: vec![Segment::fixed_point("lora_B", d, 16, 0.5, n).unwrap(), Segment::counts("metrics", 2, n)],
            quorum,
            noise: false,
            verify_sum: VerifySum::Sketches,
            training_deadline_ms: 1000,
            phase_deadline_ms: 1000,
        };
        params.check().unwrap();
        let context = Context {
            federation_id: roster.federation_id().into(),
            roster_hash: roster.hash(),
            roster_version: roster.version(),
            job_digest: sha256(b"job"),
            round: 1,
            attempt,
            params_hash: params.hash(),
            previous_result_hash: sha256(b"job"),
            model_hash: sha256(b"model"),
        };
        let ctx = context.digest();
        let secrets: Vec<_> = (0..n).map(|_| SessionSecrets::generate(&ctx, &mut rng)).collect();
        let mark = JournalMark { length: 3, head: sha256(b"journal") };
        let adverts: Vec<_> =
            roster.ids().map(|i| Advert::sign(&keys[i.index()], &ctx, i, &secrets[i.index()], mark, true)).collect();
        let (dealings, own_pairs) = (Vec::new(), Vec::new());
        let mut kit = Kit { keys, roster, params, context, ctx, secrets, adverts, dealings, own_pairs, rng };
        kit.deal();
        kit
    }

    /// P2, by everybody who advertised.
    pub fn deal(&mut self) {
        let verified = self.verified_adverts();
        (self.dealings, self.own_pairs) = (Vec::new(), Vec::new());
        for i in verified.ids() {
            let (key, secrets, t) = (&self.keys[i.index()], &self.secrets[i.index()], self.params.quorum.t);
            let (dealing, own) = share::deal(key, i, secrets, &verified, t, &mut self.rng).unwrap();
            self.dealings.push(dealing);
            self.own_pairs.push(own);
        }
    }

    pub fn rules(&self) -> Rules<'_> {
        Rules { roster: &self.roster, ctx: &self.ctx, quorum: &self.params.quorum }
    }

    pub fn verified_adverts(&self) -> VerifiedAdverts {
        verify::adverts(&self.rules(), self.adverts.clone(), None, &[]).unwrap()
    }

    pub fn headers(&self) -> Vec<ShareHeader> {
        self.dealings.iter().map(|d| d.header.clone()).collect()
    }

    pub fn verified_headers(&self) -> VerifiedHeaders {
        verify::headers(&self.rules(), self.headers(), &self.verified_adverts(), None).unwrap()
    }

    pub fn verified_dealings(&self) -> BTreeMap<SiloId, VerifiedDealing> {
        let adverts = self.verified_adverts();
        let verified = self.dealings.iter().map(|d| verify::dealing(&self.rules(), d.clone(), &adverts).unwrap());
        verified.map(|d| (d.dealer(), d)).collect()
    }

    /// The shares that one silo dealt to another.
    pub fn pair(&self, dealer: u16, recipient: u16) -> PairShares {
        let (dealer, recipient) = (SiloId(dealer), SiloId(recipient));
        self.pair_in(&self.dealings[dealer.index()], &self.own_pairs[dealer.index()], recipient)
    }

    /// The shares for one silo in a dealing, whose dealer's own pair is `own`.
    pub fn pair_in(&self, dealing: &Dealing, own: &HeldPair, recipient: SiloId) -> PairShares {
        let (dealer, adverts) = (dealing.header.silo, self.verified_adverts());
        if dealer == recipient {
            return own.shares.clone();
        }
        let (t1, advert) = (adverts.t1(), adverts.get(dealer).unwrap());
        let channel = &self.secrets[recipient.index()].channel;
        let key = channel.key_from(&t1, recipient, (dealer, &advert.channel_key)).unwrap();
        dealing.pairs[adverts.position(recipient).unwrap()].sealed.open(&key, &t1, dealer, recipient).unwrap()
    }

    /// All that one silo holds after P2.
    pub fn held(&self, silo: SiloId) -> HeldShares {
        let (adverts, mut held) = (self.verified_adverts(), HeldShares::new(silo));
        assert!(held.insert(self.own_pairs[silo.index()].clone()));
        for dealing in self.verified_dealings().values().filter(|d| d.dealer() != silo) {
            let delivery = dealing.delivery(silo).unwrap();
            let channel = &self.secrets[silo.index()].channel;
            assert!(held.insert(verify::delivery(&delivery, dealing.header(), &adverts, silo, channel).unwrap()));
        }
        held
    }

    /// The reply of one silo to a list.
    pub fn reply(&self, silo: SiloId, list: &VerifiedList) -> PendingReveal {
        self.held(silo).into_reply(list, &self.keys[silo.index()], &self.ctx)
    }

    /// A silo's encoded values before masking.
    pub fn encode(&mut self, values: &[f32], counts: &[u32]) -> Vec<u32> {
        let mut lanes = Vec::new();
        for segment in &self.params.segments {
            match segment.kind {
                SegmentKind::FixedPoint { .. } => {
                    fixed_point::encode(values, segment, &mut self.rng, &mut lanes).unwrap();
                }
                SegmentKind::Counts { .. } => fixed_point::encode_counts(counts, segment, &mut lanes).unwrap(),
            }
        }
        lanes
    }

    /// A silo's masked input.
    pub fn mask(&self, silo: SiloId, mut lanes: Vec<u32>) -> (MaskedHeader, Vec<u8>) {
        let headers = self.verified_headers();
        let streams = masked::streams(silo, &self.secrets[silo.index()], &self.verified_adverts(), &headers).unwrap();
        mask::apply(&mut lanes, &streams, 2);
        let packed = packing::pack(&self.params, &lanes).unwrap();
        let header = MaskedHeader::sign(&self.keys[silo.index()], &self.ctx, &headers.bind(), silo, &packed);
        (header, packed)
    }

    /// A survivor list over made-up masked inputs.
    pub fn list_of(&self, survivors: &[SiloId]) -> SurvivorList {
        let bind = self.verified_headers().bind();
        let sign = |&i: &SiloId| MaskedHeader::sign(&self.keys[i.index()], &self.ctx, &bind, i, &i.to_bytes());
        SurvivorList(survivors.iter().map(sign).collect())
    }

    pub fn verified_list(&self, survivors: &[SiloId]) -> VerifiedList {
        verify::survivor_list(&self.rules(), self.list_of(survivors), &self.verified_headers(), None).unwrap()
    }

    pub fn certificate(&self, t3: &Digest, voters: &[SiloId]) -> CommitCertificate {
        let sign = |&i: &SiloId| CommitVote::sign(&self.keys[i.index()], &self.ctx, i, t3);
        CommitCertificate(voters.iter().map(sign).collect())
    }
}
