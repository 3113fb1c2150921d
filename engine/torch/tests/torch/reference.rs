//! Parity with Hugging Face on real models, from a file of golden values that lies outside the repository.
//!
//! `BLINDSUM_REFERENCE` names a JSON file with, for each model, `input_ids`, `attention_mask`, and per example `loss`,
//! `logits` (of the classes, or the first of the token after the text) and `grad_norm_by_module`, with adapter and head
//! from the formulas of `tests/golden_hf.py`; `BLINDSUM_MODELS` names the folder that holds the models' directories.
//! Without them nothing is checked, and a line says so. With `BLINDSUM_MODELS` alone, stories15M reads prompts and texts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use blindsum_adapter::{Adapter, BaseShape, Head, RoundKind, Task};
use blindsum_engine::data::{Columns, Example, Goal, Reading, Tokens};
use blindsum_engine::model::ModelDir;
use blindsum_engine::{Engine, Precision, each_alone};
use blindsum_torch::FrozenParts;
use serde::Deserialize;

use crate::common::{golden_adapter, layout_of, lora, norm, open, table};

#[derive(Deserialize)]
struct Reference {
    modules: Vec<String>,
    input_ids: Vec<Vec<u32>>,
    attention_mask: Vec<Vec<u8>>,
    examples: Vec<Case>,
    example_grad_norms: Vec<f64>,
}

#[derive(Deserialize)]
struct Case {
    loss: f64,
    logits: Vec<f64>,
    grad_norm_by_module: Vec<f64>,
}

const RANK: usize = 4;

#[test]
fn real_models_agree_with_hugging_face() {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(file), Some(models)) = (path("BLINDSUM_REFERENCE"), path("BLINDSUM_MODELS")) else {
        eprintln!("BLINDSUM_REFERENCE and BLINDSUM_MODELS are not set: parity on real models was NOT checked");
        return;
    };
    let all: BTreeMap<String, Reference> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    for (name, reference) in all {
        let dir = models.join(&name);
        let config = std::fs::read_to_string(dir.join("config.json")).unwrap();
        let family = BaseShape::from_config_json(&config).unwrap().family;
        let task = if family.is_decoder() { Task::CausalLm } else { Task::classify(3) };
        let layout = layout_of(&dir, &lora(RANK as u32, family.default_target_modules(), Head::Frozen), task);
        let paths: Vec<&String> = layout.modules().iter().map(|m| &m.path).collect();
        assert_eq!(paths, reference.modules.iter().collect::<Vec<_>>());

        let (a, adapter) = golden_adapter(&layout);
        let weights = table(task.labels(), layout.hidden(), |i, j| 0.1 * (0.9 * i + 0.2 * j + 0.5).sin());
        let frozen = FrozenParts { a, head: (weights, vec![0.0; task.labels()]) };
        let mut engine = open(&dir, &layout, &frozen, Precision::F32);

        let examples: Vec<Example> = (reference.input_ids.iter().zip(&reference.attention_mask).enumerate())
            .map(|(n, (ids, mask))| {
                let ids: Vec<u32> = ids.iter().zip(mask).filter(|(_, m)| **m == 1).map(|(id, _)| *id).collect();
                if family.is_decoder() { Example::text(ids, 0) } else { Example::labelled(ids, n as u32 % 3) }
            })
            .collect();
        let batch: Vec<&Example> = examples.iter().collect();
        let logits = engine.logits(Adapter::of(&adapter), &batch).unwrap();
        let together = engine.clipped_sum(Adapter::of(&adapter), RoundKind::TrainB, &each_alone(&batch), 1.0).unwrap();
        let mut worst = [0.0f64; 4];
        for (k, case) in reference.examples.iter().enumerate() {
            for (found, expected) in logits[k].iter().zip(&case.logits) {
                worst[0] = worst[0].max((f64::from(*found) - expected).abs());
            }
            worst[1] = worst[1].max((f64::from(together.losses[k]) - case.loss).abs());
            worst[2] = worst[2].max((together.norms[k] / reference.example_grad_norms[k] - 1.0).abs());
            let alone = engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &[batch[k]]).unwrap().sum;
            for (m, expected) in case.grad_norm_by_module.iter().enumerate() {
                worst[3] = worst[3].max((norm(&alone[layout.b_range(m)]) / expected - 1.0).abs());
            }
        }
        let [logit, loss, whole, module] = worst;
        println!(
            "{name}: logits within {logit:.1e}, losses within {loss:.1e}, per-example norms within {whole:.1e}, norms by \
             module within {module:.1e} (relative)"
        );
        assert!(logit < 1e-4 && loss < 1e-4 && whole < 1e-3 && module < 1e-3, "{name}");
    }
}

/// A prompt, its text, and the loss that Transformers gives to what follows the prompt in the two as one string and the
/// end behind it, in ten-thousandths.
const STORIES: [(&str, &str, u32); 4] = [
    ("Once upon a time, there was a little", " girl named Lily. She loved to play outside.", 27_182),
    ("One day, Tom and his", " mom went to the park. They saw a big dog.", 29_536),
    ("The sun was hot and the", " boy wanted to swim in the lake.", 40_290),
    ("Ben said:\n", "\"I like your toy.\" They were happy.", 46_532),
];

#[test]
fn a_text_after_its_prompt_has_the_loss_of_hugging_face() {
    let models = std::env::var_os("BLINDSUM_MODELS").map(PathBuf::from);
    let Some(dir) = models.map(|models| models.join("stories15M-hf")).filter(|dir| dir.exists()) else {
        eprintln!("BLINDSUM_MODELS has no stories15M-hf: the losses of prompts and texts were NOT checked");
        return;
    };
    let model = ModelDir::open(&dir).unwrap();
    let layout = layout_of(&dir, &lora(4, model.shape().family.default_target_modules(), Head::Frozen), Task::CausalLm);
    let mut engine = open(&dir, &layout, &FrozenParts::from_seed(&layout), Precision::F32);
    let zero = vec![0.0; layout.len()];
    let rows = tempfile::tempdir().unwrap();
    let path = |name: &str| rows.path().join(name);
    let mut losses = |tokenizer: &serde_json::Value, prompt: Option<&str>, ends: &[u32], content: String| -> Vec<f64> {
        std::fs::write(path("tokenizer.json"), tokenizer.to_string()).unwrap();
        std::fs::write(path("rows.jsonl"), content).unwrap();
        let tokens = Tokens::open(&path("tokenizer.json"), model.shape(), 128).unwrap();
        let columns = Columns { prompt: prompt.map(str::to_owned), ..Columns::default() };
        let goal = Goal::Continue { ends };
        let read = Reading { columns: &columns, goal, tokens: &tokens }.read(&path("rows.jsonl")).unwrap().rows.all();
        let outcomes = engine.outcomes(Adapter::of(&zero), &read.iter().collect::<Vec<_>>()).unwrap();
        outcomes.iter().map(|outcome| outcome.loss).collect()
    };
    let row =
        |(prompt, text, _): &(&str, &str, u32)| serde_json::json!({"prompt": prompt, "text": text}).to_string() + "\n";
    let content: String = STORIES.iter().map(row).collect();
    let plain: serde_json::Value = serde_json::from_slice(&std::fs::read(model.tokenizer()).unwrap()).unwrap();
    let mut closing = plain.clone();
    let end = serde_json::json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
    closing["post_processor"]["single"].as_array_mut().unwrap().push(end);
    closing["post_processor"]["special_tokens"]["</s>"] =
        serde_json::json!({"id": "</s>", "ids": [2], "tokens": ["</s>"]});
    for (name, tokenizer) in [("as published", &plain), ("with an end of its own", &closing)] {
        let found = losses(tokenizer, Some("prompt"), &[2], content.clone());
        println!("{name}: {found:.4?}");
        assert!(
            found.iter().zip(&STORIES).all(|(found, (.., loss))| (found - f64::from(*loss) / 1e4).abs() < 1e-4),
            "{name}: {found:?}"
        );
    }
    let ended = "{\"text\": \"Once upon a time, there was a cat.</s>\"}\n".to_owned();
    let found = losses(&plain, None, &[1, 2], ended);
    assert!((found[0] - 3.1655).abs() < 1e-4, "of several ends: {found:?}");
}
