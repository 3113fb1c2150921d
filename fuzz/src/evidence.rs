//! Evidence against a silo: what is not proven convicts nobody, whoever made it up.
//!
//! Byte 0 even: the rest is an encoding. Odd: which real evidence, and three bytes of how it is altered. All real evidence
//! is against silo 2, so that no other silo may ever be named.

use blindsum_crypto::{Evidence, SiloId};
use blindsum_protocol::{codec, evidence};

use crate::coordinator;
use crate::input::Input;
use crate::seeds;
use crate::tamper::Tamper;
use crate::world::World;

/// Who lies in every session that the evidence is from.
const LIAR: SiloId = SiloId(2);

/// What a coordinator gathered against a silo that lies in each of its ways.
pub fn genuine() -> Vec<Evidence> {
    seeds::liars().iter().flat_map(|bytes| coordinator::convictions(bytes)).collect()
}

thread_local! {
    static GENUINE: Vec<Evidence> = genuine();
}

/// Decodes or alters evidence, and checks it.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let found = if input.byte() & 1 == 0 {
        let bytes = input.rest();
        let Ok(found) = codec::decode::<Evidence>(bytes, 1 << 18) else { return };
        assert_eq!(codec::encode(&found).unwrap(), bytes, "two encodings of one value");
        found
    } else {
        let which = usize::from(input.byte());
        let tamper = Tamper::read(&mut input);
        GENUINE.with(|genuine| tamper.apply(genuine[which % genuine.len()].clone()))
    };
    let world = World::get(true);
    match evidence::check(&world.setup.roster, world.plan().job(), &found) {
        Ok(guilt) => assert_eq!(guilt.silo, LIAR, "an honest silo is convicted: {}", guilt.what),
        Err(e) => {
            let real = GENUINE.with(|genuine| genuine.contains(&found));
            assert!(!real, "real evidence is refused: {e}");
        }
    }
}
