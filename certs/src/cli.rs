//! The commands of `blindsum-certs`: what each asks and how its `--help` teaches it.

use std::path::PathBuf;

use blindsum_service::{ExitCode, Program, exit, say};
use clap::{Parser, Subcommand};

use crate::authority::MAX_DAYS;
use crate::commands::execute;
use crate::error::CertsError;
use crate::names::Role;

const NAME: &str = "blindsum-certs";

const ORDER: &str = "In this order:
  authority-init               the authority, once
  silo-init, coordinator-init  every member, on its own machine
  sign                         the authority, for each request that it was sent
  roster make                  whoever keeps the roster, from the silos' identity files
  install, roster show         every member; fingerprints are compared over the telephone
Later: authority list, revoke. Each command prints what to type next.";

/// Keys, certificates and the roster of a blindsum federation.
///
/// Every member makes its private keys on its own machine, and they stay there. What travels is no secret: requests
/// (.csr), identity files, certificates, the revocation list and the roster.
#[derive(Debug, Parser)]
#[command(name = NAME, version, arg_required_else_help = true, after_help = format!("{ORDER}\n\n{}", exit::HELP))]
pub struct CertsCli {
    #[command(subcommand)]
    command: CertsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// On the authority's machine, once: make the federation's authority.
    ///
    /// Its key stays in the folder and signs the members' certificates. Whoever holds it decides who is in the
    /// federation: keep a backup where nobody else reads it.
    #[command(after_help = "Example:\n  blindsum-certs authority-init --dir authority --federation clinics\n\n\
        Next: members make their keys and send their .csr files here; then `blindsum-certs sign`.")]
    AuthorityInit {
        /// Folder to make (mode 0700).
        #[arg(long)]
        dir: PathBuf,
        /// The federation's name: 1 to 63 of a-z, 0-9 and -.
        #[arg(long)]
        federation: String,
        /// Validity in days.
        #[arg(long, default_value_t = 3650, value_parser = days())]
        days: u64,
    },
    /// On the authority's machine: look at what it did.
    #[command(arg_required_else_help = true)]
    Authority {
        #[command(subcommand)]
        command: AuthorityCommand,
    },
    /// On a silo's machine: make its TLS key, its identity key and the request for its certificate.
    #[command(after_help = "Example:\n  blindsum-certs silo-init --dir keys --name clinic-a\n\n\
        Next: send keys/clinic-a.csr to the authority and keys/clinic-a.identity.toml to whoever makes the roster; \
        read the key fingerprint out to the authority.")]
    SiloInit {
        /// Folder to make (mode 0700).
        #[arg(long)]
        dir: PathBuf,
        /// The silo's name, as it will stand in the roster: 1 to 63 of a-z, 0-9 and -.
        #[arg(long)]
        name: String,
    },
    /// On the coordinator's machine: make its TLS key and the request for its certificate.
    #[command(after_help = "Example:\n  blindsum-certs coordinator-init --dir keys --host coordinator.example.org\n\n\
        Next: send keys/coordinator.csr to the authority and read the key fingerprint out to it.")]
    CoordinatorInit {
        /// Folder to make (mode 0700).
        #[arg(long)]
        dir: PathBuf,
        /// The coordinator's name: 1 to 63 of a-z, 0-9 and -.
        #[arg(long, default_value = "coordinator")]
        name: String,
        /// A host name or address under which silos reach it, without port; may be given several times.
        #[arg(long = "host", required = true)]
        hosts: Vec<String>,
    },
    /// On the authority's machine: check a request and sign it.
    ///
    /// Compare the key fingerprint that is printed with the one that the member reads out, before you send the
    /// certificate.
    #[command(after_help = "Example:\n  \
        blindsum-certs sign --authority authority --role silo --csr clinic-a.csr --out clinic-a.pem\n\n\
        Next: send the certificate and authority/authority.pem to the member, who types `blindsum-certs install`.")]
    Sign {
        /// The authority's folder.
        #[arg(long)]
        authority: PathBuf,
        /// The role that you mean to grant: silo or coordinator.
        #[arg(long)]
        role: Role,
        /// The request (.csr).
        #[arg(long)]
        csr: PathBuf,
        /// Where to write the certificate; only an older one of the same member is replaced.
        #[arg(long)]
        out: PathBuf,
        /// Validity in days.
        #[arg(long, default_value_t = 365, value_parser = days())]
        days: u64,
        /// Sign although the name holds a valid certificate already.
        #[arg(long)]
        renew: bool,
    },
    /// On a member's machine: put the signed certificate and the authority's certificate into its folder.
    ///
    /// The authority's certificate decides whom this member believes: compare the fingerprint that is printed with the
    /// one that the authority reads out. The same files may be installed again.
    #[command(after_help = "Example:\n  \
        blindsum-certs install --dir keys --certificate clinic-a.pem --authority-certificate authority.pem\n\n\
        Next: `blindsum-certs roster show roster.toml`, then `blindsum-silo check` or `blindsum-coordinator check`.")]
    Install {
        /// The member's folder, made by silo-init or coordinator-init.
        #[arg(long)]
        dir: PathBuf,
        /// The signed certificate.
        #[arg(long)]
        certificate: PathBuf,
        /// The authority's certificate (authority.pem).
        #[arg(long)]
        authority_certificate: PathBuf,
        /// The authority's revocation list (revoked.pem).
        #[arg(long)]
        revoked: Option<PathBuf>,
        /// Believe another authority from now on than the one in the folder.
        #[arg(long)]
        replace_authority: bool,
    },
    /// Make or show the roster: the silos' names and identity keys, the same file everywhere.
    #[command(arg_required_else_help = true)]
    Roster {
        #[command(subcommand)]
        command: RosterCommand,
    },
    /// On the authority's machine: revoke certificates and write the new revocation list.
    ///
    /// A name or serial number that was never issued is refused, and nothing is revoked then.
    #[command(group = clap::ArgGroup::new("whom").required(true).multiple(true))]
    #[command(after_help = "Examples:\n  blindsum-certs revoke --authority authority --name clinic-a\n  \
        blindsum-certs revoke --authority authority --serial 4f0c53b1e9d27a688a10c4de35f7b902\n\n\
        Next: copy authority/revoked.pem into the coordinator's folder and restart the coordinator.")]
    Revoke {
        /// The authority's folder.
        #[arg(long)]
        authority: PathBuf,
        /// Revoke every certificate of this name.
        #[arg(long, group = "whom")]
        name: Option<String>,
        /// Revoke the certificate with this serial number (hexadecimal, as `authority list` shows it).
        #[arg(long, group = "whom")]
        serial: Vec<String>,
    },
    /// Anywhere: show a certificate, a request, a revocation list, an identity file or a roster.
    #[command(after_help = "Example:\n  blindsum-certs show clinic-a.pem")]
    Show {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityCommand {
    /// Show what was issued: to whom, until when, and what of it is revoked or expired.
    #[command(after_help = "Example:\n  blindsum-certs authority list --authority authority\n\n\
        The serial number is what `blindsum-certs revoke --serial` takes.")]
    List {
        /// The authority's folder.
        #[arg(long)]
        authority: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RosterCommand {
    /// Make the roster from the silos' identity files.
    #[command(after_help = "Example:\n  \
        blindsum-certs roster make --federation clinics --out roster.toml *.identity.toml\n\n\
        Next: send roster.toml to the coordinator and to every silo; all of them compare its fingerprint.")]
    Make {
        /// The federation's name.
        #[arg(long)]
        federation: String,
        /// Version; raise it with every change.
        #[arg(long, default_value_t = 1)]
        roster_version: u32,
        /// Where to write it; only an older roster of this federation is replaced.
        #[arg(long)]
        out: PathBuf,
        /// The silos' .identity.toml files.
        #[arg(required = true)]
        identities: Vec<PathBuf>,
    },
    /// Show names, keys and fingerprint.
    #[command(after_help = "Example:\n  blindsum-certs roster show roster.toml\n\n\
        Next: compare the fingerprint with every other member over the telephone.")]
    Show {
        /// The roster.
        file: PathBuf,
    },
}

fn days() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=MAX_DAYS)
}

/// Runs the program: result to standard output, one error sentence to standard error.
#[must_use]
pub fn run(cli: CertsCli) -> ExitCode {
    Program(NAME).command(|| {
        say(execute(cli.command)?);
        Ok::<_, CertsError>(ExitCode::Done)
    })
}
