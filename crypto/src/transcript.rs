//! The digests that chain a session: T1, T2, bind, T3 and the result hash.
//!
//! Contract: lists are hashed in the order given, which `verify` has checked to be ascending by silo; signatures are left
//! out, since each is checked over content that is hashed here.

use crate::advert::Advert;
use crate::hash::{Digest, Hasher};
use crate::labels::Label;
use crate::masked::MaskedHeader;
use crate::share::ShareHeader;

/// T1 = H(ctx, adverts).
pub fn t1(ctx: &Digest, adverts: &[Advert]) -> Digest {
    let hasher = Hasher::new(Label::T1).digest(ctx).u64(adverts.len() as u64);
    let add = |h: Hasher, a: &Advert| {
        let h = h.field(&a.silo.to_bytes()).field(&a.channel_key).field(&a.mask_key);
        h.u64(a.journal_length).digest(&a.journal_head).field(&[u8::from(a.counts)])
    };
    adverts.iter().fold(hasher, add).finish()
}

/// T2 = H(T1, headers).
pub fn t2(t1: &Digest, headers: &[ShareHeader]) -> Digest {
    let hasher = Hasher::new(Label::T2).digest(t1).u64(headers.len() as u64);
    let add = |h: Hasher, s: &ShareHeader| h.field(&s.silo.to_bytes()).digest(&s.root).digest(&s.commitment_b);
    headers.iter().fold(hasher, add).finish()
}

/// bind = H("bind"; T2).
pub fn bind(t2: &Digest) -> Digest {
    Hasher::new(Label::Bind).digest(t2).finish()
}

/// H(y) of a packed masked input.
pub fn masked_hash(packed: &[u8]) -> Digest {
    Hasher::new(Label::MaskedInput).field(packed).finish()
}

/// T3 = H(bind, list).
pub fn t3(bind: &Digest, list: &[MaskedHeader]) -> Digest {
    let hasher = Hasher::new(Label::T3).digest(bind).u64(list.len() as u64);
    list.iter().fold(hasher, |h, m| h.field(&m.silo.to_bytes()).digest(&m.hash)).finish()
}

/// H(S) of a packed sum.
pub fn sum_hash(packed: &[u8]) -> Digest {
    Hasher::new(Label::Sum).field(packed).finish()
}

/// Key of the rows of the verified sum: H("rows"; T3, H(S)).
pub fn rows_key(t3: &Digest, sum_hash: &Digest) -> Digest {
    Hasher::new(Label::Rows).digest(t3).digest(sum_hash).finish()
}

/// result_hash = H("result"; T3, H(S), next model_hash).
pub fn result_hash(t3: &Digest, sum_hash: &Digest, next_model_hash: &Digest) -> Digest {
    Hasher::new(Label::ResultHash).digest(t3).digest(sum_hash).digest(next_model_hash).finish()
}
