//! Whose each row is: named by the organisation exactly where the job protects persons.

use blindsum_adapter::training::{PrivacyUnit, Protection};
use blindsum_engine::data::UnitColumn;
use blindsum_files::{ExitCode, Exits};

/// A column of persons that is missing, or that no one asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option} {problem}")]
pub struct UnitError {
    /// The key or the option that names the column.
    pub option: &'static str,
    /// What is wrong, and the remedy.
    pub problem: &'static str,
}

impl Exits for UnitError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }
}

/// The column that says whose each row is, with the job's cap; `option` is where its name was given or is missing.
///
/// # Errors
/// If the job protects persons and no column is named, or the other way round.
pub fn unit_column(
    protection: Protection,
    name: Option<&str>,
    option: &'static str,
) -> Result<Option<UnitColumn>, UnitError> {
    let unit = match protection {
        Protection::RecordDp { unit, .. } => unit,
        Protection::None { .. } => PrivacyUnit::Record,
    };
    let problem = match (unit, name) {
        (PrivacyUnit::Record, None) => return Ok(None),
        (PrivacyUnit::Person { rows_max }, Some(name)) => {
            return Ok(Some(UnitColumn { name: name.to_owned(), rows_max }));
        }
        (PrivacyUnit::Person { .. }, None) => {
            "is missing: the job protects persons (privacy.unit = \"person\"); name the column (or JSON key) that says whose \
             each row is"
        }
        (PrivacyUnit::Record, Some(_)) => {
            "is given, but the job does not protect persons: leave it out, or agree on a job with privacy.unit = \"person\""
        }
    };
    Err(UnitError { option, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_is_needed_exactly_where_the_job_protects_persons() {
        let job = |unit| {
            let (epsilon, delta) = (6.0, 1e-5);
            Protection::RecordDp {
                unit,
                sampling_rate: 0.1,
                noise_multiplier: 1.0,
                clip_norm: 1.0,
                batch_max: 9,
                epsilon,
                delta,
            }
        };
        let (records, persons) = (job(PrivacyUnit::Record), job(PrivacyUnit::Person { rows_max: 7 }));
        let found = |protection, name| unit_column(protection, name, "data.unit_column").map_err(|e| e.to_string());
        assert_eq!(found(records, None), Ok(None));
        assert_eq!(found(Protection::None { max_grad_norm: 1.0 }, None), Ok(None));
        assert_eq!(found(persons, Some("who")), Ok(Some(UnitColumn { name: "who".to_owned(), rows_max: 7 })));
        let error = found(persons, None).unwrap_err();
        assert!(error.starts_with("data.unit_column is missing") && error.contains("privacy.unit"), "{error}");
        for job in [records, Protection::None { max_grad_norm: 1.0 }] {
            let error = found(job, Some("who")).unwrap_err();
            assert!(error.starts_with("data.unit_column is given") && error.contains("leave it out"), "{error}");
        }
    }
}
