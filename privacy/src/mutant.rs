//! What may go wrong in the mechanism by a slip that nobody would see in a result: each fault by name.
//!
//! Contract: a test makes one of them live in its own thread (`teeth`, which is there in tests only) and shows that a check
//! notices. In programs [`Mutant::lives`] is the constant `false`, so that nothing of a fault is compiled.

macro_rules! mutants {
    ($($list:ident: $($(#[$doc:meta])* $name:ident,)*;)*) => {
        /// One fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mutant {
            $($($(#[$doc])* $name,)*)*
        }

        impl Mutant {
            $(
                /// Those of one table.
                pub const $list: &'static [Mutant] = &[$(Mutant::$name),*];
            )*
        }
    };
}

// A list for each table of checks that catches them; a crate above has one of its own.
mutants! {
    // `engine/tests/audit/mutants.rs`
    MECHANISM:
    /// No noise is added.
    NoNoise,
    /// The noise has nine tenths of its standard deviation.
    LessNoise,
    /// Noise is added once for every few rows instead of once, and to an empty batch not at all.
    NoisePerMicroBatch,
    /// The mean gradient of a batch is clipped instead of each row's.
    ClipOfTheMean,
    /// Each layer's gradient is clipped on its own, so that all together are longer.
    PerLayerClip,
    /// Batches of one size are drawn without replacement.
    Shuffle,
    /// The sum is divided by the number of rows drawn.
    DrawnDivisor,
    /// The generator starts from the same words each time.
    FixedSeed,
    /// The sum is rounded to f32 and cut at one clip norm before noise is added, instead of after.
    NoiseAfterSaturation,
    /// The noise follows from the number of records.
    NoiseFromRecords,
    /// Batches are cut and δ does not pay for it.
    UnchargedCut,
    /// A person's records count as one.
    GroupOfOne,
    /// All rows of a person count, however few the job lets count.
    UnitCapIgnored,
    ;
    // the same file: what becomes of rows before a step
    ROWS:
    /// A held-out row may be a training row.
    HeldOutOverlap,
    /// A record is told by its bytes: a space more makes another one.
    RawIdentities,
    ;
}

impl Mutant {
    /// Whether a test has made it live in this thread.
    #[must_use]
    #[inline]
    pub fn lives(self) -> bool {
        lives(self)
    }
}

#[cfg(any(test, feature = "teeth"))]
use crate::teeth::lives;

/// In programs none does.
#[cfg(not(any(test, feature = "teeth")))]
const fn lives(_: Mutant) -> bool {
    false
}
