//! The seed corpus: what real sessions give, by target and name. `make fuzz-corpus` writes it out anew, which is due after
//! every change of what travels.

mod files;
mod machines;
mod sessions;

pub use machines::liars;

/// One seed: target, name, bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// All seeds.
pub fn all() -> Vec<Seed> {
    let mut seeds = machines::silo();
    seeds.extend(machines::coordinator());
    seeds.extend(sessions::all());
    seeds.extend(files::all());
    seeds.sort();
    seeds
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_seed_passes_its_target_and_is_small() {
        let mut seen = BTreeSet::new();
        let seeds = super::all();
        for (target, name, bytes) in &seeds {
            assert!(bytes.len() <= 16 << 10, "{target}/{name} has {} bytes", bytes.len());
            let run = crate::TARGETS.iter().find(|(known, _)| known == target).expect("a known target").1;
            run(bytes);
            seen.insert(*target);
        }
        assert_eq!(seen.len(), crate::TARGETS.len(), "a target has no seed");
        assert!(seeds.iter().map(|(_, _, bytes)| bytes.len()).sum::<usize>() < 1 << 20);
    }
}
