//! Names and roles, and how a certificate carries them.
//!
//! A certificate names its holder by one URI in its subject alternative names, `urn:blindsum:<role>:<name>`. Silos get
//! no DNS name and no address, so that even without the role check a silo's certificate fits no host name.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::error::{CertsError, ErrorKind, fail};

/// Which of the two ends a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// An organisation's agent: dials out, extended key usage clientAuth.
    Silo,
    /// The coordinator: listens, extended key usage serverAuth.
    Coordinator,
}

impl Role {
    /// The word used in files and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Silo => "silo",
            Role::Coordinator => "coordinator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = CertsError;

    fn from_str(text: &str) -> Result<Role, CertsError> {
        match text {
            "silo" => Ok(Role::Silo),
            "coordinator" => Ok(Role::Coordinator),
            _ => fail(ErrorKind::Name, format!("`{}` is no role: use `silo` or `coordinator`", text.escape_debug())),
        }
    }
}

const URI_PREFIX: &str = "urn:blindsum:";

/// The URI that carries role and name.
pub(crate) fn to_uri(role: Role, name: &str) -> String {
    format!("{URI_PREFIX}{role}:{name}")
}

/// Reads the URI back; `None` when it is not ours.
pub(crate) fn from_uri(uri: &str) -> Option<(Role, &str)> {
    let (role, name) = uri.strip_prefix(URI_PREFIX)?.split_once(':')?;
    let role = role.parse().ok()?;
    check_name(name).ok()?;
    Some((role, name))
}

/// Checks a silo's, a coordinator's or a federation's name: 1 to 63 characters `a-z 0-9 -`.
pub fn check_name(name: &str) -> Result<(), CertsError> {
    if blindsum_crypto::roster::is_valid_name(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    fail(ErrorKind::Name, format!("the name `{shown}` is not allowed: use 1 to 63 of the characters a-z, 0-9 and -"))
}

/// Checks a host name or address under which silos reach the coordinator. Wildcards are refused.
pub fn check_host(host: &str) -> Result<(), CertsError> {
    if host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    // A last label of digits only would be a malformed IPv4 address.
    let last_is_number = host.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    if host.len() <= 253 && host.split('.').all(label) && !last_is_number {
        return Ok(());
    }
    let shown: String = host.chars().take(80).flat_map(char::escape_debug).collect();
    fail(ErrorKind::Name, format!("`{shown}` is neither a host name nor an IP address (no port, no wildcard)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["north", "a", "0-9", &"x".repeat(63)] {
            check_name(good).unwrap();
        }
        for bad in ["", "North", "a b", "a.b", "é", "a\n", "a:b", &"x".repeat(64)] {
            assert_eq!(check_name(bad).unwrap_err().kind(), ErrorKind::Name, "{bad:?}");
        }
    }

    #[test]
    fn hosts_follow_the_rule() {
        for good in ["localhost", "coordinator.example.org", "10.0.0.7", "::1", "a-b.c"] {
            check_host(good).unwrap();
        }
        for bad in ["", "*.example.org", "a..b", "-a", "a:7443", "a_b", "1.2.3", "300.1.1.1"] {
            assert!(check_host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn role_and_name_travel_in_the_uri() {
        assert_eq!(from_uri(&to_uri(Role::Silo, "north")), Some((Role::Silo, "north")));
        assert_eq!(from_uri(&to_uri(Role::Coordinator, "c")), Some((Role::Coordinator, "c")));
        for bad in
            ["urn:blindsum:silo:", "urn:blindsum:silo:A", "urn:blindsum:king:a", "urn:blindsum:silo:a:b", "http://x"]
        {
            assert_eq!(from_uri(bad), None, "{bad}");
        }
    }
}
