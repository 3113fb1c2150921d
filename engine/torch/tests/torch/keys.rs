//! Every key of `config.json` that Hugging Face Transformers reads, at other values, and keys and tensors that contradict
//! each other: the losses are those of Transformers, or the model is refused by name. Never silently another model.
//!
//! The cases and the losses of Transformers are from `tests/config_keys_hf.py`.

use std::collections::BTreeMap;
use std::path::Path;

use blindsum_adapter::{Adapter, AdapterLayout, BaseShape, Family, Head, Task};
use blindsum_engine::data::Example;
use blindsum_engine::{Engine, EngineSettings};
use blindsum_torch::{FrozenParts, TorchEngine};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::common::{OPTIONS, family_tensors, head_of_formulas, lora, uniform, write_model};

#[derive(Deserialize)]
struct Golden {
    inputs: Vec<Vec<u32>>,
    families: BTreeMap<String, Cases>,
}

#[derive(Deserialize)]
struct Cases {
    config: Map<String, Value>,
    cases: Vec<Case>,
}

/// Changes of the family's `config` and tensors.
#[derive(Deserialize)]
struct Case {
    /// Of a case that the documentation shows.
    name: Option<String>,
    change: Map<String, Value>,
    #[serde(default)]
    without: Vec<String>,
    /// A stream of numbers for another tensor, or the name of the one that it copies.
    #[serde(default)]
    tensors: BTreeMap<String, Value>,
    #[serde(default)]
    dropped: Vec<String>,
    /// By task: those of the inputs; "base", those of the first case; null where Transformers refuses; "random" where it
    /// draws what the checkpoint lacks.
    losses: BTreeMap<String, Value>,
}

impl Case {
    /// Writes the model that the case is about.
    fn write(&self, dir: &Path, family: Family, base: &Map<String, Value>) {
        let mut config = base.clone();
        config.extend(self.change.clone());
        self.without.iter().for_each(|key| drop(config.remove(key)));
        let stored = family_tensors(family);
        let mut tensors = stored.clone();
        self.dropped.iter().for_each(|name| drop(tensors.remove(name)));
        for (name, source) in &self.tensors {
            let tensor = match source {
                Value::String(other) => stored[other].clone(),
                stream => {
                    let shape = if name.ends_with(".bias") { vec![128] } else { vec![128, 32] };
                    let numbers = uniform(stream.as_u64().unwrap() as u32, shape.iter().product());
                    (shape, numbers.into_iter().map(|u| 0.25 * u as f32).collect())
                }
            };
            tensors.insert(name.clone(), tensor);
        }
        write_model(dir, &Value::Object(config).to_string(), &tensors);
    }

    /// Whether an error names something that the case is about.
    fn is_named_in(&self, error: &str) -> bool {
        let inner = self.change.values().filter_map(Value::as_object).flat_map(Map::keys);
        let keys = self.change.keys().chain(inner).chain(&self.without);
        keys.chain(self.tensors.keys()).chain(&self.dropped).any(|name| error.contains(name))
    }

    fn describe(&self) -> String {
        let Case { change, without, tensors, dropped, .. } = self;
        format!("{} without {without:?}, tensors {tensors:?}, dropped {dropped:?}", Value::Object(change.clone()))
    }
}

/// Our losses of the inputs with the model in `dir`, without an adapter and with the head of the formulas.
fn losses(dir: &Path, task: Task, inputs: &[Vec<u32>]) -> Result<Vec<f64>, String> {
    let config = std::fs::read_to_string(dir.join("config.json")).unwrap();
    let shape = BaseShape::from_config_json(&config).map_err(|e| e.to_string())?;
    let lora = lora(4, shape.family.default_target_modules(), Head::Frozen);
    let layout = AdapterLayout::new(&shape, &lora, task).map_err(|e| e.to_string())?;
    let (weights, biases) = head_of_formulas(&layout);
    let frozen = FrozenParts { head: (weights, biases), ..FrozenParts::from_seed(&layout) };
    let settings = EngineSettings { threads: 1, ..OPTIONS };
    let mut engine =
        TorchEngine::open(&dir.join("model.safetensors"), &layout, &frozen, settings).map_err(|e| e.to_string())?;
    let example = |(k, ids): (usize, &Vec<u32>)| match task {
        Task::CausalLm => Example::text(ids.clone(), 0),
        Task::SequenceClassification { .. } => Example::labelled(ids.clone(), k as u32 % 3),
    };
    let examples: Vec<Example> = inputs.iter().enumerate().map(example).collect();
    let zero = vec![0.0; layout.len()];
    let outcomes = engine.outcomes(Adapter::of(&zero), &examples.iter().collect::<Vec<_>>()).unwrap();
    Ok(outcomes.iter().map(|outcome| outcome.loss).collect())
}

/// A case's line in docs/base-models.md: mean losses, and the largest difference.
fn row(task: Task, found: &Result<Vec<f64>, String>, expected: &Value) -> String {
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let task = if task == Task::CausalLm { "next tokens" } else { "labels" };
    let expected: Option<Vec<f64>> =
        expected.as_array().map(|losses| losses.iter().map(|loss| loss.as_f64().unwrap()).collect());
    let theirs = expected.as_ref().map_or("none".to_owned(), |losses| format!("{:.6}", mean(losses)));
    match (found, &expected) {
        (Err(error), _) => format!("{task} | {theirs} | refused: {error} | |"),
        (Ok(found), None) => format!("{task} | {theirs} | {:.6} | |", mean(found)),
        (Ok(found), Some(expected)) => {
            let worst = found.iter().zip(expected).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
            format!("{task} | {theirs} | {:.6} | {worst:.1e} |", mean(found))
        }
    }
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config-keys.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// One family: how many cases agree, how many are refused, and the largest difference.
fn check(family: Family, inputs: &[Vec<u32>], Cases { config, cases }: Cases) -> (usize, usize, f64) {
    let (mut agree, mut refused, mut worst, mut wrong) = (0, 0, 0.0f64, Vec::new());
    let dir = tempfile::tempdir().unwrap();
    for case in &cases {
        case.write(dir.path(), family, &config);
        for (name, expected) in &case.losses {
            let task = if name == "lm" { Task::CausalLm } else { Task::classify(3) };
            let what = format!("{family:?}, {name}: {}", case.describe());
            let found = losses(dir.path(), task, inputs);
            let expected = match expected.as_str() {
                Some("base") => &cases[0].losses[name],
                _ => expected,
            };
            if let Some(name) = &case.name {
                println!("| {}, {name} | {}", family.model_type(), row(task, &found, expected));
            }
            match (found, expected) {
                // Transformers has no loss of its own
                (Ok(_), Value::Null) => {}
                (Ok(found), Value::Array(expected)) => {
                    let pairs = found.iter().zip(expected);
                    let differences = pairs.map(|(x, y)| (x - y.as_f64().unwrap()).abs());
                    let largest = differences.fold(0.0, f64::max);
                    if largest > 1e-5 {
                        wrong.push(format!("{what}: {found:?} instead of {expected:?}"));
                    }
                    worst = worst.max(largest);
                    agree += 1;
                }
                (Ok(_), _) => wrong.push(format!("{what}: accepted, where Transformers draws numbers")),
                (Err(_), Value::Null) => {}
                (Err(error), expected) => {
                    let tensor = expected.is_string() && error.contains("tensor");
                    if !tensor && !case.is_named_in(&error) {
                        wrong.push(format!("{what}: {error}"));
                    }
                    refused += 1;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    (agree, refused, worst)
}

#[test]
fn every_key_is_computed_as_hugging_face_computes_it_or_refused_by_name() {
    let Golden { inputs, mut families } = golden();
    for family in Family::ALL {
        let cases = families.remove(family.model_type()).unwrap();
        let (agree, refused, worst) = check(family, &inputs, cases);
        println!("{}: {agree} agree within {worst:.1e}, {refused} refused", family.model_type());
        assert!(agree > 90 && refused > 10, "{family:?}: {agree} {refused}");
    }
    assert!(families.is_empty());
}

/// Of each decoder: tied embeddings beside an output matrix of its own, another one, the same, and the only table.
#[test]
fn tied_embeddings_beside_an_own_output_matrix_are_what_hugging_face_makes_of_them() {
    let Golden { inputs, families } = golden();
    for (name, Cases { config, cases }) in families {
        let family = Family::of(&name).unwrap();
        let mut compared = 0;
        let dir = tempfile::tempdir().unwrap();
        for case in cases.iter().filter(|case| case.tensors.contains_key("lm_head.weight")) {
            case.write(dir.path(), family, &config);
            let expected = match case.losses["lm"].as_str() {
                Some("base") => &cases[0].losses["lm"],
                _ => &case.losses["lm"],
            };
            let Value::Array(expected) = expected else { continue };
            for (found, expected) in losses(dir.path(), Task::CausalLm, &inputs).unwrap().iter().zip(expected) {
                assert!((found - expected.as_f64().unwrap()).abs() < 1e-5, "{name} {}", case.describe());
            }
            compared += 1;
        }
        assert_eq!(compared, if family.is_decoder() { 5 } else { 0 }, "{name}");
    }
}
