//! The real engine on a tiny BERT, with differential privacy, and by the other methods: the sum over QUIC is the sum of the
//! updates, up to rounding, and everybody makes the same of it.

use std::sync::{Arc, Mutex};

use blindsum_adapter::Method;
use blindsum_protocol::server::ServerOptimizer;
use blindsum_silo::agent::{EngineFactory, open_torch};
use blindsum_tests::cluster::{self, Cluster};
use blindsum_tests::site::{SILOS, Site, Terms};
use blindsum_tests::{expect, seams};
use blindsum_torch::TorchEngine;

/// The first silo opens the base model; the others of this process compute on the same weights.
fn shared_torch(base: Arc<Mutex<Option<TorchEngine>>>) -> EngineFactory {
    Box::new(move |config, plan| {
        let mut base = base.lock().unwrap();
        let engine = match &*base {
            Some(engine) => engine.share(),
            None => open_torch(config, plan)?,
        };
        *base = Some(engine.share());
        Ok(Box::new(engine))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_silos_train_with_libtorch_under_differential_privacy() {
    cluster::log();
    let site = Site::new(Terms { private: true, ..Terms::default() });
    let mut cluster = Cluster::start(site).await;
    let base = Arc::new(Mutex::new(None));
    (0..4).for_each(|i| cluster.start_silo_with(i, Vec::new(), shared_torch(Arc::clone(&base))));
    cluster.finish().await;
    let site = &cluster.site;
    let plan = site.plan();
    let mut global = plan.initial_global().to_vec();
    for round in [1, 2] {
        let updates = SILOS.map(|silo| seams::read(&site.record(silo), &seams::updated(round)).unwrap());
        let adopted = SILOS.map(|silo| seams::read(&site.record(silo), &seams::adopted(round)).unwrap());
        assert!(adopted.iter().all(|a| expect::bits(a) == expect::bits(&adopted[0])), "all hold one adapter");
        // Stochastic rounding moves each value by less than one step of the fixed point, the mean by less than that.
        let step = plan.coordinate_bound() / 32767.0;
        for (k, (&after, before)) in adopted[0].iter().zip(&global).enumerate() {
            let mean = updates.iter().map(|u| f64::from(u[k])).sum::<f64>() / 4.0;
            let error = (f64::from(after) - f64::from(*before) - mean).abs();
            assert!(error <= step * 1.001, "round {round}, coordinate {k}: off by {error}, a step is {step}");
        }
        let moved = updates[0].iter().map(|x| f64::from(x.abs())).sum::<f64>() / updates[0].len() as f64;
        assert!(moved > 2.0 * step, "updates of {moved} would vanish in rounding of {step}");
        global.clone_from_slice(&adopted[0]);
    }
    assert_eq!(expect::bits(&site.published()), expect::bits(&global));
    for silo in SILOS {
        let ledger = std::fs::read_to_string(site.path(&format!("ledger-{silo}/ledger.jsonl"))).unwrap();
        assert!(ledger.lines().filter(|line| line.contains("\"debit\"")).count() >= 2, "{silo} debited both rounds");
    }
    let history = site.history();
    // 15 rows, with the noise of four silos: each count has a standard deviation of less than 4 rows.
    let counted = history[0].held_out_examples.expect("held-out rows are counted");
    assert!(history.len() == 3 && counted.abs_diff(15) <= 48, "{counted}");
}

/// A in every second round; A drawn anew after each, with momentum.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_silos_train_by_other_methods() {
    cluster::log();
    let alternate = Terms { rounds: 3, method: Method::RoLora, ..Terms::default() };
    let refreshed = Terms { rounds: 3, refresh_rounds: Some(1), server: ServerOptimizer::FedAvgM, ..Terms::default() };
    for terms in [alternate, refreshed] {
        let mut cluster = Cluster::start(Site::new(terms)).await;
        let base = Arc::new(Mutex::new(None));
        (0..4).for_each(|i| cluster.start_silo_with(i, Vec::new(), shared_torch(Arc::clone(&base))));
        cluster.finish().await;
        let (site, plan) = (&cluster.site, cluster.site.plan());
        let mut state = plan.initial_global().to_vec();
        for round in 1..=terms.rounds {
            let updates = SILOS.map(|silo| seams::read(&site.record(silo), &seams::updated(round)).unwrap());
            let adopted = SILOS.map(|silo| seams::read(&site.record(silo), &seams::adopted(round)).unwrap());
            assert!(adopted.iter().all(|a| expect::bits(a) == expect::bits(&adopted[0])), "all hold one state");
            let sum: Vec<f64> =
                (0..updates[0].len()).map(|k| updates.iter().map(|u| f64::from(u[k])).sum::<f64>()).collect();
            assert!(sum.iter().any(|x| *x != 0.0));
            let expected = plan.state().step(&state, &sum, 4, round);
            assert_eq!(adopted[0].len(), expected.len());
            let step = plan.coordinate_bound() / 32767.0;
            for (k, (found, expected)) in adopted[0].iter().zip(&expected).enumerate() {
                let error = f64::from(found - expected).abs();
                assert!(error <= step * 1.001, "round {round}, number {k}: off by {error}, a step is {step}");
            }
            state.clone_from(&adopted[0]);
        }
        let published = site.published_adapter();
        let last = plan.state().adapter(&state);
        assert_eq!(expect::bits(published.adapter().values), expect::bits(last.values));
        assert_eq!(expect::bits(published.adapter().folded), expect::bits(last.folded));
        let parts = terms.refresh_rounds.map_or(0, |_| 2);
        assert_eq!(last.folded.len(), parts * plan.layout().b_len());
    }
}
