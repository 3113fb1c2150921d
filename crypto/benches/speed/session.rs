//! An honest session up to the survivors' replies, through the public functions.

use blindsum_crypto::advert::SessionSecrets;
use blindsum_crypto::mask::Stream;
use blindsum_crypto::masked;
use blindsum_crypto::share::{self, HeldShares};
use blindsum_crypto::unmask::{Masks, Recovery};
use blindsum_crypto::verify::{self, Rules, VerifiedAdverts, VerifiedDealing, VerifiedHeaders, VerifiedList};
use blindsum_crypto::{
    Advert, CommitCertificate, CommitVote, IdentityKey, JournalMark, MaskedHeader, Params, Quorum, Reveal, Roster,
    RosterEntry, Segment, SiloId, SurvivorList, sha256,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use std::collections::BTreeMap;

/// One segment of d coordinates, 16-bit values in a ring that n silos cannot overflow.
pub fn params(d: usize, n: u16) -> Params {
    let params = Params {
        segments: vec![Segment::fixed_point("lora_B", d as u32, 16, 0.5, n).expect("a segment")],
        quorum: Quorum::derive(n, None, None).expect("a quorum"),
        noise: false,
        verify_sum: blindsum_crypto::VerifySum::Sketches,
        training_deadline_ms: 1000,
        phase_deadline_ms: 1000,
    };
    params.check().expect("parameters of the benchmark");
    params
}

/// What the coordinator holds when the last reply has come.
pub struct Session {
    roster: Roster,
    pub params: Params,
    adverts: VerifiedAdverts,
    headers: VerifiedHeaders,
    dealings: BTreeMap<SiloId, VerifiedDealing>,
    list: VerifiedList,
    replies: Vec<Reveal>,
    secrets: SessionSecrets,
}

impl Session {
    /// n silos, the last of which is dropped after dealing; every survivor replies.
    pub fn new(n: u16, d: usize) -> Session {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let (params, ctx) = (params(d, n), sha256(b"ctx"));
        let keys: Vec<_> = (0..n).map(|_| IdentityKey::generate(&mut rng)).collect();
        let entries = keys.iter().enumerate();
        let entries = entries.map(|(i, k)| RosterEntry { name: format!("silo-{i}"), identity: k.public() }).collect();
        let roster = Roster::new("bench", 1, entries).expect("a roster");
        let rules = Rules { roster: &roster, ctx: &ctx, quorum: &params.quorum };
        let secrets: Vec<_> = keys.iter().map(|_| SessionSecrets::generate(&ctx, &mut rng)).collect();
        let mark = JournalMark { length: 1, head: sha256(b"journal") };
        let ids: Vec<SiloId> = roster.ids().collect();
        let adverts =
            ids.iter().map(|&i| Advert::sign(&keys[i.index()], &ctx, i, &secrets[i.index()], mark, true)).collect();
        let adverts = verify::adverts(&rules, adverts, None, &[]).expect("adverts");
        let (mut dealings, mut dealt) = (BTreeMap::new(), Vec::new());
        for &i in &ids {
            let deal = share::deal(&keys[i.index()], i, &secrets[i.index()], &adverts, params.quorum.t, &mut rng);
            let (dealing, kept) = deal.expect("a dealing");
            dealings.insert(i, verify::dealing(&rules, dealing, &adverts).expect("a dealing"));
            dealt.push(kept);
        }
        let headers = dealings.values().map(|d| d.header().header().clone()).collect();
        let headers = verify::headers(&rules, headers, &adverts, None).expect("headers");
        let survivors = &ids[..ids.len() - 1];
        let sign = |&i: &SiloId| MaskedHeader::sign(&keys[i.index()], &ctx, &headers.bind(), i, &i.to_bytes());
        let list = SurvivorList(survivors.iter().map(sign).collect());
        let list = verify::survivor_list(&rules, list, &headers, None).expect("a list");
        let votes = survivors.iter().map(|&i| CommitVote::sign(&keys[i.index()], &ctx, i, &list.t3())).collect();
        let certificate =
            verify::commit_certificate(&rules, &CommitCertificate(votes), &list.t3(), survivors).expect("votes");
        let replies = survivors.iter().map(|&silo| {
            let mut held = HeldShares::new(silo);
            held.insert(dealt[silo.index()].clone());
            for dealing in dealings.values().filter(|d| d.dealer() != silo) {
                let delivery = dealing.delivery(silo).expect("a recipient");
                let channel = &secrets[silo.index()].channel;
                let pair = verify::delivery(&delivery, dealing.header(), &adverts, silo, channel);
                held.insert(pair.expect("a good pair"));
            }
            held.into_reply(&list, &keys[silo.index()], &ctx).release(&certificate).expect("the same list").clone()
        });
        let replies = replies.collect();
        let secrets = secrets.into_iter().next().expect("the first silo");
        Session { roster, params, adverts, headers, dealings, list, replies, secrets }
    }

    /// P3 at the first silo: the seeds of its self mask and of a pair mask with every other.
    pub fn seeds(&self) -> Vec<Stream> {
        masked::streams(SiloId(0), &self.secrets, &self.adverts, &self.headers).expect("a seed for every peer")
    }

    /// From the replies to the masks that are left: checks every revealed share, rebuilds and checks every secret.
    pub fn masks(&self) -> Masks {
        let rules = Rules { roster: &self.roster, ctx: self.adverts.ctx(), quorum: &self.params.quorum };
        let mut recovery = Recovery::new(self.params.quorum.t, &self.list);
        for reply in &self.replies {
            recovery.add(&verify::reveal(&rules, reply, &self.list, &self.dealings).expect("a good reply"));
        }
        recovery.streams(&self.adverts, &self.headers).expect("every secret")
    }
}
