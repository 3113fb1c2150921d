//! Uniform numbers on [0, 1) of which only as many digits are drawn as a decision needs, and the random words behind.
//!
//! ```text
//! generator ──fill_bytes──► Words: 1 KiB at a time, erased on drop ──digit──► Uniform: 0.d₁d₂d₃… in base 2^BITS
//! ```
//!
//! Contract: a [`Uniform`] is a real number; its digits are drawn when a comparison asks for them and stay as they are.
//! So every comparison decides exactly, for which one digit of 32 bits is enough but for one time in 2³². Source of the
//! idea: von Neumann (1951); Karney, "Sampling exactly from the normal distribution", ACM TOMS 42(1), 2016, section 3.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// Where digits come from: independent and uniform. The tests bring a source of few bits, so that ties are common.
pub(super) trait Digits {
    /// Bits of one digit, 1 to 32.
    const BITS: u32;

    /// The next digit, below 2^BITS.
    fn digit(&mut self) -> u32;

    /// The next `count` bits as a number; `count` is at most 32.
    fn bits(&mut self, count: u32) -> u32;

    /// A uniform integer below `n`, which is not 0.
    fn below(&mut self, n: u32) -> u32 {
        let bits = u32::BITS - (n - 1).leading_zeros();
        loop {
            let drawn = self.bits(bits);
            if drawn < n {
                return drawn;
            }
        }
    }
}

/// Bytes drawn from the generator at a time.
const BUFFER: usize = 1024;

/// Digits of 32 bits from a generator, read in bulk; what is left of the buffer is erased at the end.
pub(super) struct Words<'r, R: CryptoRng> {
    rng: &'r mut R,
    buffer: Zeroizing<[u8; BUFFER]>,
    /// Words of the buffer that are used up.
    used: usize,
    /// Bits that are left of a word drawn for [`Digits::bits`].
    store: Zeroizing<u32>,
    stored: u32,
}

impl<'r, R: CryptoRng> Words<'r, R> {
    pub(super) fn new(rng: &'r mut R) -> Self {
        Words { rng, buffer: Zeroizing::new([0; BUFFER]), used: BUFFER / 4, store: Zeroizing::new(0), stored: 0 }
    }
}

impl<R: CryptoRng> Digits for Words<'_, R> {
    const BITS: u32 = 32;

    #[inline]
    fn digit(&mut self) -> u32 {
        if self.used == BUFFER / 4 {
            self.rng.fill_bytes(&mut *self.buffer);
            self.used = 0;
        }
        let word = self.buffer.as_chunks::<4>().0[self.used];
        self.used += 1;
        u32::from_le_bytes(word)
    }

    #[inline]
    fn bits(&mut self, count: u32) -> u32 {
        if self.stored < count {
            *self.store = self.digit();
            self.stored = 32;
        }
        let drawn = u64::from(*self.store) & ((1 << count) - 1);
        *self.store = (u64::from(*self.store) >> count) as u32;
        self.stored -= count;
        drawn as u32
    }
}

/// A uniform real number on [0, 1) whose digits after the first are drawn on demand.
pub(super) struct Uniform {
    head: u32,
    tail: Vec<u32>,
}

impl Uniform {
    #[inline]
    pub(super) fn draw(digits: &mut impl Digits) -> Self {
        Uniform { head: digits.digit(), tail: Vec::new() }
    }

    /// Whether it is below 1/2, which the first bit says.
    #[inline]
    pub(super) fn is_below_half<D: Digits>(&self, _: &D) -> bool {
        self.head >> (D::BITS - 1) == 0
    }

    /// Whether it is below `other`; ties are settled by further digits of both, its own first.
    #[inline]
    pub(super) fn is_below<D: Digits>(&mut self, other: &mut Uniform, digits: &mut D) -> bool {
        if self.head == other.head { self.tail_is_below(other, digits) } else { self.head < other.head }
    }

    #[cold]
    fn tail_is_below<D: Digits>(&mut self, other: &mut Uniform, digits: &mut D) -> bool {
        let mut i = 0;
        loop {
            for tail in [&mut self.tail, &mut other.tail] {
                if tail.len() == i {
                    tail.push(digits.digit());
                }
            }
            if self.tail[i] != other.tail[i] {
                return self.tail[i] < other.tail[i];
            }
            i += 1;
        }
    }

    /// The first digit.
    #[inline]
    pub(super) fn head(&self) -> u32 {
        self.head
    }

    /// The digit after the first at `i`, from 0, drawn if no decision has asked for it. Asked for in order, each once.
    #[inline]
    pub(super) fn tail<D: Digits>(&self, i: usize, digits: &mut D) -> u32 {
        self.tail.get(i).copied().unwrap_or_else(|| digits.digit())
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn digits_are_the_generators_words_in_order() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut same = rng.clone();
        let mut words = Words::new(&mut rng);
        for i in 0..3 * BUFFER / 4 {
            assert_eq!(words.digit(), same.next_u32(), "word {i}");
        }
        let word = same.next_u32();
        let (low, middle, high) = (words.bits(5), words.bits(0), words.bits(27));
        assert_eq!((low, middle, high), (word & 31, 0, word >> 5));
        assert_eq!(words.bits(32), same.next_u32());
    }

    #[test]
    fn integers_below_n_are_uniform() {
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        let mut words = Words::new(&mut rng);
        for n in [1u32, 2, 3, 6, 7, 8] {
            let mut counts = [0u32; 8];
            (0..80_000).for_each(|_| counts[words.below(n) as usize] += 1);
            let expected = 80_000.0 / f64::from(n);
            for (i, &count) in counts.iter().enumerate() {
                let expected = if i < n as usize { expected } else { 0.0 };
                // Six and a half standard errors: exceeded with a probability below 1e-10.
                assert!((f64::from(count) - expected).abs() <= 6.5 * expected.sqrt(), "{i} below {n}: {count}");
            }
        }
    }
}
