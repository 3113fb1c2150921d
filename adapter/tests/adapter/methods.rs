//! Methods and server optimisers: what each round trains, how the state moves, and what an export holds.

use blindsum_adapter::peft::{PeftMeta, load, save};
use blindsum_adapter::{
    Adapter, AdapterLayout, BaseHashes, BaseShape, Head, Init, LoraConfig, Method, RoundKind, ServerStep, StateLayout,
    Targets, Task, a_hash, a_hashes, a_stack, init_a, init_head, model_hash,
};

fn shape() -> BaseShape {
    let text = r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16,
        "num_attention_heads": 2, "vocab_size": 50, "max_position_embeddings": 32}"#;
    BaseShape::from_config_json(text).unwrap()
}

fn lora(method: Method, head: Head, refresh_rounds: Option<u32>) -> LoraConfig {
    let target_modules = Some(Targets::names(&["query", "intermediate.dense"]));
    LoraConfig { method, r: 2, lora_alpha: 5.0, target_modules, init: Init::Orthonormal, seed: 1, head, refresh_rounds }
}

fn layout(method: Method, head: Head, refresh_rounds: Option<u32>) -> AdapterLayout {
    AdapterLayout::new(&shape(), &lora(method, head, refresh_rounds), Task::classify(3)).unwrap()
}

/// B has 8·2 + 16·2 numbers, A 2·8 + 2·8, the head 3·8 + 3.
const B: usize = 48;
const A: usize = 32;
const HEAD: usize = 27;

const ADAM: ServerStep = ServerStep::FedAdam { learning_rate: 0.5, beta1: 0.5, beta2: 0.75, tau: 0.25 };
const MOMENTUM: ServerStep = ServerStep::FedAvgM { learning_rate: 0.5, momentum: 0.5 };

/// A sum of `len` different numbers, exact in binary.
fn sum(len: usize, round: u32) -> Vec<f64> {
    (0..len).map(|i| (i as f64 + 1.5) * f64::from(round) / 64.0).collect()
}

/// The state after each of `rounds` rounds, from the initial one.
fn run(state: &StateLayout, rounds: u32) -> Vec<Vec<f32>> {
    let mut states = vec![state.initial()];
    for round in 1..=rounds {
        let layout = state.layout();
        let sum = sum(layout.trained(layout.training_kind(round)).len(), round);
        states.push(state.step(&states[round as usize - 1], &sum, 3, round));
    }
    states
}

#[test]
fn what_a_round_trains_is_one_range_of_the_values() {
    use RoundKind::{Evaluate, TrainA as OnlyA, TrainB as OnlyB, TrainBoth as Both};
    for (method, head, kinds) in [
        (Method::FfaLora, Head::Frozen, [(OnlyB, 0..B), (OnlyB, 0..B)]),
        (Method::FfaLora, Head::Trained, [(OnlyB, 0..B + HEAD), (OnlyB, 0..B + HEAD)]),
        (Method::Lora, Head::Frozen, [(Both, 0..B + A), (Both, 0..B + A)]),
        (Method::Lora, Head::Trained, [(Both, 0..B + HEAD + A), (Both, 0..B + HEAD + A)]),
        (Method::RoLora, Head::Frozen, [(OnlyB, 0..B), (OnlyA, B..B + A)]),
        (Method::RoLora, Head::Trained, [(OnlyB, 0..B + HEAD), (OnlyA, B..B + HEAD + A)]),
    ] {
        let layout = layout(method, head, None);
        for (i, (kind, range)) in kinds.into_iter().enumerate() {
            for round in [1 + i as u32, 3 + i as u32] {
                assert_eq!(layout.training_kind(round), kind, "{method:?} {round}");
            }
            assert_eq!(layout.trained(kind), range, "{method:?} {head:?}");
            assert_eq!(layout.segments(kind).iter().map(|s| s.1).sum::<usize>(), range.len());
        }
        assert!(layout.trained(Evaluate).is_empty() && layout.segments(Evaluate).is_empty());
    }
    let layout = layout(Method::Lora, Head::Trained, None);
    assert_eq!(layout.segments(Both), [("lora_B", B), ("head", HEAD), ("lora_A", A)]);
    assert_eq!((layout.a_range(0), layout.a_range(1)), (Some(75..91), Some(91..107)));
}

#[test]
fn a_starts_from_the_public_seed_where_it_is_trained() {
    let state = StateLayout::new(layout(Method::RoLora, Head::Trained, None), ServerStep::FedAvg, 4).unwrap();
    let initial = state.initial();
    assert!(initial[..B].iter().all(|&x| x == 0.0));
    assert_eq!(initial[B + HEAD..], init_a(state.layout()).concat());
}

#[test]
fn with_fedavg_the_state_is_the_values_and_their_mean() {
    let state = StateLayout::new(layout(Method::FfaLora, Head::Frozen, None), ServerStep::FedAvg, 4).unwrap();
    let states = run(&state, 1);
    assert_eq!(states[0].len(), B);
    for (i, x) in states[1].iter().enumerate() {
        assert_eq!(*x, ((i as f64 + 1.5) / 64.0 / 3.0) as f32);
    }
}

#[test]
fn momentum_and_adam_are_those_calculated_by_hand() {
    // Two rounds with means 1 and 2 on one coordinate.
    let layout = layout(Method::FfaLora, Head::Frozen, None);
    let twice = |server| {
        let state = StateLayout::new(layout.clone(), server, 4).unwrap();
        let one = state.step(&state.initial(), &[3.0; B], 3, 1);
        (one.clone(), state.step(&one, &[6.0; B], 3, 2))
    };
    let (one, two) = twice(MOMENTUM);
    assert_eq!((one[0], one[B]), (0.5, 1.0)); // m = 1, x = 0.5·1
    assert_eq!((two[0], two[B]), (1.75, 2.5)); // m = 0.5 + 2, x = 0.5 + 0.5·2.5
    let (one, two) = twice(ADAM);
    // m = 0.5, v = 0.75/16 + 0.25 = 0.296875, x = 0.5·0.5 / (√0.296875 + 0.25)
    assert_eq!((one[B], one[2 * B]), (0.5, 0.296875));
    assert!((f64::from(one[0]) - 0.25 / (0.544_862_368 + 0.25)).abs() < 1e-7, "{}", one[0]);
    // m = 0.25 + 1, v = 0.75·0.296875 + 1 = 1.22265625, x += 0.5·1.25 / (√v + 0.25)
    assert_eq!((f64::from(two[B]), f64::from(two[2 * B])), (1.25, 1.222_656_25));
    assert!((f64::from(two[0] - one[0]) - 0.625 / (1.105_737_9 + 0.25)).abs() < 1e-7, "{}", two[0]);
}

#[test]
fn rounds_of_rolora_leave_the_other_matrix_and_its_moments_alone() {
    let state = StateLayout::new(layout(Method::RoLora, Head::Trained, None), ADAM, 4).unwrap();
    let states = run(&state, 2);
    let len = B + HEAD + A;
    let changed = |before: &[f32], after: &[f32]| -> Vec<bool> {
        before.iter().zip(after).map(|(x, y)| x.to_bits() != y.to_bits()).collect()
    };
    for (round, trained) in [(1, 0..B + HEAD), (2, B..len)] {
        for (i, changed) in changed(&states[round - 1], &states[round]).into_iter().enumerate() {
            assert_eq!(changed, trained.contains(&(i % len)), "round {round}, number {i}");
        }
    }
}

#[test]
fn a_refresh_folds_b_draws_a_and_clears_the_moments_but_for_the_last_round() {
    let state = StateLayout::new(layout(Method::FfaLora, Head::Trained, Some(2)), ADAM, 4).unwrap();
    let (values, fixed) = (B + HEAD, 3 * (B + HEAD));
    assert_eq!([0, 1, 2, 3, 4, 9].map(|round| state.len(round)), [0, 0, B, B, B, B].map(|folded| fixed + folded));
    let states = run(&state, 4);
    assert!(states.iter().enumerate().all(|(round, s)| s.len() == state.len(round as u32)));
    // the second round without a refresh after it
    let still = StateLayout::new(layout(Method::FfaLora, Head::Trained, Some(3)), ADAM, 4).unwrap();
    let unfolded = &run(&still, 2)[2];
    let (adapter, before) = (state.adapter(&states[2]), still.adapter(unfolded));
    assert_eq!(adapter.folded, &before.values[..B]);
    assert!(adapter.values[..B].iter().all(|&x| x == 0.0));
    assert_eq!(adapter.values[B..], before.values[B..], "the trained head goes on");
    assert_eq!(states[2][values..fixed], state.initial()[values..], "moments as at the start");
    assert_eq!(state.adapter(&states[4]).generations(state.layout()), Some(2));
    assert_eq!(state.adapter(&states[4]).folded, adapter.folded, "a folded part stays");
}

#[test]
fn every_generation_has_an_a_of_its_own() {
    let layout = layout(Method::FfaLora, Head::Frozen, Some(1));
    let stack = a_stack(&layout, 3);
    assert_eq!(stack[1].len(), 3 * 16);
    assert_eq!(a_stack(&layout, 1), init_a(&layout));
    let generations: Vec<&[f32]> = stack[0].chunks(16).collect();
    assert_eq!(generations[0], init_a(&layout)[0]);
    assert!(generations[0] != generations[1] && generations[1] != generations[2]);
    let hashes = a_hashes(&layout, 3);
    assert_eq!(hashes[0], a_hash(&init_a(&layout)));
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2]);
    assert_eq!(a_hashes(&layout, 2), hashes[..2]);
}

#[test]
fn frozen_vectors() {
    let base = BaseHashes { config: [1; 32], weights: [2; 32], tokenizer: [3; 32] };
    let mut found = Vec::new();
    for (method, server, refresh) in [
        (Method::FfaLora, MOMENTUM, None),
        (Method::FfaLora, ADAM, Some(2)),
        (Method::Lora, ServerStep::FedAvg, None),
        (Method::RoLora, ADAM, None),
    ] {
        let state = StateLayout::new(layout(method, Head::Trained, refresh), server, 4).unwrap();
        let last = run(&state, 4).pop().unwrap();
        let generations = state.adapter(&last).generations(state.layout()).unwrap();
        let a = a_hashes(state.layout(), generations)[generations - 1];
        found.push(hex::encode(&model_hash(base, state.layout(), a, &last)[..8]));
    }
    assert_eq!(found, ["858280efa3a76bc5", "7c647e74cbcad4c6", "741f319ef70a307f", "5a113c2e36a07ec0"]);
}

#[test]
fn what_is_exported_is_read_back_bit_by_bit() {
    let labels = ["a", "b", "c"].map(str::to_owned).to_vec();
    let meta = PeftMeta { base_model_name_or_path: "base".to_owned(), labels, provenance: None };
    for (method, refresh, rounds) in [
        (Method::Lora, None, 3),
        (Method::RoLora, None, 4),
        (Method::FfaLora, Some(1), 3),
        (Method::FfaLora, Some(9), 3),
    ] {
        for head in [Head::Frozen, Head::Trained] {
            let state = StateLayout::new(layout(method, head, refresh), ADAM, 10).unwrap();
            let layout = state.layout();
            let last = run(&state, rounds).pop().unwrap();
            let adapter = state.adapter(&last);
            let generations = adapter.generations(layout).unwrap();
            assert_eq!(generations, if refresh == Some(1) { 4 } else { 1 });
            let (dir, stack) = (tempfile::tempdir().unwrap(), a_stack(layout, generations));
            save(dir.path(), layout, &stack, &init_head(layout), adapter, &meta).unwrap();
            let loaded = load(dir.path(), &shape()).unwrap();
            assert_eq!((&loaded.layout, loaded.adapter()), (layout, adapter));
            match layout.a_range(1) {
                None => assert_eq!(loaded.a, stack),
                Some(range) => assert_eq!(loaded.a[1], adapter.values[range]),
            }
            let config = std::fs::read_to_string(dir.path().join("adapter_config.json")).unwrap();
            let config: serde_json::Value = serde_json::from_str(&config).unwrap();
            assert_eq!((&config["r"], &config["lora_alpha"]), (&(2 * generations).into(), &(5 * generations).into()));
        }
    }
}

#[test]
fn the_exported_product_is_the_sum_of_the_parts() {
    let state = StateLayout::new(layout(Method::FfaLora, Head::Frozen, Some(1)), ServerStep::FedAvg, 3).unwrap();
    let (layout, last) = (state.layout(), run(&state, 3).pop().unwrap());
    let adapter = state.adapter(&last);
    let (a, b) = (a_stack(layout, 3), adapter.b_stack(layout, 1));
    let product = |a: &[f32], b: &[f32], rank: usize| -> Vec<f64> {
        let at = |i: usize, j: usize| (0..rank).map(|k| f64::from(b[i * rank + k]) * f64::from(a[k * 8 + j])).sum();
        (0..16 * 8).map(|n| at(n / 8, n % 8)).collect()
    };
    let whole = product(&a[1], &b, 6);
    let range = layout.b_range(1);
    let parts = [&adapter.folded[..B], &adapter.folded[B..], adapter.values].map(|part| &part[range.clone()]);
    let parts: Vec<Vec<f64>> = parts.iter().zip(a[1].chunks(16)).map(|(b, a)| product(a, b, 2)).collect();
    for (i, x) in whole.iter().enumerate() {
        assert!((x - parts.iter().map(|p| p[i]).sum::<f64>()).abs() < 1e-9);
    }
}

#[test]
fn refreshes_that_make_no_sense_are_refused_by_key() {
    let refused = |lora: LoraConfig| AdapterLayout::new(&shape(), &lora, Task::classify(3)).unwrap_err().to_string();
    assert!(
        refused(lora(Method::FfaLora, Head::Frozen, Some(0))).contains("lora.refresh_rounds is 0: give at least 1")
    );
    for method in [Method::Lora, Method::RoLora] {
        assert!(refused(lora(method, Head::Frozen, Some(5))).contains("lora.refresh_rounds is 5"));
    }
    let layout = layout(Method::FfaLora, Head::Frozen, Some(1));
    let error = StateLayout::new(layout.clone(), ServerStep::FedAvg, 65).unwrap_err().to_string();
    assert!(error.contains("lora.refresh_rounds is 1") && error.contains("at most 64"), "{error}");
    let state = StateLayout::new(layout, ServerStep::FedAvg, 64).unwrap();
    assert_eq!(state.len(64), 64 * B);
}

#[test]
fn lengths_of_another_layout_are_no_adapter() {
    let (plain, refreshed) =
        (layout(Method::FfaLora, Head::Frozen, None), layout(Method::FfaLora, Head::Frozen, Some(1)));
    let numbers = [0.0; 64 * B];
    assert_eq!(Adapter::of(&numbers[..B]).generations(&plain), Some(1));
    assert_eq!(Adapter::of(&numbers[..B + 1]).generations(&plain), None);
    let folded = |len| Adapter { values: &numbers[..B], folded: &numbers[..len] };
    assert_eq!(folded(B).generations(&plain), None);
    assert_eq!(folded(B).generations(&refreshed), Some(2));
    assert_eq!(folded(B - 1).generations(&refreshed), None);
    assert_eq!(folded(64 * B).generations(&refreshed), None);
}
