//! Parity with Hugging Face Transformers and PEFT, on values that `tests/golden_hf.py` made.

use std::path::{Path, PathBuf};

use blindsum_adapter::{Adapter, AdapterLayout, Family, Head, RoundKind, TaskKind};
use blindsum_engine::data::{Columns, Example, Goal, Reading, Tokens};
use blindsum_engine::model::ModelDir;
use blindsum_engine::{Engine, Precision, each_alone};
use blindsum_torch::{FrozenParts, TorchEngine};
use serde::Deserialize;

use crate::common::{
    family_tensors, golden_adapter, head_of_formulas, layout_of, lora, norm, open, tiny_config, write_model,
};

#[derive(Deserialize)]
struct Golden {
    #[serde(default)]
    task: TaskKind,
    targets: Vec<String>,
    modules: Vec<String>,
    cases: Vec<Case>,
    padded: Padded,
}

#[derive(Deserialize)]
struct Case {
    text: Option<String>,
    input_ids: Vec<u32>,
    label: Option<u32>,
    prompt: Option<u32>,
    logits: Vec<f64>,
    loss: f64,
    module_norms: Vec<f64>,
    head_norm: f64,
    norm: f64,
    last_module_corner: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Padded {
    cases: Vec<usize>,
    logits: Vec<Vec<f64>>,
}

const RANK: usize = 4;

fn read(name: &str) -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

struct Setup {
    golden: Golden,
    layout: AdapterLayout,
    engine: TorchEngine,
    adapter: Vec<f32>,
    examples: Vec<Example>,
}

/// The model in `dir` with the golden file's adapter and head.
fn setup(golden: Golden, dir: &Path, head: Head, precision: Precision) -> Setup {
    let targets: Vec<&str> = golden.targets.iter().map(String::as_str).collect();
    let layout = layout_of(dir, &lora(RANK as u32, &targets, head), golden.task.with_labels(3));
    let paths: Vec<&String> = layout.modules().iter().map(|m| &m.path).collect();
    assert_eq!(paths, golden.modules.iter().collect::<Vec<_>>(), "our order of modules");
    let (a, mut adapter) = golden_adapter(&layout);
    let (weights, biases) = head_of_formulas(&layout);
    if head == Head::Trained {
        adapter.extend(&weights);
        adapter.extend(&biases);
    }
    let frozen = FrozenParts { a, head: (weights, biases) };
    let engine = open(dir, &layout, &frozen, precision);
    let example = |case: &Case| match (case.label, case.prompt) {
        (Some(label), None) => Example::labelled(case.input_ids.clone(), label),
        (None, Some(prompt)) => Example::text(case.input_ids.clone(), prompt),
        _ => panic!("a case has either a label or a prompt"),
    };
    let examples = golden.cases.iter().map(example).collect();
    Setup { golden, layout, engine, adapter, examples }
}

fn close(what: &str, found: f64, expected: f64, absolute: f64, relative: f64) {
    let limit = absolute + relative * expected.abs();
    assert!((found - expected).abs() <= limit, "{what}: {found} instead of {expected}");
}

/// Every figure of the golden file, each example alone and all together; logits and losses within `limit`.
fn check(golden: Golden, dir: &Path, limit: f64) {
    let head = if golden.task == TaskKind::CausalLm { Head::Frozen } else { Head::Trained };
    let Setup { golden, layout, mut engine, adapter, examples } = setup(golden, dir, head, Precision::F32);
    let all: Vec<&Example> = examples.iter().collect();
    let logits = engine.logits(Adapter::of(&adapter), &all).unwrap();
    let mut worst = [0.0f64; 3];
    let together = engine.clipped_sum(Adapter::of(&adapter), RoundKind::TrainB, &each_alone(&all), 1.0).unwrap();
    for (k, case) in golden.cases.iter().enumerate() {
        let alone = engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &[&examples[k]]).unwrap();
        for (found, expected) in logits[k].iter().zip(&case.logits) {
            close("logit", f64::from(*found), *expected, limit, 0.0);
            worst[0] = worst[0].max((f64::from(*found) - expected).abs());
        }
        for losses in [alone.losses[0], together.losses[k]] {
            close("loss", f64::from(losses), case.loss, limit, 0.0);
            worst[1] = worst[1].max((f64::from(losses) - case.loss).abs());
        }
        for (m, expected) in case.module_norms.iter().enumerate() {
            // absolute: one token attends only itself, so its query's gradient is zero but for rounding
            close("module norm", norm(&alone.sum[layout.b_range(m)]), *expected, 1e-6 * case.norm, 1e-3);
        }
        let last = &alone.sum[layout.b_range(layout.modules().len() - 1)];
        for (i, row) in case.last_module_corner.iter().enumerate() {
            for (j, expected) in row.iter().enumerate() {
                close("gradient", f64::from(last[i * RANK + j]), *expected, 1e-3 * case.norm / 100.0, 1e-3);
            }
        }
        close("head norm", norm(&alone.sum[layout.b_len()..]), case.head_norm, 0.0, 1e-3);
        let whole = case.norm.hypot(case.head_norm);
        close("norm", together.norms[k], whole, 0.0, 1e-3);
        worst[2] = worst[2].max((together.norms[k] / whole - 1.0).abs());
    }
    for (&k, expected) in golden.padded.cases.iter().zip(&golden.padded.logits) {
        for (found, expected) in logits[k].iter().zip(expected) {
            close("logit of the padded batch", f64::from(*found), *expected, limit, 0.0);
        }
    }
    let [logit, loss, norm] = worst;
    println!("logits within {logit:.1e}, losses within {loss:.1e}, per-example norms within {norm:.1e} (relative)");
}

fn tiny(family: Family) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), tiny_config(family), &family_tensors(family));
    dir
}

#[test]
fn a_tiny_bert_agrees_with_hugging_face() {
    check(read("tiny.json"), tiny(Family::Bert).path(), 1e-4);
}

#[test]
fn adapting_every_linear_layer_agrees_with_hugging_face() {
    check(read("tiny-all.json"), tiny(Family::Bert).path(), 1e-4);
}

#[test]
fn a_tiny_roberta_agrees_with_hugging_face() {
    check(read("tiny-roberta.json"), tiny(Family::Roberta).path(), 1e-6);
    check(read("tiny-roberta-all.json"), tiny(Family::Roberta).path(), 1e-6);
}

#[test]
fn a_tiny_distilbert_agrees_with_hugging_face() {
    check(read("tiny-distilbert.json"), tiny(Family::DistilBert).path(), 1e-6);
    check(read("tiny-distilbert-all.json"), tiny(Family::DistilBert).path(), 1e-6);
}

#[test]
fn tiny_decoders_agree_with_hugging_face() {
    for family in Family::ALL.into_iter().filter(|family| family.is_decoder()) {
        for variant in ["", "-lm", "-all", "-lm-all"] {
            let name = format!("tiny-{}{variant}.json", family.model_type());
            print!("{name}: ");
            check(read(&name), tiny(family).path(), 1e-5);
        }
    }
}

/// Where `make test` put the demo's model; a bare `cargo test` may run without it.
pub fn minilm() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.demo/models/all-MiniLM-L6-v2");
    let there = dir.join("model.safetensors").exists();
    if !there {
        eprintln!("the demo's model is not there (make inputs fetches it): parity on MiniLM was NOT checked");
    }
    there.then_some(dir)
}

#[test]
fn minilm_agrees_with_hugging_face() {
    if let Some(dir) = minilm() {
        check(read("minilm.json"), &dir, 1e-4);
    }
}

#[test]
fn texts_become_the_ids_that_hugging_face_gives() {
    let Some(model) = minilm() else { return };
    let cases: Vec<Case> = read("minilm.json").cases.into_iter().filter(|c| c.text.is_some()).collect();
    let dir = tempfile::tempdir().unwrap();
    let rows: String = cases.iter().map(|c| serde_json::json!({"text": c.text}).to_string() + "\n").collect();
    std::fs::write(dir.path().join("rows.jsonl"), rows).unwrap();
    let shape = ModelDir::open(&model).unwrap().shape().clone();
    let tokens = Tokens::open(&model.join("tokenizer.json"), &shape, 64).unwrap();
    let reading = Reading { columns: &Columns::default(), goal: Goal::Answer, tokens: &tokens };
    let found = reading.read(&dir.path().join("rows.jsonl")).unwrap().rows.all();
    assert!(cases.len() == 4 && found.iter().map(|e| &e.ids).eq(cases.iter().map(|c| &c.input_ids)));
}

#[test]
fn bf16_stays_near_f32_on_minilm() {
    let Some(dir) = minilm() else { return };
    let Setup { golden, mut engine, adapter, examples, .. } =
        setup(read("minilm.json"), &dir, Head::Frozen, Precision::Bf16);
    let all: Vec<&Example> = examples.iter().collect();
    let logits = engine.logits(Adapter::of(&adapter), &all).unwrap();
    let norms = engine.clipped_sum(Adapter::of(&adapter), RoundKind::TrainB, &each_alone(&all), 1.0).unwrap().norms;
    let (mut worst_logit, mut worst_norm) = (0.0f64, 0.0f64);
    for (k, case) in golden.cases.iter().enumerate() {
        for (found, expected) in logits[k].iter().zip(&case.logits) {
            worst_logit = worst_logit.max((f64::from(*found) - expected).abs());
        }
        worst_norm = worst_norm.max((norms[k] / case.norm - 1.0).abs());
    }
    println!("bf16 against f32: logits within {worst_logit:.4}, per-example gradient norms within {worst_norm:.4}");
    assert!(worst_logit < 0.03 && worst_norm < 0.05, "{worst_logit} {worst_norm}");
}
