//! What this organisation accepts: the job held against `[policy]` before anything is sent, and again by the ledger.
//!
//! The federation's files say what will happen, this one what may. Nothing here can widen a job; a job outside the
//! policy is refused with every reason at once, so that the operator reads the list one time.

use blindsum_adapter::training::Protection;
use blindsum_crypto::{Quorum, Roster};
use blindsum_files::{ExitCode, Exits};
use blindsum_protocol::job::Job;

use crate::config::PolicyConfig;

/// Every point in which a job asks for more than the organisation accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the job is outside this organisation's policy, so this silo does not take part:\n  - {}", .reasons.join("\n  - "))]
pub struct PolicyError {
    /// One sentence each, naming the key of `[policy]`.
    pub reasons: Vec<String>,
}

impl Exits for PolicyError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Refused
    }
}

/// Holds job, roster and the quorum derived from them against the policy.
///
/// # Errors
/// All reasons at once.
pub fn check(policy: &PolicyConfig, job: &Job, roster: &Roster, quorum: &Quorum) -> Result<(), PolicyError> {
    let mut reasons = Vec::new();
    let names = roster.len();
    if names < usize::from(policy.min_names) {
        reasons.push(format!("the roster has {names} names, policy.min_names asks for {}", policy.min_names));
    }
    let by_default = (quorum.n - 1) / 3;
    let least = policy.min_tolerated_colluders.unwrap_or(by_default);
    if quorum.c < least {
        reasons.push(format!(
            "the job tolerates {} colluding silos, policy.min_tolerated_colluders asks for {least}{}",
            quorum.c,
            if policy.min_tolerated_colluders.is_none() { " (its default, a third of the others)" } else { "" }
        ));
    }
    if let Some(most) = policy.max_rounds.filter(|&most| job.rounds > most) {
        reasons.push(format!("the job has {} rounds, policy.max_rounds allows {most}", job.rounds));
    }
    match job.protection() {
        Protection::RecordDp { epsilon, delta, .. } => {
            // A limit that is not a number limits nothing, so it refuses everything.
            let beyond = |asked: f64, allowed: f64| allowed.is_nan() || asked > allowed;
            if beyond(epsilon, policy.max_epsilon) {
                reasons.push(format!("the job states ε = {epsilon}, policy.max_epsilon allows {}", policy.max_epsilon));
            }
            if beyond(delta, policy.max_delta) {
                reasons.push(format!("the job states δ = {delta:e}, policy.max_delta allows {:e}", policy.max_delta));
            }
        }
        Protection::None { .. } if !policy.danger_allow_no_privacy => {
            reasons.push(
                "the job has no differential privacy (privacy.mode = \"none\"): the sum and the adapter could give \
                 records away. Only policy.danger_allow_no_privacy = true accepts that"
                    .to_owned(),
            );
        }
        Protection::None { .. } => {}
    }
    if reasons.is_empty() { Ok(()) } else { Err(PolicyError { reasons }) }
}

#[cfg(test)]
mod tests {
    use blindsum_crypto::{IdentityKey, RosterEntry};

    use super::*;

    fn roster(names: u8) -> Roster {
        let entries = (0..names).map(|i| RosterEntry {
            name: format!("silo-{i}"),
            identity: IdentityKey::from_bytes(&[i + 1; 32]).public(),
        });
        Roster::new("test", 1, entries.collect()).unwrap()
    }

    fn job(privacy: &str, training: &str, aggregation: &str) -> Job {
        let hash = "0".repeat(64);
        toml::from_str(&format!(
            "schema = 1\nname = \"j\"\nfederation = \"test\"\nrounds = 20\n[model]\nconfig_sha256 = \"{hash}\"\n\
             weights_sha256 = \"{hash}\"\ntokenizer_sha256 = \"{hash}\"\nlabels = [\"a\", \"b\"]\n\
             max_sequence_tokens = 64\n[lora]\nmethod = \"ffa-lora\"\nr = 2\nlora_alpha = 4.0\n\
             target_modules = [\"query\"]\ninit = \"orthonormal\"\nseed = 1\nhead = \"frozen\"\n[training]\n\
             local_steps = 2\nexpected_batch_examples = 8\noptimizer = \"sgd\"\nlearning_rate = 0.1\n{training}\n\
             [privacy]\n{privacy}\n[aggregation]\nvalue_bits = 16\nmetrics = \"held-out\"\n{aggregation}\n\
             [deadlines]\ntraining_seconds = 60\nphase_seconds = 10\n"
        ))
        .unwrap()
    }

    const PRIVACY: &str = "mode = \"record-dp\"\nsampling_rate = 0.05\nnoise_multiplier = 4.0\nclip_norm = 0.5\nbatch_max = 1024\nepsilon = 6.0\n\
                           delta = 1e-5";

    fn private() -> Job {
        job(PRIVACY, "", "")
    }

    fn policy() -> PolicyConfig {
        PolicyConfig {
            max_epsilon: 6.0,
            max_delta: 1e-5,
            min_names: 3,
            min_tolerated_colluders: None,
            max_rounds: None,
            danger_allow_no_privacy: false,
        }
    }

    fn reasons(policy: &PolicyConfig, job: &Job, names: u8) -> Vec<String> {
        let quorum = Quorum::derive(u16::from(names), job.aggregation.max_colluders, None).unwrap();
        check(policy, job, &roster(names), &quorum).err().map_or_else(Vec::new, |error| error.reasons)
    }

    #[test]
    fn a_job_at_the_limits_is_accepted() {
        assert_eq!(reasons(&policy(), &private(), 4), Vec::<String>::new());
    }

    #[test]
    fn every_reason_is_given_at_once() {
        let strict = PolicyConfig {
            max_epsilon: 3.0,
            max_delta: 1e-6,
            min_names: 5,
            min_tolerated_colluders: Some(2),
            max_rounds: Some(19),
            danger_allow_no_privacy: false,
        };
        let found = reasons(&strict, &private(), 4);
        let keys = ["min_names", "min_tolerated_colluders", "max_rounds", "max_epsilon", "max_delta"];
        assert_eq!(found.len(), keys.len(), "{found:?}");
        keys.iter().zip(&found).for_each(|(key, reason)| assert!(reason.contains(key), "{reason}"));
    }

    #[test]
    fn no_privacy_needs_the_dangerous_switch() {
        let job = job("mode = \"none\"", "max_grad_norm = 1.0", "");
        assert!(reasons(&policy(), &job, 4)[0].contains("danger_allow_no_privacy"));
        assert!(reasons(&PolicyConfig { danger_allow_no_privacy: true, ..policy() }, &job, 4).is_empty());
    }

    #[test]
    fn a_job_that_lowers_the_colluders_below_a_third_is_refused_by_default() {
        let job = job(PRIVACY, "", "max_colluders = 0");
        assert!(reasons(&policy(), &job, 4)[0].contains("min_tolerated_colluders"));
        assert!(reasons(&PolicyConfig { min_tolerated_colluders: Some(0), ..policy() }, &job, 4).is_empty());
    }

    #[test]
    fn a_limit_that_is_not_a_number_refuses() {
        assert_eq!(reasons(&PolicyConfig { max_epsilon: f64::NAN, ..policy() }, &private(), 4).len(), 1);
    }
}
