//! Messages of another job and of another federation with the same silos' names, to be replayed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use blindsum_crypto::SiloId;
use blindsum_protocol::{CoordinatorMessage, Envelope, SiloMessage};

use crate::cluster::{Action, Cluster, Net, TRAVEL_MS};
use crate::{NONE, Setup, job_text};

#[derive(Clone, Default)]
struct Recorder(Rc<RefCell<Vec<Action>>>);

impl Net for Recorder {
    fn up(&mut self, _now: u64, silo: SiloId, envelope: Envelope<SiloMessage>) -> Vec<Action> {
        self.0.borrow_mut().push(Action::ToCoordinator(silo, envelope.clone(), TRAVEL_MS));
        vec![Action::ToCoordinator(silo, envelope, TRAVEL_MS)]
    }

    fn down(&mut self, _now: u64, silo: SiloId, envelope: Envelope<CoordinatorMessage>) -> Vec<Action> {
        self.0.borrow_mut().push(Action::ToSilo(silo, envelope.clone(), TRAVEL_MS));
        vec![Action::ToSilo(silo, envelope, TRAVEL_MS)]
    }

    fn wake(&mut self, _now: u64, _ticket: usize) -> Vec<Action> {
        Vec::new()
    }
}

thread_local! {
    static RECORDED: RefCell<BTreeMap<(u16, bool), Vec<Action>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Looks for a message among those of a whole run of another job (`same_federation`) or of another federation.
pub fn find<T>(n: u16, same_federation: bool, look: impl FnOnce(&[Action]) -> Option<T>) -> Option<T> {
    RECORDED.with_borrow_mut(|recorded| {
        let actions = recorded.entry((n, same_federation)).or_insert_with(|| record(n, same_federation));
        look(actions)
    })
}

fn record(n: u16, same_federation: bool) -> Vec<Action> {
    let job = job_text(1, NONE, "off").replace("name = \"test\"", "name = \"other\"");
    let setup = if same_federation { Setup::new(n, &job) } else { Setup::of("banks", n, &job) };
    let mut cluster = Cluster::new(setup);
    let recorder = Recorder::default();
    cluster.net = Some(Box::new(recorder.clone()));
    cluster.seed = 77;
    cluster.finish();
    recorder.0.take()
}
