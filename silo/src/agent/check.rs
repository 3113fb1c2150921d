//! `blindsum-silo check`: everything that `run` will need, tried without a trace.
//!
//! Contract: connects to nobody and leaves nothing behind; the steps are those of [`super::setup`] and of the agent's start,
//! so that what is found in order here is what `run` finds.

use std::path::Path;

use blindsum_adapter::provenance;
use blindsum_certs::{Credentials, Role, roster};
use blindsum_engine::local::os_rng;
use blindsum_files::probe;
use blindsum_protocol::silo::{SiloMachine, SiloSetup};
use blindsum_service::{Checklist, Document, ExitCode};

use super::allowance::{Known, Uses};
use super::{AgentError, Rows, data, held, read_journal, replayed, setup, torch};
use crate::config::SiloConfig;
use crate::journal::JournalFile;
use crate::policy;

/// Tries everything and prints what was found; the code is that of the first problem.
#[must_use]
pub fn check(config: &SiloConfig, document: &Document) -> ExitCode {
    let mut check = Checklist::default();
    check.find("settings", setup::settings(config, document), |()| format!("coordinator {}", config.coordinator));
    let credentials = check.find("keys", Credentials::load(&config.credentials_dir, Role::Silo), |found| {
        format!("the certificate of {:?}, valid until {}", found.info.name, found.info.until())
    });
    let identity = check.find("identity key", setup::identity(config), |_| "for signatures".to_owned());
    let roster = check.find("roster", roster::load(&config.roster), |roster| {
        format!("{} silos of federation {:?}, fingerprint {}", roster.len(), roster.federation_id(), roster.hash())
    });
    let job = check.find("job", setup::job(config), |(job, _)| {
        format!("{:?}, {} rounds, digest {}", job.name, job.rounds, job.digest())
    });
    let me = match (&credentials, &identity, &roster) {
        (Some(credentials), Some(identity), Some(roster)) => {
            let place = setup::place(config, document, credentials, identity, roster);
            check.find("membership", place, |me| format!("{:?} is silo {me} of the roster", config.name))
        }
        _ => needs(&mut check, "membership", "keys and roster"),
    };
    let model = match &job {
        Some((job, _)) => check.find("base model", setup::model(config, job), |_| "as the job pins it".to_owned()),
        None => needs(&mut check, "base model", "the job"),
    };
    let training = match &job {
        Some(job) => check.find("ε as stated", setup::training(job), |(_, mechanism)| match mechanism {
            Some(m) => format!(
                "sampling rate {}, noise multiplier {}: ε = {:.4} at δ = {:e}",
                m.q,
                m.noise_multiplier,
                m.epsilon(),
                m.delta
            ),
            None => "the job has no differential privacy".to_owned(),
        }),
        None => needs(&mut check, "ε as stated", "the job"),
    };
    let plan = match (&job, &model, &roster) {
        (Some(job), Some(model), Some(roster)) => check.find("plan", setup::plan(job, model, roster), |plan| {
            format!("{} trained coordinates; {}", plan.layout().len(), roster::short_quorum(&plan.quorum()))
        }),
        _ => needs(&mut check, "plan", "job, base model and roster"),
    };
    if let (Some(plan), Some(roster)) = (&plan, &roster) {
        let accepted = policy::check(&config.policy, plan.job(), roster, &plan.quorum());
        check.find("policy", accepted, |()| "accepts the job".to_owned());
    } else {
        check.not_tried("policy", "the plan");
    }
    let rows = match (&plan, &model) {
        (Some(plan), Some(model)) => check.find("rows", data::load(config, plan.job(), model), |rows| {
            let train = &rows.train;
            format!("{}{} for training, {} held out", train.len(), train.whose(), rows.held_out_len())
        }),
        _ => needs(&mut check, "rows", "plan and base model"),
    };
    rows.iter().flat_map(Rows::remarks).for_each(|remark| check.note("rows", remark));
    let state = check.find("state_dir", probe::state_dir(&config.state_dir), |()| {
        let there = if config.state_dir.exists() { "is there" } else { "can be made" };
        format!("{} {there}", config.state_dir.display())
    });
    let privacy = match (&plan, &rows, training) {
        (Some(plan), Some(rows), Some((_, privacy))) => {
            let allowed = privacy.as_ref().map_or(Ok(()), |mechanism| setup::allows(mechanism, rows));
            let spent = allowed.and_then(|()| {
                let Some(uses) = Uses::of(config, plan, rows, privacy)? else { return Ok(None) };
                let path = config.state_dir.join("journal");
                let entries = read_journal(&path, &JournalFile::look(&path)?)?;
                let spent = uses.look(rows, &Known::new(&config.state_dir, plan.job(), &entries)?)?;
                Ok(Some((spent, privacy.map_or(0.0, |p| p.delta))))
            });
            let spent = check.find("privacy", spent, |spent| match spent {
                Some((spent, delta)) => format!(
                    "ε = {:.4} spent at δ = {delta:e} on each of these rows in this job; over all jobs {:.4} of {}",
                    spent.in_job, spent.over_jobs, config.policy.max_epsilon
                ),
                None => "none: the job has no differential privacy".to_owned(),
            });
            for remark in privacy.iter().flat_map(|mechanism| mechanism.remarks(rows.train.units() as u64)) {
                check.note("privacy", remark);
            }
            spent
        }
        _ => needs(&mut check, "privacy", "plan, rows and an ε that the job keeps"),
    };
    match (plan.as_ref(), state, roster, identity, me) {
        (Some(plan), Some(()), Some(roster), Some(identity), Some(me)) => {
            let resumes = || -> Result<u32, AgentError> {
                let dir = &config.state_dir;
                let path = dir.join("journal");
                let journal = replayed(&path, &read_journal(&path, &JournalFile::look(&path)?)?)?;
                let held = held::load_for(plan, &dir.join("adapter"))?;
                let round = held.as_ref().map_or(0, |held| held.round);
                let (roster, plan) = (roster.into(), plan.clone().into());
                let machine = SiloSetup { me, identity, roster, plan, journal, held };
                SiloMachine::new(machine, Box::new(os_rng()?), 0)
                    .map_err(|e| AgentError::State { path: dir.clone(), problem: e.to_string() })?;
                Ok(round)
            };
            check.find("journal", resumes(), |round| match round {
                0 => "nothing adopted yet".to_owned(),
                round if *round >= plan.last_round() => {
                    format!("the job is over: the result of round {round} is adopted")
                }
                round => format!("goes on after round {round}"),
            });
        }
        _ => check.not_tried("journal", "plan, membership and state_dir"),
    }
    match (&config.output_dir, &plan) {
        (None, _) => check.note("output_dir", "none: this silo writes no adapter for its users"),
        (Some(dir), Some(plan)) => {
            let usable = output(dir, plan);
            let used = check.find("output_dir", usable, |_| format!("{} can be written", dir.display()));
            if used == Some(true) && !config.state_dir.join("journal").exists() {
                let words = "output_dir holds this job's adapter already, but state_dir is new: what this silo signed \
                             before stands in another one. Name that one";
                check.note("state_dir", words);
            }
        }
        (Some(_), None) => check.not_tried("output_dir", "the plan"),
    }
    match (&plan, privacy) {
        (Some(plan), Some(_)) => {
            check.find("engine", torch::open_torch(config, plan).map_err(AgentError::from), |engine| {
                let format = if engine.uses_bf16() { "bf16" } else { "f32" };
                format!("libtorch {} on {}, {format}", blindsum_torch::LIBTORCH_VERSION, config.device)
            });
        }
        _ => check.not_tried("engine", "plan and rows"),
    }
    check.end()
}

/// Whether the folder is this job's already.
fn output(dir: &Path, plan: &blindsum_protocol::Plan) -> Result<bool, AgentError> {
    let ours = provenance::look(dir, &plan.job().output_name())?;
    probe::writable(dir)?;
    Ok(ours)
}

fn needs<T>(check: &mut Checklist, what: &str, needed: &str) -> Option<T> {
    check.not_tried(what, needed);
    None
}
