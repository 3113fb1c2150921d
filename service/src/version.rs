//! What `--version` says.

/// Version, commit, and what else the program was built with.
///
/// The commit comes from `option_env!("BLINDSUM_COMMIT")` in each `main.rs`, which the Makefile sets: so a commit
/// compiles the few lines of a `main.rs` again and no library.
#[must_use]
pub fn version(version: &str, commit: Option<&str>, built_with: &[(&str, &str)]) -> String {
    let commit = commit.filter(|commit| !commit.is_empty()).unwrap_or("unknown");
    let rest: String = built_with.iter().map(|(what, which)| format!(", {what} {which}")).collect();
    format!("{version} (commit {commit}{rest})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_commit_and_libraries() {
        assert_eq!(version("0.1.0", Some("abc"), &[("libtorch", "2.11.0")]), "0.1.0 (commit abc, libtorch 2.11.0)");
        assert_eq!(version("0.1.0", None, &[]), "0.1.0 (commit unknown)");
        assert_eq!(version("0.1.0", Some(""), &[]), "0.1.0 (commit unknown)");
    }
}
