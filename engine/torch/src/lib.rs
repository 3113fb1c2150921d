//! The training engine on libtorch: the only place that knows `tch`.
//!
//! ```text
//! checkpoint ─► model: bert, llama, … (encoder or decoder, + lora) ─┐    ┌ head       ┐
//! packing: examples ─► rows ────────────────────────────────────────┴──► ┤            ├ ─► loss ─► one backward pass
//!                                                                        └ next_token ┘
//!                                                                     step: per-example gradients, clip, sum
//! ```
//!
//! Contract: every call into libtorch is one of the fallible `f_` functions and its error is mapped; indices (token
//! ids, labels, lengths) are checked before they reach it. Threads share out micro-batches; inside an operation libtorch
//! uses one thread, a setting that this engine makes for the whole process.

mod allocator;
mod attention;
mod bert;
mod builder;
mod checkpoint;
mod clipped;
mod decoder;
mod device;
mod distilbert;
mod encoder;
mod gpt2;
mod head;
mod llama;
mod lora;
mod model;
mod next_token;
mod norm;
mod packing;
mod places;
mod roberta;
mod sizing;
mod step;

use std::path::Path;
use std::sync::Arc;

use blindsum_adapter::{Adapter, AdapterLayout, HeadRanges, RoundKind};
use blindsum_engine::data::{Example, Target};
use blindsum_engine::{ClippedSum, Engine, EngineError, EngineSettings, GradientSum, Outcome, grid};
use tch::{Device, Kind, TchError, Tensor};

use self::builder::{Place, on};
use self::checkpoint::Checkpoint;
use self::clipped::Units;
use self::head::HeadLayers;
use self::lora::{Loras, cast};
use self::model::Model;
use self::packing::{Packed, RowLimits};
use self::places::Places;

/// The libtorch that this was built with.
pub const LIBTORCH_VERSION: &str = env!("BLINDSUM_LIBTORCH");

type Result<T> = std::result::Result<T, EngineError>;

/// The frozen parts of an adapter: what is not in the flat vector.
#[derive(Clone, Debug, PartialEq)]
pub struct FrozenParts {
    /// A of each module, `[generations·r, in]` row-major, in module order, oldest generation first. An adapter that has
    /// more generations gets the others from the seed; A that is among an adapter's values is not read here.
    pub a: Vec<Vec<f32>>,
    /// The head's weights, row-major, layer after layer, and its biases ([`AdapterLayout::head_parts`]); read only where
    /// the head is frozen.
    pub head: (Vec<f32>, Vec<f32>),
}

impl FrozenParts {
    /// Draws them from the layout's public seed.
    pub fn from_seed(layout: &AdapterLayout) -> Self {
        FrozenParts { a: blindsum_adapter::init_a(layout), head: blindsum_adapter::init_head(layout) }
    }
}

/// A base model of one of the supported families with a LoRA adapter.
pub struct TorchEngine {
    layout: Arc<AdapterLayout>,
    settings: EngineSettings,
    workers: Vec<Worker>,
    places: Places,
}

/// The model as one thread holds it; all share the same memory.
struct Worker {
    layout: Arc<AdapterLayout>,
    model: Box<dyn Model>,
    /// A of each module `[generations·r, in]`, as far as they were needed yet.
    a: Vec<Tensor>,
    /// The frozen head; without layers where the model continues texts.
    head: HeadLayers,
    gradient_checkpointing: bool,
}

impl TorchEngine {
    /// Loads the base model from `weights` ([`blindsum_engine::model::weights`]) for adapters of this layout.
    ///
    /// # Errors
    /// Names the file, and the tensor where one is missing, has another shape, or is not part of the model.
    pub fn open(
        weights: &Path,
        layout: &AdapterLayout,
        frozen: &FrozenParts,
        settings: EngineSettings,
    ) -> Result<Self> {
        let device = device::open(settings.device)?;
        let threads = match settings.threads {
            _ if device != Device::Cpu => 1,
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        allocator::keep_freed_memory();
        tch::set_num_threads(1);
        let _guard = tch::no_grad_guard();
        let place = Place { kind: device::format(settings.precision, device), device };
        let model = model::load(&Checkpoint::open(weights)?, layout, place)?;
        let kinds = model.module_kinds(layout.modules().len());
        if frozen.a.len() != kinds.len() {
            return Err(EngineError::Argument("A has another number of modules than the layout".to_owned()));
        }
        let rank = layout.rank();
        let rows = rank * (frozen.a.first().map_or(0, Vec::len) / (rank * layout.modules()[0].in_features)).max(1);
        let a = layout.modules().iter().zip(&frozen.a).zip(&kinds);
        let put = |((m, a), &kind): ((&blindsum_adapter::Module, &Vec<f32>), &Kind)| {
            place.put(&cast(&matrix(a, &[rows, m.in_features])?, kind)?)
        };
        let a = a.map(put).collect::<Result<_>>()?;
        let head = HeadLayers::new(layout, (&frozen.head.0, &frozen.head.1), model.head_activation(), device)?;
        let layout = Arc::new(layout.clone());
        let gradient_checkpointing = settings.gradient_checkpointing;
        let mut settings = settings;
        if settings.micro_batch_tokens == 0 {
            let per_token = sizing::bytes_per_token(layout.shape(), place.kind, gradient_checkpointing);
            settings.micro_batch_tokens = sizing::micro_batch_tokens(per_token, threads, sizing::free_memory(), device);
        }
        let first = Worker { layout: Arc::clone(&layout), model, a, head, gradient_checkpointing };
        let mut workers: Vec<Worker> = (1..threads).map(|_| first.share()).collect();
        workers.push(first);
        Ok(TorchEngine { layout, settings, workers, places: Places::default() })
    }

    /// Whether matrix products run in bf16.
    pub fn uses_bf16(&self) -> bool {
        self.workers.first().is_some_and(|worker| worker.model.place().kind == Kind::BFloat16)
    }

    /// Another engine for the same job on the same base weights: silos of one process hold them once.
    pub fn share(&self) -> Self {
        TorchEngine {
            layout: Arc::clone(&self.layout),
            settings: self.settings,
            workers: self.workers.iter().map(Worker::share).collect(),
            places: self.places.clone(),
        }
    }

    /// Checks the arguments and makes A reach as far as the adapter does.
    fn check(&mut self, adapter: Adapter<'_>, batch: &[&Example], labelled: bool) -> Result<()> {
        let wrong = |message: String| Err(EngineError::Argument(message));
        let Some(generations) = adapter.generations(&self.layout) else {
            let (values, folded, wanted) = (adapter.values.len(), adapter.folded.len(), self.layout.len());
            return wrong(format!("the adapter has {values} numbers and {folded} folded ones, its layout {wanted}"));
        };
        self.reach(generations)?;
        let shape = self.layout.shape();
        for example in batch {
            let tokens = example.ids.len();
            if tokens == 0 || tokens > shape.max_positions {
                return wrong(format!(
                    "an example has {tokens} tokens; the base model reads 1 to {}: lower max_sequence_tokens",
                    shape.max_positions
                ));
            }
            if example.ids.iter().any(|&id| id as usize >= shape.vocab) {
                return wrong(format!(
                    "the tokenizer gives ids beyond the base model's vocabulary of {}: tokenizer.json and \
                     the weights do not belong together",
                    shape.vocab
                ));
            }
            match example.target {
                _ if !labelled => {}
                Target::Label(_) if self.layout.labels() == 0 => {
                    return wrong("a labelled example, but the job's task is to continue texts".to_owned());
                }
                Target::Label(label) if label as usize >= self.layout.labels() => {
                    return wrong(format!("a label index is beyond the job's {} labels", self.layout.labels()));
                }
                Target::After(_) if self.layout.labels() > 0 => {
                    return wrong("an example without a label, but the job's task is to tell labels apart".to_owned());
                }
                Target::Unknown => return wrong("an example whose target is unknown".to_owned()),
                Target::Label(_) | Target::After(_) => {}
            }
        }
        Ok(())
    }

    /// Draws the A's of later generations that an adapter is the first to need.
    fn reach(&mut self, generations: usize) -> Result<()> {
        let rows = (generations * self.layout.rank()) as i64;
        let Some(held) = self.workers.first().and_then(|w| w.a.first()).map(|a| a.size()[0]) else { return Ok(()) };
        if held >= rows {
            return Ok(());
        }
        let _guard = tch::no_grad_guard();
        let stack = blindsum_adapter::a_stack(&self.layout, generations);
        let mut longer = Vec::with_capacity(stack.len());
        for ((a, module), old) in stack.iter().zip(self.layout.modules()).zip(&self.workers[0].a) {
            let drawn = &a[held as usize * module.in_features..];
            let drawn = cast(&matrix(drawn, &[(rows - held) as usize, module.in_features])?, old.kind())?;
            let drawn = on(&drawn, old.device())?;
            longer.push(Tensor::f_cat(&[old, &drawn], 0).map_err(torch_error)?);
        }
        for worker in &mut self.workers {
            worker.a = longer.iter().map(Tensor::shallow_clone).collect();
        }
        Ok(())
    }

    /// Shares `batch` out into micro-batches, each a load of its own.
    fn pack(&self, batch: &[&Example]) -> Vec<Vec<Packed>> {
        let attention_breakeven = self.layout.hidden().div_ceil(2);
        let (tokens, threads) = (self.settings.micro_batch_tokens, self.workers.len());
        let parts = packing::pack(batch, RowLimits { tokens, attention_breakeven, threads });
        parts.into_iter().map(|part| vec![part]).collect()
    }

    /// Shares loads of micro-batches out among the workers, each on a thread of its own, and returns what each made of its
    /// share. What stands in one load stays together, in its order.
    ///
    /// One thread to a micro-batch, rather than all threads inside each operation: nobody waits at the end of every
    /// small product, which costs most where other programs use the same cores.
    fn share_out<T: Send>(
        &mut self,
        mut loads: Vec<Vec<Packed>>,
        work: impl Fn(&mut Worker, Vec<Packed>) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let busy = self.workers.len().min(loads.len());
        if busy <= 1 {
            let [worker, ..] = self.workers.as_mut_slice() else { return Ok(Vec::new()) };
            tch::set_num_threads(1);
            return Ok(vec![work(worker, loads.into_iter().flatten().collect())?]);
        }
        // each to the lightest share, the largest first
        let tokens = |load: &Vec<Packed>| load.iter().map(|part| part.rows * part.width).sum::<usize>();
        loads.sort_by_key(|load| std::cmp::Reverse(tokens(load)));
        let mut shares: Vec<(usize, Vec<Packed>)> = (0..busy).map(|_| (0, Vec::new())).collect();
        for load in loads {
            if let Some((weight, share)) = shares.iter_mut().min_by_key(|(weight, _)| *weight) {
                *weight += tokens(&load);
                share.extend(load);
            }
        }
        std::thread::scope(|scope| {
            let spawn = |(worker, (_, share)): (_, (_, _))| {
                let work = &work;
                scope.spawn(move || {
                    // libtorch keeps this per thread
                    tch::set_num_threads(1);
                    work(worker, share)
                })
            };
            let threads: Vec<_> = self.workers.iter_mut().zip(shares).map(spawn).collect();
            let died = || EngineError::Torch("a thread of the engine died".to_owned());
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(died()))).collect()
        })
    }
}

impl Engine for TorchEngine {
    fn layout(&self) -> &AdapterLayout {
        &self.layout
    }

    fn gradient_sum(&mut self, adapter: Adapter<'_>, kind: RoundKind, batch: &[&Example]) -> Result<GradientSum> {
        self.check(adapter, batch, true)?;
        let trained = self.layout.trained(kind);
        let parts = self.pack(batch);
        let shares = self.share_out(parts, |worker, parts| worker.sum_gradients(adapter, kind, batch, parts))?;
        let mut total = GradientSum { sum: vec![0.0; trained.len()], losses: vec![0.0; batch.len()] };
        for share in shares {
            // in the workers' order, so that the same batch gives the same bits
            total.sum.iter_mut().zip(&share.sum[trained.clone()]).for_each(|(sum, x)| *sum += x);
            share.losses.into_iter().for_each(|(i, loss)| total.losses[i] = loss);
        }
        Ok(total)
    }

    fn clipped_sum(
        &mut self,
        adapter: Adapter<'_>,
        kind: RoundKind,
        units: &[&[Example]],
        clip_norm: f64,
    ) -> Result<ClippedSum> {
        let units = Units::new(units);
        self.check(adapter, &units.batch, true)?;
        let (count, most) = (units.sizes.len(), grid::MOST_UNITS);
        if !(clip_norm.is_finite() && clip_norm > 0.0) || count > most {
            let what =
                format!("{count} units clipped to {clip_norm}: a clip norm is positive, a step has {most} at most");
            return Err(EngineError::Argument(what));
        }
        let trained = self.layout.trained(kind);
        let loads = self.pack_apart(adapter, kind, &units)?;
        let work = |worker: &mut Worker, parts| worker.sum_clipped(adapter, kind, &units, parts, clip_norm);
        let shares = self.share_out(loads, work)?;
        let sum = vec![0; trained.len()];
        let mut total = ClippedSum { sum, losses: vec![0.0; units.batch.len()], norms: vec![0.0; count] };
        for share in shares {
            total.sum.iter_mut().zip(&share.sum[trained.clone()]).for_each(|(sum, z)| *sum += z);
            share.losses.into_iter().for_each(|(i, loss)| total.losses[i] = loss);
            share.norms.into_iter().for_each(|(i, norm)| total.norms[i] = norm);
        }
        Ok(total)
    }

    fn logits(&mut self, adapter: Adapter<'_>, examples: &[&Example]) -> Result<Vec<Vec<f32>>> {
        self.check(adapter, examples, false)?;
        let parts = self.pack(examples);
        let shares = self.share_out(parts, |worker, parts| worker.logits(adapter, parts))?;
        let mut rows = vec![Vec::new(); examples.len()];
        for (i, row) in shares.into_iter().flatten() {
            rows[i] = row;
        }
        Ok(rows)
    }

    fn outcomes(&mut self, adapter: Adapter<'_>, examples: &[&Example]) -> Result<Vec<Outcome>> {
        self.check(adapter, examples, true)?;
        if self.layout.labels() > 0 {
            let logits = self.logits(adapter, examples)?;
            return examples.iter().zip(logits).map(|(example, row)| Outcome::of_logits(example, &row)).collect();
        }
        let parts = self.pack(examples);
        let shares = self.share_out(parts, |worker, parts| worker.predict(adapter, examples, parts))?;
        let mut outcomes = vec![Outcome::default(); examples.len()];
        for (i, outcome) in shares.into_iter().flatten() {
            outcomes[i] = outcome;
        }
        Ok(outcomes)
    }
}

impl Worker {
    fn share(&self) -> Self {
        Worker {
            layout: Arc::clone(&self.layout),
            model: self.model.share(),
            a: self.a.iter().map(Tensor::shallow_clone).collect(),
            head: self.head.share(),
            gradient_checkpointing: self.gradient_checkpointing,
        }
    }

    fn device(&self) -> Device {
        self.model.place().device
    }

    /// The head for this adapter vector.
    fn head(&self, adapter: Adapter<'_>) -> Result<HeadLayers> {
        match self.layout.head_ranges() {
            None => Ok(self.head.share()),
            Some(HeadRanges { weight, bias }) => {
                let (values, activation) = (adapter.values, self.model.head_activation());
                HeadLayers::new(&self.layout, (&values[weight], &values[bias]), activation, self.device())
            }
        }
    }

    /// The logits of each packed example, with its index in the batch: of the classes, or of the token after its last.
    fn logits(&self, adapter: Adapter<'_>, parts: Vec<Packed>) -> Result<Vec<(usize, Vec<f32>)>> {
        let _guard = tch::no_grad_guard();
        let mut loras = Loras::new(&self.layout, &self.a, adapter, None)?;
        let head = self.head(adapter)?;
        let mut rows = Vec::new();
        for packed in parts {
            let features = model::forward(&*self.model, &packed, &mut loras)?;
            let (logits, _) = match self.model.output() {
                None => head.forward(&features)?,
                Some(output) => {
                    let last = packed.starts.iter().zip(&packed.lengths).map(|(s, n)| (s + n - 1) as i64);
                    let last = indices(&last.collect::<Vec<_>>(), self.device())?;
                    let logits = features.f_index_select(0, &last).and_then(|h| h.f_linear(output, None::<&Tensor>));
                    (logits.map_err(torch_error)?, Vec::new())
                }
            };
            let width = logits.size()[1] as usize;
            let logits = values(&logits)?;
            let logits = logits.chunks_exact(width).map(<[f32]>::to_vec);
            rows.extend(packed.members.iter().copied().zip(logits));
        }
        Ok(rows)
    }

    /// How well each packed text is continued, with its index in the batch.
    fn predict(&self, adapter: Adapter<'_>, batch: &[&Example], parts: Vec<Packed>) -> Result<Vec<(usize, Outcome)>> {
        let _guard = tch::no_grad_guard();
        let mut loras = Loras::new(&self.layout, &self.a, adapter, None)?;
        let output = self.model.output().ok_or_else(|| {
            EngineError::Argument("the base model was opened for classification and continues no texts".to_owned())
        })?;
        let mut outcomes = Vec::new();
        for packed in parts {
            let hidden = model::forward(&*self.model, &packed, &mut loras)?;
            let found = next_token::predict(&hidden, output, &packed, batch, false)?;
            let (losses, correct) = (values(&found.losses)?, values(&found.correct)?);
            for (slot, &i) in packed.members.iter().enumerate() {
                let (counted, correct) = (found.counted[slot], correct[slot].round() as u32);
                outcomes.push((i, Outcome { counted, correct, loss: f64::from(losses[slot]) }));
            }
        }
        Ok(outcomes)
    }
}

/// A tensor of this shape from row-major values.
fn matrix(values: &[f32], shape: &[usize]) -> Result<Tensor> {
    if values.len() != shape.iter().product::<usize>() {
        let message = format!("{} numbers do not make a tensor of shape {shape:?}", values.len());
        return Err(EngineError::Argument(message));
    }
    let size: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
    Tensor::f_from_slice(values).and_then(|t| t.f_view(&size[..])).map_err(torch_error)
}

/// Indices as a tensor on the device.
fn indices(values: &[i64], device: Device) -> Result<Tensor> {
    on(&Tensor::f_from_slice(values).map_err(torch_error)?, device)
}

/// `x + y` in `x`'s own memory; `x` is a fresh result that nothing else keeps.
fn add(mut x: Tensor, y: &Tensor) -> Result<Tensor> {
    x.f_add_(y).map_err(torch_error)
}

/// The numbers of a tensor as f32, row-major.
fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    let tensor = on(&cast(tensor, Kind::Float)?.f_contiguous().map_err(torch_error)?, Device::Cpu)?;
    let mut values = vec![0.0; tensor.numel()];
    tensor.f_copy_data(&mut values, tensor.numel()).map_err(torch_error)?;
    Ok(values)
}

/// The first line of libtorch's message; the rest is a C++ backtrace.
fn torch_error(error: TchError) -> EngineError {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    EngineError::Torch(line.strip_prefix("Internal torch error: ").unwrap_or(line).to_owned())
}
