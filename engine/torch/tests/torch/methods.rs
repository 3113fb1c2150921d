//! What the torch engine promises under each method: exact per-example gradients of A, of B and of both, with folded parts
//! too, and untouched what a round does not train.

use blindsum_adapter::training::Optimizer;
use blindsum_adapter::{Adapter, AdapterLayout, Family, Head, LoraConfig, Method, RoundKind, Task};
use blindsum_engine::data::Example;
use blindsum_engine::local::{LocalTrainer, StepPrivacy, TrainSpec};
use blindsum_engine::{Engine, EngineSettings, Precision, each_alone, evaluate};
use blindsum_torch::{FrozenParts, TorchEngine};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::common::{
    OPTIONS, clipped, distance, examples, examples_for, family_tensors, layout_of, lora, norm, open_with, tasks,
    tiny_config, unclipped, uniform, write_model,
};

/// Odd in number, of very different lengths.
const LENGTHS: [usize; 7] = [5, 129, 1, 33, 2, 64, 90];

/// An engine with an adapter that is not zero.
struct Case {
    name: String,
    task: Task,
    _dir: tempfile::TempDir,
    engine: TorchEngine,
    kind: RoundKind,
    values: Vec<f32>,
    folded: Vec<f32>,
}

impl Case {
    fn new(of: (Family, Task, Head), method: Method, kind: RoundKind, folded: usize, options: EngineSettings) -> Case {
        let (family, task, head) = of;
        let dir = tempfile::tempdir().unwrap();
        write_model(dir.path(), tiny_config(family), &family_tensors(family));
        let mut targets = family.default_target_modules().to_vec();
        // a layer that goes on with one row per example at the end, of two different sides
        targets.push(match family {
            Family::DistilBert => "lin2",
            Family::Bert | Family::Roberta => "output.dense",
            Family::Gpt2 => "mlp.c_proj",
            Family::Llama | Family::Mistral | Family::Qwen2 => "down_proj",
        });
        let refresh_rounds = (folded > 0).then_some(3);
        let layout = layout_of(dir.path(), &LoraConfig { method, refresh_rounds, ..lora(4, &targets, head) }, task);
        let numbers = |seed, len| uniform(seed, len).into_iter().map(|u| 0.1 * u as f32).collect::<Vec<f32>>();
        let (values, folded) = (numbers(999, layout.len()), numbers(998, folded * layout.b_len()));
        let engine = open_with(dir.path(), &layout, &FrozenParts::from_seed(&layout), options);
        let name = format!("{family:?} {task:?} {head:?} {method:?} {kind:?} {}", folded.len());
        Case { name, task, _dir: dir, engine, kind, values, folded }
    }

    fn gradient(&mut self, batch: &[&Example]) -> Vec<f32> {
        let adapter = Adapter { values: &self.values, folded: &self.folded };
        self.engine.gradient_sum(adapter, self.kind, batch).unwrap().sum
    }

    /// Clipped, or at the largest norm.
    fn clipped(&mut self, batch: &[&Example], clip: Option<f64>) -> (Vec<f32>, Vec<f64>) {
        let adapter = Adapter { values: &self.values, folded: &self.folded };
        let (sum, result) = match clip {
            Some(clip) => clipped(&mut self.engine, adapter, self.kind, batch, clip),
            None => unclipped(&mut self.engine, adapter, self.kind, batch),
        };
        (sum, result.norms)
    }
}

fn cases(options: EngineSettings) -> impl Iterator<Item = Case> {
    let methods = [
        (Method::Lora, RoundKind::TrainBoth, 0),
        (Method::RoLora, RoundKind::TrainB, 0),
        (Method::RoLora, RoundKind::TrainA, 0),
        (Method::FfaLora, RoundKind::TrainB, 1),
        (Method::FfaLora, RoundKind::TrainB, 2),
    ];
    let heads = |task| match task {
        Task::SequenceClassification { .. } => vec![Head::Frozen, Head::Trained],
        Task::CausalLm => vec![Head::Frozen],
    };
    let of_family = |family| tasks(family).into_iter().map(move |task| (family, task));
    let models = Family::ALL.into_iter().flat_map(of_family);
    let models = models.flat_map(move |(family, task)| heads(task).into_iter().map(move |head| (family, task, head)));
    let all = move |of| methods.map(|(method, kind, folded)| Case::new(of, method, kind, folded, options));
    models.flat_map(all)
}

fn bert(head: Head, method: Method, kind: RoundKind, folded: usize) -> Case {
    Case::new((Family::Bert, Task::classify(3), head), method, kind, folded, OPTIONS)
}

#[test]
fn per_example_gradients_are_those_of_each_example_alone() {
    for mut case in cases(OPTIONS) {
        let trained = case.engine.layout().trained(case.kind);
        for count in [0, 1, LENGTHS.len()] {
            let owned = examples_for(case.task, &LENGTHS[..count]);
            let batch: Vec<&Example> = owned.iter().collect();
            // without a clip no gradient is taken apart by example: one backward pass over this example
            let alone: Vec<Vec<f32>> = batch.iter().map(|e| case.gradient(&[e])).collect();
            let (_, norms) = case.clipped(&batch, None);
            for (found, gradient) in norms.iter().zip(&alone) {
                let norm = norm(gradient);
                assert!((found - norm).abs() <= 1e-5 * norm, "{}: {found} {norm}", case.name);
            }
            let mut sorted = norms.clone();
            sorted.sort_by(f64::total_cmp);
            // above the largest norm nothing is clipped, at the middle one half of the examples
            let plain: Vec<f32> = (0..trained.len()).map(|i| alone.iter().map(|gradient| gradient[i]).sum()).collect();
            assert!(count == 0 || distance(&case.gradient(&batch), &plain) < 1e-5, "{}", case.name);
            for clip in [None, Some(sorted.get(count / 2).copied().unwrap_or(1.0))] {
                let mut expected = vec![0.0f32; trained.len()];
                for gradient in &alone {
                    let factor = (clip.unwrap_or(f64::INFINITY) / norm(gradient)).min(1.0) as f32;
                    expected.iter_mut().zip(gradient).for_each(|(e, g)| *e += factor * g);
                }
                let (found, _) = case.clipped(&batch, clip);
                if count == 0 {
                    assert_eq!(found, expected, "{}", case.name);
                } else {
                    let far = distance(&found, &expected);
                    assert!(far < 1e-5, "{} {count} {clip:?}: {far}", case.name);
                }
            }
        }
    }
}

/// The parts of what is trained whose slope is looked at by itself: A and B of each module, and all together.
fn directions(layout: &AdapterLayout, kind: RoundKind) -> Vec<std::ops::Range<usize>> {
    let mut ranges = vec![layout.trained(kind)];
    for i in 0..layout.modules().len() {
        ranges.extend(kind.trains_b().then(|| layout.b_range(i)));
        ranges.extend(kind.trains_a().then(|| layout.a_range(i).unwrap()));
    }
    ranges
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    for mut case in cases(OPTIONS) {
        let owned = examples_for(case.task, &[9, 40, 70]);
        let batch: Vec<&Example> = owned.iter().collect();
        let gradient = case.gradient(&batch);
        let base = case.engine.layout().trained(case.kind).start;
        for range in directions(case.engine.layout(), case.kind) {
            let part = &gradient[range.start - base..range.end - base];
            let expected = norm(part).powi(2);
            // a unit of DistilBERT's head may cross the kink of its ReLU on the way: then a shorter one is taken
            let fits = [3e-3, 1e-3].into_iter().any(|way| {
                let step = way / norm(part);
                let mut loss_at = |sign: f64| {
                    let mut moved = case.values.clone();
                    moved[range.clone()].iter_mut().zip(part).for_each(|(a, g)| *a += (sign * step) as f32 * g);
                    let adapter = Adapter { values: &moved, folded: &case.folded };
                    evaluate(&mut case.engine, adapter, &batch).unwrap().mean_loss * batch.len() as f64
                };
                let slope = (loss_at(1.0) - loss_at(-1.0)) / (2.0 * step);
                // logits are f32: a loss of about 3 is known to some 1e-6
                (slope - expected).abs() < 2e-2 * expected + 1e-6 / way * norm(part)
            });
            assert!(fits, "{} {range:?}", case.name);
        }
    }
}

#[test]
fn computing_layers_again_gives_the_same_gradients() {
    let again = cases(EngineSettings { gradient_checkpointing: true, ..OPTIONS });
    for (mut again, mut plain) in again.zip(cases(OPTIONS)) {
        let owned = examples_for(plain.task, &LENGTHS);
        let batch: Vec<&Example> = owned.iter().collect();
        let far = distance(&again.clipped(&batch, Some(0.5)).0, &plain.clipped(&batch, Some(0.5)).0);
        assert!(far < 1e-6, "{}: {far}", plain.name);
    }
}

#[test]
fn bf16_follows_f32() {
    for (mut fast, mut exact) in cases(EngineSettings { precision: Precision::Bf16, ..OPTIONS }).zip(cases(OPTIONS)) {
        if fast.name.starts_with("DistilBert") {
            continue; // a unit near the kink of the head's ReLU has its whole gradient in one format and none in the other
        }
        let owned = examples_for(fast.task, &LENGTHS);
        let batch: Vec<&Example> = owned.iter().collect();
        let far = distance(&fast.gradient(&batch), &exact.gradient(&batch));
        assert!(far > 0.0 && far < 0.05, "{}: {far}", fast.name);
    }
}

#[test]
fn a_sum_has_of_each_example_what_it_gives_alone_bit_for_bit() {
    let bf16 = EngineSettings { precision: Precision::Bf16, ..OPTIONS };
    let again = EngineSettings { gradient_checkpointing: true, ..bf16 };
    for mut case in [OPTIONS, bf16, again].into_iter().flat_map(cases) {
        let owned = examples_for(case.task, &LENGTHS);
        // two of each width and three of one
        let batch: Vec<&Example> = owned.iter().chain(&owned).chain(&owned[..1]).collect();
        let mut sum = |batch: &[&Example]| {
            let adapter = Adapter { values: &case.values, folded: &case.folded };
            case.engine.clipped_sum(adapter, case.kind, &each_alone(batch), 0.5).unwrap().sum
        };
        let mut rest = sum(&batch);
        assert!(rest.iter().any(|&z| z != 0), "{}", case.name);
        for example in batch {
            rest.iter_mut().zip(sum(&[example])).for_each(|(rest, z)| *rest -= z);
        }
        assert!(rest.iter().all(|&z| z == 0), "{}", case.name);
    }
}

#[test]
fn a_folded_part_and_a_newest_of_zero_compute_what_it_computed_before() {
    let mut case = bert(Head::Frozen, Method::FfaLora, RoundKind::TrainB, 1);
    let owned = examples(&LENGTHS);
    let batch: Vec<&Example> = owned.iter().collect();
    let zeros = vec![0.0; case.values.len()];
    let before = case.engine.logits(Adapter::of(&case.values), &batch).unwrap();
    let after = case.engine.logits(Adapter { values: &zeros, folded: &case.values }, &batch).unwrap();
    for (before, after) in before.iter().zip(&after) {
        assert!(distance(before, after) < 1e-6);
    }
    let again = case.engine.logits(Adapter::of(&case.values), &batch).unwrap();
    assert_eq!(before, again, "an engine that has drawn a later A still computes the first");
}

#[test]
fn an_adapter_of_other_lengths_is_refused() {
    let mut case = bert(Head::Frozen, Method::Lora, RoundKind::TrainBoth, 0);
    let b = case.engine.layout().b_len();
    for adapter in [
        Adapter::of(&case.values[..b]),
        Adapter { values: &case.values, folded: &case.values[..b] },
        Adapter { values: &case.values, folded: &case.values[..1] },
    ] {
        assert!(case.engine.logits(adapter, &[]).unwrap_err().to_string().contains("adapter"));
    }
}

#[test]
fn a_round_moves_only_what_it_trains_and_an_empty_one_nothing() {
    for (round, kind) in [(1, RoundKind::TrainB), (2, RoundKind::TrainA)] {
        for rows in [0, 5] {
            let mut case = bert(Head::Trained, Method::RoLora, kind, 0);
            let privacy = StepPrivacy::None { max_grad_norm: 1.0 };
            let learning_rate = 0.1.into();
            let spec =
                TrainSpec { local_steps: 2, expected_batch: 5, optimizer: Optimizer::Sgd, learning_rate, privacy };
            let trainer = LocalTrainer::new(examples(&LENGTHS[..rows]), spec).unwrap();
            let mut rng = ChaCha20Rng::seed_from_u64(1);
            let adapter = Adapter::of(&case.values);
            let update = trainer.round(&mut case.engine, round, adapter, &mut rng, &mut |_| true).unwrap();
            assert_eq!(update.values.len(), case.engine.layout().trained(kind).len());
            assert_eq!(update.values.iter().any(|&x| x != 0.0), rows > 0);
        }
    }
}
