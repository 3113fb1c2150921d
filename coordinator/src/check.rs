//! `blindsum-coordinator check`: everything that `run` will need, tried without a trace.
//!
//! Contract: accepts no connection and leaves nothing behind; the steps are those of [`crate::setup`] and of the service's
//! start, so that what is found in order here is what `run` finds.

use blindsum_adapter::provenance;
use blindsum_certs::{Credentials, Role, roster};
use blindsum_files::probe;
use blindsum_protocol::plan::Plan;
use blindsum_service::{Checklist, Document, ExitCode};
use blindsum_transport::try_listen;

use crate::config::CoordinatorConfig;
use crate::error::CoordinatorError;
use crate::output;
use crate::setup;
use crate::store::Store;

/// Tries everything and prints what was found; the code is that of the first problem.
#[must_use]
pub fn check(config: &CoordinatorConfig, document: &Document) -> ExitCode {
    let mut check = Checklist::default();
    check.find("settings", setup::settings(config, document), |()| "folders lie apart".to_owned());
    check.find("listen", try_listen(config.listen), |()| format!("{} (UDP) is free", config.listen));
    check.find("keys", Credentials::load(&config.credentials_dir, Role::Coordinator), |found| {
        format!(
            "the certificate of {:?} for {}, valid until {}",
            found.info.name,
            found.info.hosts.join(", "),
            found.info.until()
        )
    });
    let roster = check.find("roster", roster::load(&config.roster), |roster| {
        format!("{} silos of federation {:?}, fingerprint {}", roster.len(), roster.federation_id(), roster.hash())
    });
    let job = check.find("job", setup::job(config), |(job, _)| {
        format!("{:?}, {} rounds, digest {}", job.name, job.rounds, job.digest())
    });
    let shape = match &job {
        Some((job, _)) => check.find("base model", setup::shape(config, job), |_| "as the job pins it".to_owned()),
        None => needs(&mut check, "base model", "the job"),
    };
    let plan = match (&job, &shape, &roster) {
        (Some(job), Some(shape), Some(roster)) => check.find("plan", setup::plan(job, shape, roster), |plan| {
            format!("{} trained coordinates; {}", plan.layout().len(), roster::short_quorum(&plan.quorum()))
        }),
        _ => needs(&mut check, "plan", "job, base model and roster"),
    };
    match &plan {
        Some(plan) => {
            check.find("state_dir", state(config, plan), |()| {
                let there = if config.state_dir.exists() { "is there" } else { "can be made" };
                format!("{} {there}", config.state_dir.display())
            });
            check.find("output_dir", output(config, plan), |newest| {
                let dir = config.output_dir.display();
                match newest {
                    0 => format!("{dir} can be written"),
                    newest if *newest >= plan.last_round() => format!("{dir} holds the whole job: it is over"),
                    newest => format!("{dir} can be written; it holds the job up to round {newest}"),
                }
            });
        }
        None => {
            check.not_tried("state_dir", "the plan");
            check.not_tried("output_dir", "the plan");
        }
    }
    check.end()
}

fn state(config: &CoordinatorConfig, plan: &Plan) -> Result<(), CoordinatorError> {
    probe::state_dir(&config.state_dir)?;
    Store::look(&config.state_dir.join("store.sqlite"), plan.job_digest())?;
    Ok(())
}

/// The newest round in the history; 0 before the first.
fn output(config: &CoordinatorConfig, plan: &Plan) -> Result<u32, CoordinatorError> {
    provenance::look(&config.output_dir, &plan.job().output_name())?;
    probe::writable(&config.output_dir)?;
    let newest = output::newest(&config.output_dir)?;
    if !config.state_dir.join("store.sqlite").exists() {
        output::lost_store(&config.output_dir, newest, 0, &config.state_dir)?;
    }
    Ok(newest)
}

fn needs<T>(check: &mut Checklist, what: &str, needed: &str) -> Option<T> {
    check.not_tried(what, needed);
    None
}
