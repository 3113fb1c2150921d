//! What the torch engine promises whatever the model: grouping changes nothing, clips hold, errors name their cause.

use blindsum_adapter::{Adapter, Head, RoundKind, Task};
use blindsum_engine::data::Example;
use blindsum_engine::{ClippedSum, Engine, EngineSettings, Precision, each_alone, evaluate};
use blindsum_torch::{FrozenParts, TorchEngine};

use crate::common::{
    TINY_CONFIG, Tensors, clipped, distance, examples, layout_of, lora, norm, tiny_engine, tiny_tensors, unclipped,
    write_model,
};

/// Lengths that make several micro-batches, rows and groups.
const LENGTHS: [usize; 17] = [5, 60, 64, 1, 33, 2, 90, 31, 32, 7, 129, 300, 12, 12, 50, 3, 20];

#[test]
fn an_empty_batch_gives_zeros() {
    for head in [Head::Frozen, Head::Trained] {
        let (_dir, mut engine, adapter) = tiny_engine(Precision::F32, head);
        let plain = engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &[]).unwrap();
        assert_eq!((plain.sum, plain.losses), (vec![0.0; adapter.len()], vec![]));
        let clipped = engine.clipped_sum(Adapter::of(&adapter), RoundKind::TrainB, &[], 1.0).unwrap();
        assert_eq!(clipped, ClippedSum { sum: vec![0; adapter.len()], ..ClippedSum::default() });
        assert!(engine.logits(Adapter::of(&adapter), &[]).unwrap().is_empty());
    }
}

#[test]
fn a_batch_is_the_sum_of_its_examples_however_it_is_grouped() {
    for head in [Head::Frozen, Head::Trained] {
        let (_dir, mut engine, adapter) = tiny_engine(Precision::F32, head);
        let owned = examples(&LENGTHS);
        let batch: Vec<&Example> = owned.iter().collect();
        let alone: Vec<Vec<f32>> = batch
            .iter()
            .map(|e| engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &[e]).unwrap().sum)
            .collect();
        let mut sum = vec![0.0f32; adapter.len()];
        for gradient in &alone {
            sum.iter_mut().zip(gradient).for_each(|(s, g)| *s += g);
        }
        let plain = engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &batch).unwrap();
        let (counted_sum, counted) = unclipped(&mut engine, Adapter::of(&adapter), RoundKind::TrainB, &batch);
        assert!(distance(&plain.sum, &sum) < 1e-5, "{}", distance(&plain.sum, &sum));
        assert!(distance(&counted_sum, &sum) < 1e-5, "{}", distance(&counted_sum, &sum));
        for (found, gradient) in counted.norms.iter().zip(&alone) {
            assert!((found / norm(gradient) - 1.0).abs() < 1e-5, "{found} {}", norm(gradient));
        }
        let logits = engine.logits(Adapter::of(&adapter), &batch).unwrap();
        for (example, logits) in batch.iter().zip(logits) {
            let single = engine.logits(Adapter::of(&adapter), &[example]).unwrap();
            assert!(distance(&logits, &single[0]) < 1e-5);
        }
    }
}

#[test]
fn each_example_is_clipped_on_its_own() {
    for head in [Head::Frozen, Head::Trained] {
        let (_dir, mut engine, adapter) = tiny_engine(Precision::F32, head);
        let owned = examples(&LENGTHS);
        let batch: Vec<&Example> = owned.iter().collect();
        let (free, ClippedSum { mut norms, .. }) =
            unclipped(&mut engine, Adapter::of(&adapter), RoundKind::TrainB, &batch);
        norms.sort_by(f64::total_cmp);
        let clip = norms[norms.len() / 2];
        let mut expected = vec![0.0f32; adapter.len()];
        for example in &batch {
            let (one, _) = clipped(&mut engine, Adapter::of(&adapter), RoundKind::TrainB, &[example], clip);
            let own = engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &[example]).unwrap().sum;
            let factor = (clip / norm(&own)).min(1.0) as f32;
            let scaled: Vec<f32> = own.iter().map(|x| x * factor).collect();
            assert!(distance(&one, &scaled) < 1e-5);
            expected.iter_mut().zip(&scaled).for_each(|(e, s)| *e += s);
        }
        let (found, _) = clipped(&mut engine, Adapter::of(&adapter), RoundKind::TrainB, &batch, clip);
        assert!(distance(&found, &expected) < 1e-5);
        assert!(distance(&found, &free) > 1e-2, "the clip must matter for this test to say anything");
    }
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    let (_dir, mut engine, adapter) = tiny_engine(Precision::F32, Head::Trained);
    let owned = examples(&[9, 40, 70]);
    let batch: Vec<&Example> = owned.iter().collect();
    let gradient = engine.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &batch).unwrap().sum;
    let step = 1e-2 / norm(&gradient);
    let mut loss_at = |sign: f64| {
        let moved: Vec<f32> = adapter.iter().zip(&gradient).map(|(a, g)| a + (sign * step) as f32 * g).collect();
        evaluate(&mut engine, Adapter::of(&moved), &batch).unwrap().mean_loss * batch.len() as f64
    };
    let slope = (loss_at(1.0) - loss_at(-1.0)) / (2.0 * step);
    let expected = norm(&gradient).powi(2);
    assert!((slope / expected - 1.0).abs() < 1e-2, "{slope} instead of {expected}");
}

#[test]
fn an_adapter_that_overflows_contributes_zero_under_a_clip() {
    let (_dir, mut engine, adapter) = tiny_engine(Precision::F32, Head::Frozen);
    let huge: Vec<f32> = adapter.iter().map(|x| x * 1e38).collect();
    let owned = examples(&[5, 6, 7]);
    let batch: Vec<&Example> = owned.iter().collect();
    let result = engine.clipped_sum(Adapter::of(&huge), RoundKind::TrainB, &each_alone(&batch), 1.0).unwrap();
    assert!(result.norms.iter().all(|n| !n.is_finite()), "the case must be reached: {:?}", result.norms);
    assert!(result.sum.iter().all(|&z| z == 0));
    for clip_norm in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error =
            engine.clipped_sum(Adapter::of(&huge), RoundKind::TrainB, &each_alone(&batch), clip_norm).unwrap_err();
        assert!(error.to_string().contains("clip norm"), "{error}");
    }
}

#[test]
fn bf16_follows_f32() {
    let (_a, mut exact, adapter) = tiny_engine(Precision::F32, Head::Trained);
    let (_b, mut fast, _) = tiny_engine(Precision::Bf16, Head::Trained);
    let owned = examples(&LENGTHS);
    let batch: Vec<&Example> = owned.iter().collect();
    let (x, y) = (
        fast.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &batch),
        exact.gradient_sum(Adapter::of(&adapter), RoundKind::TrainB, &batch),
    );
    let far = distance(&x.unwrap().sum, &y.unwrap().sum);
    assert!(far > 0.0 && far < 0.05, "{far}");
}

#[test]
fn what_does_not_fit_the_model_is_refused() {
    let (_dir, mut engine, adapter) = tiny_engine(Precision::F32, Head::Frozen);
    let refused = |engine: &mut TorchEngine, adapter: &[f32], ids: Vec<u32>, label: u32, word: &str| {
        let error = engine
            .gradient_sum(Adapter::of(adapter), RoundKind::TrainB, &[&Example::labelled(ids, label)])
            .unwrap_err()
            .to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(&mut engine, &adapter[1..], vec![1], 0, "adapter");
    refused(&mut engine, &adapter, vec![], 0, "0 tokens");
    refused(&mut engine, &adapter, vec![1; 513], 0, "max_sequence_tokens");
    refused(&mut engine, &adapter, vec![128], 0, "vocabulary");
    refused(&mut engine, &adapter, vec![1], 3, "label");
}

fn load(tensors: &Tensors) -> Result<TorchEngine, String> {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), TINY_CONFIG, tensors);
    let layout = layout_of(dir.path(), &lora(4, &["query"], Head::Frozen), Task::classify(3));
    let (file, options) = (dir.path().join("model.safetensors"), EngineSettings::default());
    TorchEngine::open(&file, &layout, &FrozenParts::from_seed(&layout), options).map_err(|e| e.to_string())
}

#[test]
fn checkpoints_with_and_without_prefix_and_with_old_names_are_one_model() {
    let (_dir, mut engine, adapter) = tiny_engine(Precision::F32, Head::Frozen);
    let owned = examples(&[9, 20]);
    let batch: Vec<&Example> = owned.iter().collect();
    let expected = engine.logits(Adapter::of(&adapter), &batch).unwrap();
    let bare = |n: &str| n.strip_prefix("bert.").unwrap().to_owned();
    let old = |n: &str| n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
    for rename in [&bare as &dyn Fn(&str) -> String, &old] {
        let mut tensors: Tensors = tiny_tensors().into_iter().map(|(n, t)| (rename(&n), t)).collect();
        // what other tasks leave in a checkpoint is passed over
        tensors.insert("cls.predictions.bias".to_owned(), (vec![128], vec![0.5; 128]));
        let dir = tempfile::tempdir().unwrap();
        write_model(dir.path(), TINY_CONFIG, &tensors);
        let mut other =
            crate::common::open(dir.path(), engine.layout(), &FrozenParts::from_seed(engine.layout()), Precision::F32);
        assert_eq!(other.logits(Adapter::of(&adapter), &batch).unwrap(), expected);
    }
}

#[test]
fn a_checkpoint_that_does_not_match_its_config_is_refused_by_name() {
    let refused = |change: &dyn Fn(&mut Tensors), words: [&str; 2]| {
        let mut tensors = tiny_tensors();
        change(&mut tensors);
        let error = load(&tensors).err().expect("must be refused");
        assert!(words.iter().all(|w| error.contains(w)), "{error}");
    };
    let key = "bert.encoder.layer.1.attention.self.key.bias";
    refused(&|t| drop(t.remove(key)), [key, "missing"]);
    refused(&|t| drop(t.remove("bert.pooler.dense.weight")), ["bert.pooler.dense.weight", "pooler"]);
    refused(&|t| drop(t.insert(key.to_owned(), (vec![16], vec![0.0; 16]))), [key, "[16]"]);
    let extra = "bert.encoder.layer.2.output.dense.bias";
    refused(&|t| drop(t.insert(extra.to_owned(), (vec![32], vec![0.0; 32]))), [extra, "not part"]);
}

#[test]
fn a_file_that_is_no_checkpoint_is_refused_by_path() {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), TINY_CONFIG, &tiny_tensors());
    let layout = layout_of(dir.path(), &lora(4, &["query"], Head::Frozen), Task::classify(3));
    let file = dir.path().join("model.safetensors");
    let open = || {
        let engine = TorchEngine::open(&file, &layout, &FrozenParts::from_seed(&layout), EngineSettings::default());
        engine.err().expect("must be refused").to_string()
    };
    std::fs::write(&file, "not a checkpoint").unwrap();
    assert!(open().contains("model.safetensors"));
    std::fs::remove_file(&file).unwrap();
    assert!(open().contains("model.safetensors"));
}
