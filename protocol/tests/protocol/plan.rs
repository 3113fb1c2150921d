//! What a plan derives from a job, and the sizes that follow from it.

use blindsum_adapter::AdapterLayout;
use blindsum_crypto::{Digest, IdentityKey, Roster, RosterEntry};
use blindsum_protocol::job::Job;
use blindsum_protocol::limits::{Limits, Wire};
use blindsum_protocol::message::DeclineReason;
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, Plan, RoundKind, SiloMessage, codec};
use blindsum_testkit::{DP, NONE, Setup, job_text};

fn plan_of(text: &str, n: u16) -> Result<Plan, String> {
    let mut rng = blindsum_testkit::rng(1);
    let entries = (0..n)
        .map(|i| RosterEntry { name: format!("ward-{i}"), identity: IdentityKey::generate(&mut rng).public() })
        .collect();
    let roster = Roster::new("wards".to_owned(), 1, entries).unwrap();
    let job: Job = toml::from_str(text).map_err(|e| e.to_string())?;
    let layout: AdapterLayout = blindsum_testkit::layout(&job);
    Plan::derive(&job, &roster, &layout).map_err(|e| e.to_string())
}

fn derived(privacy: &str) -> String {
    job_text(2, privacy, "held-out").replace("coordinate_bound = 32767.0\n", "")
}

#[test]
fn the_coordinate_bound_is_the_worst_case_of_the_job() {
    let sgd = plan_of(&derived(NONE), 4).unwrap();
    assert_eq!(sgd.coordinate_bound(), 0.5 * 5.0 * 1.0);
    let private = plan_of(&derived(DP), 4).unwrap();
    let noise = 6.0 * 5f64.sqrt() * 2.0 * 0.5 / 32.0;
    assert!((private.coordinate_bound() - 0.5 * (5.0 * 0.5 + noise)).abs() < 1e-12);
    let adam = plan_of(&derived(DP).replace("\"sgd\"", "\"adamw\""), 4).unwrap();
    assert!((adam.coordinate_bound() - 0.5 * 5.0 * (0.1 / 0.001f64.sqrt())).abs() < 1e-9);
    assert_eq!(plan_of(&job_text(2, DP, "off"), 4).unwrap().coordinate_bound(), 32767.0);
}

#[test]
fn sa10_the_ring_is_sized_from_n_and_the_metrics_ring_is_full() {
    for (n, bits) in [(3, 18), (4, 18), (5, 19), (16, 20), (100, 23)] {
        let plan = plan_of(&derived(DP), n).unwrap();
        let params = plan.params(RoundKind::TrainB);
        let rings: Vec<(&str, u8)> = params.segments.iter().map(|s| (s.name.as_str(), s.ring_bits)).collect();
        assert_eq!(rings, [("lora_B", bits), ("head", bits), ("metrics", 32)], "n = {n}");
        assert!(params.noise && !plan.params(RoundKind::Evaluate).noise);
        params.check().unwrap();
    }
    let error = plan_of(&derived(DP).replace("value_bits = 16", "value_bits = 24"), 1000).unwrap_err();
    assert!(error.contains("aggregation.value_bits"), "{error}");
}

#[test]
fn four_silos_at_sixteen_bits_send_at_most_2_4_bytes_per_coordinate() {
    let plan = plan_of(&derived(DP), 4).unwrap();
    let bytes = plan.params(RoundKind::TrainB).packed_bytes() as f64;
    let metrics = 20.0;
    assert!((bytes - metrics) / plan.layout().len() as f64 <= 2.4);
}

#[test]
fn a_closing_round_exists_exactly_where_metrics_are_on() {
    let with = plan_of(&job_text(2, NONE, "held-out"), 4).unwrap();
    assert_eq!((with.kind(2), with.kind(3)), (Some(RoundKind::TrainB), Some(RoundKind::Evaluate)));
    assert_eq!((with.kind(0), with.kind(4)), (None, None));
    let without = plan_of(&job_text(2, NONE, "off"), 4).unwrap();
    assert_eq!((without.kind(2), without.kind(3)), (Some(RoundKind::TrainB), None));
}

#[test]
fn a_job_of_another_federation_or_with_impossible_quorums_is_refused() {
    let other = job_text(2, NONE, "off").replace("\"wards\"", "\"banks\"");
    assert!(plan_of(&other, 4).unwrap_err().contains("`federation`"));
    let colluders = job_text(2, NONE, "off").replace("value_bits = 16", "value_bits = 16\nmax_colluders = 3");
    assert!(plan_of(&colluders, 4).unwrap_err().contains("max_colluders"));
}

#[test]
fn sa12_lengths_come_from_the_plan_and_not_from_the_peer() {
    let setup = Setup::new(4, &job_text(2, NONE, "held-out"));
    let limits = Limits::new(&setup.plan);
    let at = AttemptId { round: 1, attempt: 1 };
    let decline = SiloMessage::Decline { at, reason: DeclineReason::CannotTrain };
    assert_eq!(decline.payload_len(&limits), Ok(None));
    let extra = Envelope::with(decline.clone(), std::sync::Arc::new(vec![0]));
    assert!(extra.check_payload(&limits).is_err());
    let bytes = codec::encode(&decline).unwrap();
    assert!(SiloMessage::decode(&[&bytes[..], &[0]].concat(), &limits).is_err(), "trailing byte");
    assert!(SiloMessage::decode(&bytes[..bytes.len() - 1], &limits).is_err(), "cut");
    assert!(SiloMessage::decode(&vec![0; limits.from_silo() + 1], &limits).is_err(), "too long");
    // a list that claims 2^60 entries
    let mut adverts = codec::encode(&CoordinatorMessage::Adverts { at, adverts: vec![] }).unwrap();
    let end = adverts.len();
    adverts[end - 8..].copy_from_slice(&(1u64 << 60).to_le_bytes());
    assert!(CoordinatorMessage::decode(&adverts, &limits).is_err());
    for bytes in [vec![], vec![255; 40], vec![1, 0, 0, 0]] {
        assert!(CoordinatorMessage::decode(&bytes, &limits).is_err());
        assert!(SiloMessage::decode(&bytes, &limits).is_err());
    }
}

#[test]
fn wire_encodings_are_frozen() {
    let hex = |m: &CoordinatorMessage| codec::encode(m).unwrap().iter().map(|b| format!("{b:02x}")).collect::<String>();
    let at = AttemptId { round: 3, attempt: 258 };
    assert_eq!(hex(&CoordinatorMessage::Finished), "09000000");
    assert_eq!(hex(&CoordinatorMessage::AbandonRequest { at }), "050000000300000002010000");
    let decline = SiloMessage::Decline { at, reason: DeclineReason::AwaitsResult };
    let bytes: String = codec::encode(&decline).unwrap().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(bytes, "01000000030000000201000001000000");
    let sum = CoordinatorMessage::SumRequest { at, sum_hash: Digest([0xab; 32]), back: None };
    assert_eq!(hex(&sum), format!("060000000300000002010000{}00", "ab".repeat(32)));
}
