//! P2: checks on share headers, dealings, deliveries and complaints.

use super::{Check, Rules, VerifiedAdverts, VerifyError, list, signed};
use crate::complaint::Complaint;
use crate::evidence::SignedPair;
use crate::hash::Digest;
use crate::identity::SiloId;
use crate::keys::ChannelKey;
use crate::labels::Label;
use crate::merkle::{self, Tree};
use crate::share::{Dealing, DealtPair, Delivery, HeldPair, PairLeaves, SEALED_BYTES, ShareHeader, pair_tree};
use crate::transcript;

/// A share header with its dealer's signature checked.
#[derive(Debug, Clone)]
pub struct VerifiedHeader {
    ctx: Digest,
    t1: Digest,
    header: ShareHeader,
}

impl VerifiedHeader {
    /// The context that it was checked against.
    pub fn ctx(&self) -> &Digest {
        &self.ctx
    }

    /// The T1 that it was checked against.
    pub fn t1(&self) -> Digest {
        self.t1
    }

    /// The header.
    pub fn header(&self) -> &ShareHeader {
        &self.header
    }
}

/// U2: the share headers of an attempt, all checked.
#[derive(Debug, Clone)]
pub struct VerifiedHeaders {
    t1: Digest,
    t2: Digest,
    bind: Digest,
    headers: Vec<ShareHeader>,
}

impl VerifiedHeaders {
    /// T1.
    pub fn t1(&self) -> Digest {
        self.t1
    }

    /// T2.
    pub fn t2(&self) -> Digest {
        self.t2
    }

    /// bind = H("bind"; T2).
    pub fn bind(&self) -> Digest {
        self.bind
    }

    /// The headers in order of id.
    pub fn headers(&self) -> &[ShareHeader] {
        &self.headers
    }

    /// U2 in order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = SiloId> + Clone + '_ {
        self.headers.iter().map(|h| h.silo)
    }

    /// A silo's header.
    pub fn get(&self, silo: SiloId) -> Option<&ShareHeader> {
        self.headers.binary_search_by_key(&silo, |h| h.silo).ok().map(|i| &self.headers[i])
    }
}

/// SA-02, SA-03, SA-05: one header: its dealer is in U1 and has signed root and commitment under this T1.
///
/// # Errors
/// [`VerifyError`] blaming the dealer.
pub fn header(
    rules: &Rules<'_>,
    header: ShareHeader,
    adverts: &VerifiedAdverts,
) -> Result<VerifiedHeader, VerifyError> {
    check_header(rules, &header, adverts)?;
    Ok(VerifiedHeader { ctx: *rules.ctx, t1: adverts.t1(), header })
}

fn check_header(rules: &Rules<'_>, header: &ShareHeader, adverts: &VerifiedAdverts) -> Result<(), VerifyError> {
    same_context(rules, adverts)?;
    if Check::DealerAdvertised.finds(adverts.get(header.silo).is_none()) {
        let what = "it dealt shares without having advertised keys".into();
        return Err(VerifyError::of(Check::DealerAdvertised, header.silo, what));
    }
    let t1 = adverts.t1();
    let fields: [&[u8]; 3] = [&t1.0, &header.root.0, &header.commitment_b.0];
    signed(rules, Check::HeaderSignature, header.silo, Label::ShareHeader, &fields, &header.signature)
}

fn same_context(rules: &Rules<'_>, adverts: &VerifiedAdverts) -> Result<(), VerifyError> {
    if Check::SameSession.finds(adverts.ctx() != rules.ctx) {
        return Err(VerifyError::new(Check::SameSession, "the verified adverts belong to another session"));
    }
    Ok(())
}

/// SA-03, SA-05: the headers of an attempt: at least m, ascending ids of U1, every signature ([`header`]), `own` (a silo's
/// own header; the coordinator has none) among them as sent.
///
/// # Errors
/// [`VerifyError`], blaming a silo where one header is at fault.
pub fn headers(
    rules: &Rules<'_>,
    headers: Vec<ShareHeader>,
    adverts: &VerifiedAdverts,
    own: Option<&ShareHeader>,
) -> Result<VerifiedHeaders, VerifyError> {
    let (least, most) = (usize::from(rules.quorum.m), adverts.adverts().len());
    list("share headers", headers.iter().map(|h| h.silo), least, most)?;
    if Check::OwnHeader.finds(own.is_some_and(|own| !headers.contains(own))) {
        return Err(VerifyError::new(Check::OwnHeader, "this silo's own share header is missing or altered"));
    }
    headers.iter().try_for_each(|h| check_header(rules, h, adverts))?;
    let t2 = transcript::t2(&adverts.t1(), &headers);
    Ok(VerifiedHeaders { t1: adverts.t1(), t2, bind: transcript::bind(&t2), headers })
}

/// A dealer's whole dealing as the coordinator keeps it: signed header, and all leaves under its root.
#[derive(Debug, Clone)]
pub struct VerifiedDealing {
    header: VerifiedHeader,
    recipients: Vec<SiloId>,
    pairs: Vec<DealtPair>,
    tree: Tree,
}

impl VerifiedDealing {
    /// The dealer.
    pub fn dealer(&self) -> SiloId {
        self.header.header.silo
    }

    /// Its header.
    pub fn header(&self) -> &VerifiedHeader {
        &self.header
    }

    /// The leaves of one recipient.
    pub fn leaves(&self, recipient: SiloId) -> Option<PairLeaves> {
        self.place(recipient).map(|i| self.pairs[i].leaves)
    }

    /// What goes to one recipient; `None` for the dealer itself and for silos outside U1.
    pub fn delivery(&self, recipient: SiloId) -> Option<Delivery> {
        let place = self.place(recipient).filter(|_| recipient != self.dealer())?;
        let DealtPair { leaves, sealed } = self.pairs[place].clone();
        Some(Delivery { dealer: self.dealer(), leaves, path: self.tree.path(place), sealed })
    }

    /// Whether this is what a dealer sent, byte for byte.
    pub fn is(&self, dealing: &Dealing) -> bool {
        self.header.header == dealing.header && self.pairs == dealing.pairs
    }

    /// What the dealer signed for one recipient, itself included, with the path to its root; for [`crate::evidence`].
    pub fn signed_pair(&self, recipient: SiloId) -> Option<SignedPair> {
        let place = self.place(recipient)?;
        let DealtPair { leaves, sealed } = &self.pairs[place];
        Some(SignedPair { leaves: *leaves, ciphertext: sealed.hash(), path: self.tree.path(place) })
    }

    fn place(&self, recipient: SiloId) -> Option<usize> {
        self.recipients.binary_search(&recipient).ok()
    }
}

/// SA-03, SA-05: a dealing as it reaches the coordinator: header ([`header`]), one pair for each silo of U1, sealed bundles
/// of the one admitted size (none for the dealer), and leaves and ciphertexts that lead to the signed root.
///
/// # Errors
/// [`VerifyError`] blaming the dealer.
pub fn dealing(rules: &Rules<'_>, dealing: Dealing, adverts: &VerifiedAdverts) -> Result<VerifiedDealing, VerifyError> {
    let dealer = dealing.header.silo;
    let recipients: Vec<SiloId> = adverts.ids().collect();
    if Check::DealingPairs.finds(dealing.pairs.len() != recipients.len()) {
        let what = format!("it dealt {} pairs of shares, not {}", dealing.pairs.len(), recipients.len());
        return Err(VerifyError::of(Check::DealingPairs, dealer, what));
    }
    for (&recipient, pair) in recipients.iter().zip(&dealing.pairs) {
        let expected = if recipient == dealer { 0 } else { SEALED_BYTES };
        if Check::BundleSize.finds(pair.sealed.0.len() != expected) {
            let what = format!("its bundle for silo {recipient} has {} bytes, not {expected}", pair.sealed.0.len());
            return Err(VerifyError::of(Check::BundleSize, dealer, what));
        }
    }
    let header = header(rules, dealing.header, adverts)?;
    let tree = pair_tree(&recipients, &dealing.pairs);
    if Check::DealingRoot.finds(tree.root() != header.header.root) {
        let what = "its leaves and ciphertexts do not lead to the root that it signed".into();
        return Err(VerifyError::of(Check::DealingRoot, dealer, what));
    }
    Ok(VerifiedDealing { header, recipients, pairs: dealing.pairs, tree })
}

/// Why a delivery gives no shares.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// It is not what the dealer signed: altered or misrouted on the way. Treat it as missing, and do not complain.
    #[error("{0}")]
    NotAsSigned(VerifyError),
    /// It is what the dealer signed, and wrong: sign a [`Complaint`].
    #[error("{0}")]
    DealerAtFault(VerifyError),
}

/// SA-03: a delivery to `recipient`: its pair lies under the dealer's signed root at the recipient's place, the bundle opens
/// with the key of this session, dealer and recipient, and both shares open their leaves.
///
/// # Errors
/// [`DeliveryError`], which says whether the dealer is to blame.
pub fn delivery(
    delivery: &Delivery,
    header: &VerifiedHeader,
    adverts: &VerifiedAdverts,
    recipient: SiloId,
    channel: &ChannelKey,
) -> Result<HeldPair, DeliveryError> {
    let (dealer, t1) = (delivery.dealer, adverts.t1());
    let altered = |check, what: &str| DeliveryError::NotAsSigned(VerifyError::of(check, dealer, what.into()));
    if Check::DeliveryHeader.finds(header.header.silo != dealer || header.t1 != t1) {
        return Err(altered(Check::DeliveryHeader, "its delivery and its header do not belong together"));
    }
    let (Some(advert), Some(place)) = (adverts.get(dealer), adverts.position(recipient)) else {
        return Err(altered(Check::DeliveryHeader, "its delivery is for a silo that did not advertise keys"));
    };
    if Check::BundleSize.finds(delivery.sealed.0.len() != SEALED_BYTES || dealer == recipient) {
        return Err(altered(Check::BundleSize, "its delivery is not a sealed bundle for this silo"));
    }
    let pair = delivery.leaves.pair_hash(recipient, &delivery.sealed);
    let root = merkle::root_of_path(pair, place, adverts.adverts().len(), &delivery.path);
    if Check::DeliveryRoot.finds(root != Some(header.header.root)) {
        return Err(altered(Check::DeliveryRoot, "its delivery does not lead to the root that it signed"));
    }
    let wrong = |what: &str| DeliveryError::DealerAtFault(VerifyError::of(Check::DeliveryLeaves, dealer, what.into()));
    let shares = channel
        .key_from(&t1, recipient, (dealer, &advert.channel_key))
        .ok()
        .and_then(|key| delivery.sealed.open(&key, &t1, dealer, recipient))
        .ok_or_else(|| wrong("the bundle that it signed does not decrypt"))?;
    if Check::DeliveryLeaves.finds(shares.leaves(&t1, dealer, recipient) != delivery.leaves) {
        return Err(wrong("the shares in its bundle are not those of the leaves that it signed"));
    }
    Ok(HeldPair { dealer, recipient, shares })
}

/// SA-03: a complaint: complainer and dealer are two silos of U1, and the complainer signed under this T1 for this header.
///
/// # Errors
/// [`VerifyError`] blaming the complainer.
pub fn complaint(
    rules: &Rules<'_>,
    complaint: &Complaint,
    header: &VerifiedHeader,
    adverts: &VerifiedAdverts,
) -> Result<(), VerifyError> {
    let dealer = header.header.silo;
    let stranger = complaint.silo == dealer || adverts.get(complaint.silo).is_none();
    if Check::ComplaintParties.finds(complaint.dealer != dealer || stranger) {
        let what = "its complaint is not about another silo's dealing in this attempt".into();
        return Err(VerifyError::of(Check::ComplaintParties, complaint.silo, what));
    }
    let fields: [&[u8]; 4] = [&header.t1.0, &dealer.to_bytes(), &header.header.root.0, &complaint.ciphertext.0];
    signed(rules, Check::ComplaintSignature, complaint.silo, Label::Complaint, &fields, &complaint.signature)
}
