//! What the torch engine promises in each family: exact per-example gradients, a trained head of two layers, checkpoints
//! as published, and an export that Hugging Face PEFT computes alike.

use std::path::{Path, PathBuf};
use std::process::Command;

use blindsum_adapter::peft::{self, PeftMeta};
use blindsum_adapter::provenance::{JobName, Provenance};
use blindsum_adapter::{Adapter, Family, Head, LoraConfig, Method, RoundKind, Task, a_stack, init_a, init_head};
use blindsum_engine::data::{Columns, Example, Goal, Reading, Tokens};
use blindsum_engine::{Engine, EngineSettings, Precision, evaluate};
use blindsum_torch::{FrozenParts, TorchEngine};

use crate::common::{
    OPTIONS, Tensors, clipped, distance, examples_for, family_engine, family_tensors, layout_of, lora, norm, tasks,
    tiny_config, unclipped, write_model, write_tokenizer,
};

/// Odd in number, of very different lengths.
const LENGTHS: [usize; 7] = [5, 129, 1, 33, 2, 64, 90];

/// Every family with every task, with a trained head where there is one.
fn every() -> impl Iterator<Item = (Family, Task, Head)> {
    let heads = |task| match task {
        Task::SequenceClassification { .. } => vec![Head::Frozen, Head::Trained],
        Task::CausalLm => vec![Head::Frozen],
    };
    let of_family = |family| tasks(family).into_iter().map(move |task| (family, task));
    Family::ALL.into_iter().flat_map(of_family).flat_map(move |(f, t)| heads(t).into_iter().map(move |h| (f, t, h)))
}

#[test]
fn per_example_gradients_are_those_of_each_example_alone() {
    for (family, task, head) in every() {
        let (_dir, mut engine, adapter) = family_engine(family, task, head, OPTIONS);
        for count in [0, 1, LENGTHS.len()] {
            let owned = examples_for(task, &LENGTHS[..count]);
            let batch: Vec<&Example> = owned.iter().collect();
            // without a clip no gradient is taken apart by example: one backward pass over this example
            let alone: Vec<Vec<f32>> = batch
                .iter()
                .map(|e| engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &[e]).unwrap().sum)
                .collect();
            let (_, free) = unclipped(&mut engine, Adapter::of(&adapter), RoundKind::TrainB, &batch);
            assert_eq!(free.norms.len(), count);
            for (found, gradient) in free.norms.iter().zip(&alone) {
                // a text that is all prompt has no gradient
                let far = (found - norm(gradient)).abs() / norm(gradient).max(1e-9);
                assert!(far < 1e-5, "{family:?} {task:?} {head:?}: {found} {}", norm(gradient));
            }
            let mut sorted = free.norms.clone();
            sorted.sort_by(f64::total_cmp);
            // above the largest norm nothing is clipped, at the middle one half of the examples
            for clip in [sorted.last().copied().unwrap_or(1.0), sorted.get(count / 2).copied().unwrap_or(1.0)] {
                let mut expected = vec![0.0f32; adapter.len()];
                for gradient in &alone {
                    let factor = (clip / norm(gradient).max(1e-30)).min(1.0) as f32;
                    expected.iter_mut().zip(gradient).for_each(|(e, g)| *e += factor * g);
                }
                let (found, _) = clipped(&mut engine, Adapter::of(&adapter), RoundKind::TrainB, &batch, clip);
                if count == 0 {
                    assert_eq!(found, expected);
                } else {
                    let far = distance(&found, &expected);
                    assert!(far < 1e-5, "{family:?} {task:?} {head:?} {count}: {far}");
                }
            }
        }
    }
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    for (family, task, head) in every() {
        let (_dir, mut engine, adapter) = family_engine(family, task, head, OPTIONS);
        let owned = examples_for(task, &[9, 40, 70]);
        let batch: Vec<&Example> = owned.iter().collect();
        let gradient = engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &batch).unwrap().sum;
        // all coordinates together, then each of the head's weights by itself, so that a small one is seen
        let base = engine.layout().head_ranges().map_or(0, |ranges| ranges.weight.start);
        let parts = if head == Head::Trained { engine.layout().head_parts() } else { Vec::new() };
        let parts = parts.into_iter().map(|p| base + p.weight.start..base + p.weight.end);
        let directions: Vec<_> = std::iter::once(0..adapter.len()).chain(parts).collect();
        for range in directions {
            let part = &gradient[range.clone()];
            let step = 1e-2 / norm(part);
            let mut loss_at = |sign: f64| {
                let mut moved = adapter.clone();
                moved[range.clone()].iter_mut().zip(part).for_each(|(a, g)| *a += (sign * step) as f32 * g);
                evaluate(&mut engine, Adapter::of(&moved), &batch).unwrap().mean_loss * batch.len() as f64
            };
            let slope = (loss_at(1.0) - loss_at(-1.0)) / (2.0 * step);
            let expected = norm(part).powi(2);
            assert!(
                (slope / expected - 1.0).abs() < 1e-2,
                "{family:?} {task:?} {head:?}: {slope} instead of {expected}"
            );
        }
    }
}

#[test]
fn bf16_follows_f32() {
    for (family, task, head) in every() {
        let bf16 = EngineSettings { precision: Precision::Bf16, ..OPTIONS };
        let (_a, mut exact, adapter) = family_engine(family, task, head, OPTIONS);
        let (_b, mut fast, _) = family_engine(family, task, head, bf16);
        let owned = examples_for(task, &LENGTHS);
        let batch: Vec<&Example> = owned.iter().collect();
        let (x, y) =
            (fast.logits(Adapter::of(&adapter), &batch).unwrap(), exact.logits(Adapter::of(&adapter), &batch).unwrap());
        let far = distance(&x.concat(), &y.concat());
        assert!(far > 0.0 && far < 0.03, "{family:?} {task:?} {head:?}: logits {far}");
        if family == Family::DistilBert && head == Head::Trained {
            continue; // a unit near the kink of the head's ReLU has its whole gradient in one format and none in the other
        }
        let (x, y) = (
            fast.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &batch),
            exact.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &batch),
        );
        let far = distance(&x.unwrap().sum, &y.unwrap().sum);
        assert!(far > 0.0 && far < 0.05, "{family:?} {task:?} {head:?}: gradient {far}");
    }
}

#[test]
fn a_roberta_reads_two_tokens_less_than_its_table_has_rows() {
    let (_dir, mut engine, adapter) = family_engine(Family::Roberta, Task::classify(3), Head::Frozen, OPTIONS);
    let longest = Example::labelled(vec![5; 512], 0);
    assert_eq!(engine.logits(Adapter::of(&adapter), &[&longest]).unwrap().len(), 1);
    let longer = Example::labelled(vec![5; 513], 0);
    let error = engine.logits(Adapter::of(&adapter), &[&longer]).unwrap_err().to_string();
    assert!(error.contains("1 to 512"), "{error}");
}

fn load(family: Family, task: Task, tensors: &Tensors) -> Result<(TorchEngine, tempfile::TempDir), String> {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), tiny_config(family), tensors);
    let layout = layout_of(dir.path(), &lora(4, family.default_target_modules(), Head::Frozen), task);
    let (file, options) = (dir.path().join("model.safetensors"), EngineSettings::default());
    let engine = TorchEngine::open(&file, &layout, &FrozenParts::from_seed(&layout), options);
    engine.map(|engine| (engine, dir)).map_err(|e| e.to_string())
}

#[test]
fn checkpoints_are_read_as_published() {
    // what published files hold beside the model, or what of it follows from the configuration
    let beside = |family| match family {
        Family::Bert => ["cls.predictions.bias", "cls.seq_relationship.bias"],
        Family::Roberta => ["lm_head.dense.weight", "roberta.pooler.dense.weight"],
        Family::DistilBert => ["vocab_transform.weight", "vocab_layer_norm.weight"],
        Family::Llama => ["lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"],
        Family::Mistral | Family::Qwen2 => ["score.weight", "model.layers.1.self_attn.rotary_emb.inv_freq"],
        Family::Gpt2 => ["lm_head.weight", "transformer.h.1.attn.bias"],
    };
    for family in Family::ALL {
        for task in tasks(family) {
            let mut tensors = family_tensors(family);
            for name in beside(family) {
                let words = ["model.embed_tokens.weight", "transformer.wte.weight"].map(|words| tensors.get(words));
                let copied = words.into_iter().flatten().next().filter(|_| name == "lm_head.weight").cloned();
                tensors.insert(name.to_owned(), copied.unwrap_or((vec![4], vec![0.5; 4])));
            }
            load(family, task, &tensors).unwrap();
            if family == Family::Llama && task == Task::CausalLm {
                tensors.insert("lm_head.weight".to_owned(), (vec![4], vec![0.5; 4]));
                let error = load(family, task, &tensors).err().unwrap();
                assert!(error.contains("lm_head.weight has shape [4]"), "{error}");
            }
        }
        // the base model saved by itself
        let prefix = format!("{}.", family.prefix());
        let bare = |name: &String| name.strip_prefix(&prefix).map(str::to_owned);
        let tensors = family_tensors(family);
        let tensors = tensors.iter().filter_map(|(name, tensor)| Some((bare(name)?, tensor.clone()))).collect();
        load(family, Task::classify(3), &tensors).unwrap();
        if matches!(family, Family::Mistral | Family::Qwen2) {
            let error = load(family, Task::CausalLm, &tensors).err().unwrap();
            assert!(error.contains("lm_head.weight") && error.contains("missing"), "{error}");
        }
    }
}

#[test]
fn a_checkpoint_that_does_not_match_its_config_is_refused_by_name() {
    for (family, key, extra) in [
        (
            Family::Roberta,
            "roberta.encoder.layer.1.attention.self.key.bias",
            "roberta.encoder.layer.2.output.dense.bias",
        ),
        (
            Family::DistilBert,
            "distilbert.transformer.layer.1.attention.k_lin.bias",
            "distilbert.transformer.layer.2.ffn.lin2.bias",
        ),
        (Family::Llama, "model.layers.1.input_layernorm.weight", "model.layers.0.self_attn.q_proj.bias"),
        (Family::Qwen2, "model.layers.1.self_attn.q_proj.bias", "model.layers.2.input_layernorm.weight"),
        (Family::Gpt2, "transformer.h.1.ln_1.bias", "transformer.h.2.ln_1.bias"),
    ] {
        let refused = |change: &dyn Fn(&mut Tensors), words: [&str; 3]| {
            let mut tensors = family_tensors(family);
            change(&mut tensors);
            let error = load(family, Task::classify(3), &tensors).err().expect("must be refused");
            assert!(words.iter().all(|w| error.contains(w)), "{error}");
        };
        let name = family.model_type();
        refused(&|t| drop(t.remove(key)), [key, "missing", name]);
        refused(&|t| drop(t.insert(key.to_owned(), (vec![16], vec![0.0; 16]))), [key, "[16]", "[32]"]);
        refused(&|t| drop(t.insert(extra.to_owned(), (vec![32], vec![0.0; 32]))), [extra, "not part", name]);
    }
    let error = load(Family::Roberta, Task::classify(3), &family_tensors(Family::Bert)).err().unwrap();
    assert!(error.contains("missing") && error.contains("roberta"), "{error}");
}

#[test]
fn computing_layers_again_gives_the_same_gradients() {
    for (family, task, head) in every() {
        let (_a, mut plain, adapter) = family_engine(family, task, head, OPTIONS);
        let (_b, mut again, _) =
            family_engine(family, task, head, EngineSettings { gradient_checkpointing: true, ..OPTIONS });
        let owned = examples_for(task, &LENGTHS);
        let batch: Vec<&Example> = owned.iter().collect();
        let mut sums = [&mut again, &mut plain].map(|engine| {
            let plain = engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &batch).unwrap();
            let (sum, result) = clipped(engine, Adapter::of(&adapter), RoundKind::TrainB, &batch, 0.5);
            [(plain.sum, plain.losses), (sum, result.losses)]
        });
        let [again, plain] = &mut sums;
        for ((x, losses), (y, expected)) in again.iter().zip(plain) {
            let far = distance(x, y);
            assert!(far < 1e-6, "{family:?} {task:?} {head:?}: {far}");
            assert_eq!(losses, expected);
        }
    }
}

#[test]
fn what_stands_beside_a_text_changes_nothing() {
    for (family, task, head) in every() {
        let (_dir, mut engine, adapter) = family_engine(family, task, head, OPTIONS);
        let owned = examples_for(task, &LENGTHS);
        let batch: Vec<&Example> = owned.iter().collect();
        let together = engine.logits(Adapter::of(&adapter), &batch).unwrap();
        let outcomes = engine.outcomes(Adapter::of(&adapter), &batch).unwrap();
        for (k, example) in batch.iter().enumerate() {
            let alone = engine.logits(Adapter::of(&adapter), &[example]).unwrap();
            let far = distance(&together[k], &alone[0]);
            assert!(far < 1e-5, "{family:?} {task:?}: {far}");
            let own = engine.outcomes(Adapter::of(&adapter), &[example]).unwrap()[0];
            assert!((own.loss - outcomes[k].loss).abs() < 1e-5 && own.correct == outcomes[k].correct);
            let expected = if task == Task::CausalLm { example.predicted().len() } else { 1 };
            assert_eq!(own.counted as usize, expected);
        }
    }
}

#[test]
fn a_shared_engine_computes_the_same() {
    let (_dir, mut engine, adapter) = family_engine(Family::Llama, Task::CausalLm, Head::Frozen, OPTIONS);
    let mut other = engine.share();
    let owned = examples_for(Task::CausalLm, &LENGTHS);
    let batch: Vec<&Example> = owned.iter().collect();
    assert_eq!(
        engine.logits(Adapter::of(&adapter), &batch).unwrap(),
        other.logits(Adapter::of(&adapter), &batch).unwrap()
    );
}

#[test]
fn an_example_for_another_task_is_refused() {
    let (_dir, mut labels, adapter) = family_engine(Family::Llama, Task::classify(3), Head::Frozen, OPTIONS);
    let text = Example::text(vec![5, 6], 0);
    let error = labels.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &[&text]).unwrap_err().to_string();
    assert!(error.contains("without a label"), "{error}");
    let (_dir, mut texts, adapter) = family_engine(Family::Llama, Task::CausalLm, Head::Frozen, OPTIONS);
    let labelled = Example::labelled(vec![5, 6], 0);
    let error = texts.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &[&labelled]).unwrap_err().to_string();
    assert!(error.contains("continue texts"), "{error}");
}

/// Writes model, tokenizer, an adapter that does something, rows, and our logits on them.
fn export(dir: &Path, family: Family, task: Task, head: Head, method: Method, folded: usize) {
    write_model(dir, tiny_config(family), &family_tensors(family));
    write_tokenizer(dir, true);
    let targets: &[&str] = match family {
        Family::Bert => &["query", "value", "output.dense", "pooler.dense"],
        Family::Roberta => &["query", "value", "output.dense"],
        Family::DistilBert => &["q_lin", "v_lin", "lin2"],
        Family::Llama | Family::Mistral | Family::Qwen2 => &["q_proj", "v_proj", "down_proj"],
        Family::Gpt2 => &["c_attn", "mlp.c_proj"],
    };
    let refresh_rounds = (folded > 0).then_some(1);
    let layout = layout_of(dir, &LoraConfig { method, refresh_rounds, ..lora(4, targets, head) }, task);
    let numbers =
        |seed, len| -> Vec<f32> { crate::common::uniform(seed, len).into_iter().map(|u| 0.5 * u as f32).collect() };
    let (values, folded) = (numbers(99, layout.len()), numbers(98, folded * layout.b_len()));
    let adapter = Adapter { values: &values, folded: &folded };
    let frozen = (a_stack(&layout, adapter.generations(&layout).unwrap()), init_head(&layout));
    // a frozen head at its seeded value is small: the adapter's effect on the logits should be seen
    let frozen = (frozen.0, (frozen.1.0.iter().map(|w| 10.0 * w).collect(), frozen.1.1.iter().map(|_| 0.1).collect()));
    let meta = PeftMeta {
        base_model_name_or_path: dir.display().to_string(),
        labels: ["a", "b", "c"].map(str::to_owned)[..task.labels()].to_vec(),
        provenance: Some(Provenance::alone(JobName {
            job: "families".to_owned(),
            job_digest: "ab".repeat(32),
            rounds: 1,
            alone: true,
            privacy: None,
        })),
    };
    peft::save(&dir.join("adapter"), &layout, &frozen.0, &frozen.1, adapter, &meta).unwrap();

    let loaded = peft::load(&dir.join("adapter"), layout.shape()).unwrap();
    assert_eq!((&loaded.layout, loaded.adapter()), (&layout, adapter));
    assert!(layout.trains_a() || loaded.a == frozen.0);
    let texts: Vec<String> =
        (0..20).map(|k| (0..=k * 3).map(|t| format!("w{} ", (t * 7 + k * 13) % 100)).collect()).collect();
    let rows: String = texts.iter().map(|text| serde_json::json!({"text": text}).to_string() + "\n").collect();
    std::fs::write(dir.join("rows.jsonl"), rows).unwrap();
    let tokens = Tokens::open(&dir.join("tokenizer.json"), layout.shape(), layout.shape().max_positions).unwrap();
    let reading = Reading { columns: &Columns::default(), goal: Goal::Answer, tokens: &tokens };
    let found = reading.read(&dir.join("rows.jsonl")).unwrap().rows.all();
    let batch: Vec<&Example> = found.iter().collect();
    let parts = FrozenParts { a: loaded.a.clone(), head: loaded.head.clone() };
    let logits = crate::common::open(dir, &layout, &parts, Precision::F32).logits(loaded.adapter(), &batch).unwrap();
    // the first A alone: the engine draws the others
    let before = FrozenParts { a: init_a(&layout), head: frozen.1 };
    let own = crate::common::open(dir, &layout, &before, Precision::F32).logits(adapter, &batch).unwrap();
    assert_eq!(logits, own, "{family:?} {task:?} {head:?} {method:?}: exported and imported");
    let lines: String = logits.iter().map(|row| serde_json::json!({"logits": row}).to_string() + "\n").collect();
    std::fs::write(dir.join("logits.jsonl"), lines).unwrap();
}

/// `BLINDSUM_HF_PYTHON` names a Python that has torch, transformers and peft; without it only our own half is checked.
#[test]
fn hugging_face_peft_computes_the_same_from_an_export() {
    let python = std::env::var_os("BLINDSUM_HF_PYTHON").map(PathBuf::from);
    if python.is_none() {
        eprintln!("BLINDSUM_HF_PYTHON is not set: the exports were NOT compared with Hugging Face PEFT");
    }
    let ffa = every().map(|(family, task, head)| (family, task, head, Method::FfaLora, 0));
    let some = [
        (Family::Bert, Task::classify(3), Head::Trained),
        (Family::Gpt2, Task::CausalLm, Head::Frozen),
        (Family::Qwen2, Task::classify(3), Head::Frozen),
    ];
    let methods = [(Method::Lora, 0), (Method::RoLora, 0), (Method::FfaLora, 2)];
    let others = methods.into_iter().flat_map(|(method, folded)| some.map(|(f, t, h)| (f, t, h, method, folded)));
    for (family, task, head, method, folded) in ffa.chain(others) {
        let dir = tempfile::tempdir().unwrap();
        export(dir.path(), family, task, head, method, folded);
        let Some(python) = &python else { continue };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peft_parity.py");
        let mut command = Command::new(python);
        command.arg(script).current_dir(dir.path()).args(["--model", ".", "--adapter", "adapter"]);
        command.args(["--rows", "rows.jsonl", "--logits", "logits.jsonl"]);
        let output = command.output().unwrap();
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!("{family:?} {task:?} {head:?} {method:?}, {folded} folded parts:\n{said}");
        assert!(output.status.success(), "{family:?} {task:?} {head:?}: {said}{error}");
    }
}
