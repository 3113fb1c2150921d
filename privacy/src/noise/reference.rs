//! A second, slow sampler that takes the same digits, and the tree of all digits: what the tests hold the fast one to.
//!
//! [`draw`] follows the letter of Karney's algorithm N over intervals of rational numbers: a number is the interval that
//! its digits leave open, a comparison draws digits of the wider one until the intervals part, and rounding is decided
//! when both ends of σ(k + x) round alike. It shares no line with the fast sampler but the source of bits, so that value
//! and bits used must agree draw by draw. [`enumerate`] adds up the exact probability of each result over every string
//! of bits up to a length.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::RoundedGaussian;
use super::digits::Digits;

/// Bits from a seed, as digits of `B` bits.
pub(super) struct Tape<const B: u32> {
    rng: ChaCha8Rng,
    word: u32,
    left: u32,
    pub(super) used: u64,
}

impl<const B: u32> Tape<B> {
    pub(super) fn new(seed: u64) -> Self {
        Tape { rng: ChaCha8Rng::seed_from_u64(seed), word: 0, left: 0, used: 0 }
    }
}

impl<const B: u32> Digits for Tape<B> {
    const BITS: u32 = B;

    fn digit(&mut self) -> u32 {
        self.bits(B)
    }

    fn bits(&mut self, count: u32) -> u32 {
        let mut drawn = 0;
        for _ in 0..count {
            if self.left == 0 {
                (self.word, self.left) = (self.rng.next_u32(), 32);
            }
            drawn = drawn << 1 | self.word & 1;
            (self.word, self.left, self.used) = (self.word >> 1, self.left - 1, self.used + 1);
        }
        drawn
    }
}

/// A number of which is known that it lies in [low, low + width) / 2^depth.
#[derive(Clone, Copy)]
struct Real {
    low: u128,
    width: u128,
    depth: u32,
}

impl Real {
    fn unit() -> Self {
        Real { low: 0, width: 1, depth: 0 }
    }

    /// Cuts the interval to one of 2^bits parts.
    fn refine<const B: u32>(&mut self, bits: u32, tape: &mut Tape<B>) {
        let part = u128::from(tape.bits(bits));
        let wide = self.width == 2;
        assert!(bits == if wide { 1 } else { B } && self.depth < 70);
        if wide {
            *self = Real { low: self.low + part, width: 1, depth: self.depth };
        } else {
            *self = Real { low: (self.low << B) + part, width: 1, depth: self.depth + B };
        }
    }

    /// Both ends over 2^100.
    fn ends(&self, plus: u32) -> (u128, u128) {
        let low = self.low + (u128::from(plus) << self.depth);
        (low << (100 - self.depth), (low + self.width) << (100 - self.depth))
    }

    /// Whether self < plus + other, drawing digits until it is certain.
    fn is_below<const B: u32>(&mut self, other: &mut Real, plus: u32, tape: &mut Tape<B>) -> bool {
        loop {
            let (own, others) = (self.ends(0), other.ends(plus));
            if own.1 <= others.0 || own.0 >= others.1 {
                return own.1 <= others.0;
            }
            if self.width == 2 {
                self.refine(1, tape);
            } else if self.depth <= other.depth {
                self.refine(B, tape);
            } else {
                other.refine(B, tape);
            }
        }
    }
}

fn uniform<const B: u32>(tape: &mut Tape<B>) -> Real {
    let mut u = Real::unit();
    u.refine(B, tape);
    u
}

/// Whether the longest decreasing run below `x` has even length, every member passing `r < (2k + x)/(2k + 2)`; without
/// `k` there is no such `r`.
fn even_run<const B: u32>(x: &mut Real, k: Option<u32>, tape: &mut Tape<B>) -> bool {
    let (mut n, mut y) = (0, None);
    loop {
        if let Some(k) = k {
            // r = (f + u)/(2k + 2): first which pair of the 2k + 2 parts it is in, then which of the pair
            let bits = 32 - k.leading_zeros();
            let pair = loop {
                let pair = if k > 0 { tape.bits(bits) } else { 0 };
                if pair <= k {
                    break pair;
                }
            };
            let mut r = Real { low: u128::from(2 * pair), width: 2, depth: 0 };
            if !r.is_below(x, 2 * k, tape) {
                return n % 2 == 0;
            }
        }
        let mut z = uniform(tape);
        if !z.is_below(y.as_mut().unwrap_or(&mut *x), 0, tape) {
            return n % 2 == 0;
        }
        (n, y) = (n + 1, Some(z));
    }
}

/// True with probability e^(−1/2): the run below 1/2, of which all digits are known.
fn inverse_root_e<const B: u32>(tape: &mut Tape<B>) -> bool {
    let (mut first, mut z) = (uniform(tape), uniform(tape));
    if first.ends(0).0 >= 1 << 99 {
        return true;
    }
    let mut n = 1;
    while z.is_below(&mut first, 0, tape) {
        (first, z, n) = (z, uniform(tape), n + 1);
    }
    n % 2 == 0
}

/// A draw of round(σZ).
pub(super) fn draw<const B: u32>(sigma: f64, tape: &mut Tape<B>) -> i64 {
    let (k, mut x) = 'attempt: loop {
        let mut k = 0u32;
        while inverse_root_e(tape) {
            k += 1;
        }
        for _ in 1..k {
            for _ in 0..k {
                if !inverse_root_e(tape) {
                    continue 'attempt;
                }
            }
        }
        let mut x = uniform(tape);
        for _ in 0..k + 1 {
            if !even_run(&mut x, Some(k), tape) {
                continue 'attempt;
            }
        }
        break (k, x);
    };
    let sign = if tape.bits(1) == 1 { -1 } else { 1 };
    // σ = numerator / 2^shift
    let (mut numerator, mut shift) = (sigma, 0);
    while numerator.fract() != 0.0 {
        (numerator, shift) = (2.0 * numerator, shift + 1);
    }
    loop {
        // 2σ(k + x) + 1 over 2^(shift + depth), at both ends; the upper one is not reached
        let end = |low: u128| 2 * numerator as u128 * ((u128::from(k) << x.depth) + low) + (1 << (shift + x.depth));
        let half = shift + x.depth + 1;
        let (least, most) = (end(x.low) >> half, (end(x.low + 1) - 1) >> half);
        if least == most {
            return sign * least as i64;
        }
        x.refine(B, tape);
    }
}

/// A string of bits, all 0 beyond what was set; and once the length is used up, whatever ends the call.
pub(super) struct Script {
    bits: Vec<bool>,
    at: usize,
    length: usize,
    rng: ChaCha8Rng,
}

impl Digits for Script {
    const BITS: u32 = 1;

    fn digit(&mut self) -> u32 {
        self.bits(1)
    }

    fn bits(&mut self, count: u32) -> u32 {
        let mut drawn = 0;
        for _ in 0..count {
            let bit = if self.at < self.length {
                if self.at == self.bits.len() {
                    self.bits.push(false);
                }
                u32::from(self.bits[self.at])
            } else {
                self.rng.next_u32() & 1
            };
            self.at += 1;
            drawn = drawn << 1 | bit;
        }
        drawn
    }
}

/// The probability of each result of `call` decided within `length` bits, and that of none; all exact.
pub(super) fn enumerate<T: Ord>(length: usize, call: impl Fn(&mut Script) -> T) -> (BTreeMap<T, f64>, f64) {
    let (mut decided, mut open) = (BTreeMap::new(), 0.0);
    let mut script = Script { bits: Vec::new(), at: 0, length, rng: ChaCha8Rng::seed_from_u64(0) };
    loop {
        script.at = 0;
        let result = call(&mut script);
        let mass = 0.5f64.powi(script.bits.len() as i32);
        let place = if script.at <= length { decided.entry(result).or_insert(0.0) } else { &mut open };
        *place += mass;
        // the next string that does not begin with the bits used
        while script.bits.pop_if(|bit| *bit).is_some() {}
        match script.bits.last_mut() {
            Some(bit) => *bit = true,
            None => return (decided, open),
        }
    }
}

/// Draws of the fast sampler and of this one over the same tape.
fn agree<const B: u32>(draws: u32) {
    for sigma in [0.0625, 0.5, 1.0, 3.3, 64.0, 1e6 + 1.0 / 3.0, 1e9 / 3.0, RoundedGaussian::SIGMA_MAX] {
        let noise = RoundedGaussian::new(sigma).unwrap();
        let (mut fast, mut slow) = (Tape::<B>::new(u64::from(B)), Tape::<B>::new(u64::from(B)));
        for i in 0..draws {
            let (a, b) = (noise.draw(&mut fast), draw(sigma, &mut slow));
            assert_eq!((a, fast.used), (b, slow.used), "draw {i} at sigma {sigma} with digits of {B} bits");
        }
    }
}

#[test]
fn every_decision_agrees_with_the_slow_sampler() {
    agree::<1>(20_000);
    agree::<2>(20_000);
    agree::<5>(20_000);
    agree::<9>(20_000);
}
