//! The commands of `blindsum-certs`: what each asks, does and prints.

use std::path::{Path, PathBuf};

use blindsum_files::{PUBLIC_LIMIT, read_public, write_atomic};
use blindsum_service::{ExitCode, Program, exit, say};
use clap::{Parser, Subcommand};

use crate::authority::{Validity, revoked_in};
use crate::credentials::revocations_from_pem;
use crate::error::{CertsError, ErrorKind, fail};
use crate::folder::{AuthorityFolder, Enrolment, IdentityFile, coordinator_init, install, silo_init};
use crate::inspect::{CertificateInfo, certificate_from_pem, date, parse_x509};
use crate::names::Role;
use crate::request::Request;
use crate::roster;

const NAME: &str = "blindsum-certs";

/// Keys, certificates and the roster of a blindsum federation.
#[derive(Debug, Parser)]
#[command(name = NAME, version, arg_required_else_help = true, after_help = exit::HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the federation's authority: its key stays in the folder.
    AuthorityInit {
        /// Folder to make (mode 0700).
        #[arg(long)]
        dir: PathBuf,
        /// The federation's name.
        #[arg(long)]
        federation: String,
        /// Validity in days.
        #[arg(long, default_value_t = 3650)]
        days: u64,
    },
    /// On a silo's machine: make its TLS key, its identity key and the request for its certificate.
    SiloInit {
        /// Folder to make (mode 0700).
        #[arg(long)]
        dir: PathBuf,
        /// The silo's name, as it will stand in the roster.
        #[arg(long)]
        name: String,
    },
    /// On the coordinator's machine: make its TLS key and the request for its certificate.
    CoordinatorInit {
        /// Folder to make (mode 0700).
        #[arg(long)]
        dir: PathBuf,
        /// The coordinator's name.
        #[arg(long, default_value = "coordinator")]
        name: String,
        /// A host name or address under which silos reach it; may be given several times.
        #[arg(long = "host", required = true)]
        hosts: Vec<String>,
    },
    /// On the authority's machine: check a request and sign it.
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
        /// Where to write the certificate.
        #[arg(long)]
        out: PathBuf,
        /// Validity in days.
        #[arg(long, default_value_t = 365)]
        days: u64,
        /// Sign although the name holds a valid certificate already.
        #[arg(long)]
        renew: bool,
    },
    /// On a member's machine: put the signed certificate and the authority's certificate into its folder.
    Install {
        /// The member's folder.
        #[arg(long)]
        dir: PathBuf,
        /// The signed certificate.
        #[arg(long)]
        certificate: PathBuf,
        /// The authority's certificate.
        #[arg(long)]
        authority_certificate: PathBuf,
        /// The authority's revocation list.
        #[arg(long)]
        revoked: Option<PathBuf>,
    },
    /// Make or show the roster.
    Roster {
        #[command(subcommand)]
        command: RosterCommand,
    },
    /// On the authority's machine: revoke certificates and write the new revocation list.
    Revoke {
        /// The authority's folder.
        #[arg(long)]
        authority: PathBuf,
        /// Revoke every valid certificate of this name.
        #[arg(long, required_unless_present = "serial")]
        name: Option<String>,
        /// Revoke the certificate with this serial number (hexadecimal).
        #[arg(long)]
        serial: Vec<String>,
    },
    /// Show a certificate, a request, a revocation list, an identity file or a roster.
    Show {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum RosterCommand {
    /// Make the roster from the silos' identity files.
    Make {
        /// The federation's name.
        #[arg(long)]
        federation: String,
        /// Version; raise it with every change.
        #[arg(long, default_value_t = 1)]
        roster_version: u32,
        /// Where to write it.
        #[arg(long)]
        out: PathBuf,
        /// The silos' .identity.toml files.
        #[arg(required = true)]
        identities: Vec<PathBuf>,
    },
    /// Show names, keys and fingerprint.
    Show {
        /// The roster.
        file: PathBuf,
    },
}

/// Runs the program: result to standard output, one error sentence to standard error.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    Program(NAME).command(|| {
        say(execute(cli.command)?);
        Ok::<_, CertsError>(ExitCode::Done)
    })
}

fn execute(command: Command) -> Result<String, CertsError> {
    match command {
        Command::AuthorityInit { dir, federation, days } => {
            let folder = AuthorityFolder::init(&dir, &federation, Validity::days(days)?)?;
            Ok(format!(
                "made the authority of federation `{federation}`, valid for {days} days.\n\
                 Keep {} to yourself; give every member {} .",
                dir.join(crate::folder::AUTHORITY_KEY_FILE).display(),
                folder.certificate_path().display()
            ))
        }
        Command::SiloInit { dir, name } => silo_init(&dir, &name).map(|made| enrolled(&made)),
        Command::CoordinatorInit { dir, name, hosts } => {
            coordinator_init(&dir, &name, &hosts).map(|made| enrolled(&made))
        }
        Command::Sign { authority, role, csr, out, days, renew } => {
            let folder = AuthorityFolder::open(&authority)?;
            let request = read_request(&csr)?;
            let info = folder.sign(&request, role, Validity::days(days)?, renew, &out)?;
            Ok(format!(
                "signed:\n{info}\nThe key fingerprint must be the one that the {role} `{}` reads out to you; if it differs, run \
                 `blindsum-certs revoke --authority {} --serial {}`.\nwrote {}",
                info.name,
                authority.display(),
                info.serial_hex(),
                out.display()
            ))
        }
        Command::Install { dir, certificate, authority_certificate, revoked } => {
            let info = install(&dir, &certificate, &authority_certificate, revoked.as_deref())?;
            Ok(format!("installed in {}:\n{info}", dir.display()))
        }
        Command::Roster { command: RosterCommand::Make { federation, roster_version, out, identities } } => {
            let silos = identities.iter().map(|path| IdentityFile::load(path)).collect::<Result<_, _>>()?;
            let made = roster::make(&federation, roster_version, silos)?;
            write_atomic(&out, roster::to_toml(&made)?.as_bytes(), 0o644)?;
            Ok(format!("{}\nwrote {}", with_warning(&made), out.display()))
        }
        Command::Roster { command: RosterCommand::Show { file } } => Ok(with_warning(&roster::load(&file)?)),
        Command::Revoke { authority, name, serial } => {
            let folder = AuthorityFolder::open(&authority)?;
            let mut serials = Vec::new();
            for text in &serial {
                serials.push(hex::decode(text.replace(':', "")).map_err(|_| {
                    CertsError::new(
                        ErrorKind::Format,
                        "a serial number is hexadecimal: copy it from `blindsum-certs show`",
                    )
                })?);
            }
            if let Some(name) = name {
                let valid = folder.valid_certificates(&name)?;
                if valid.is_empty() {
                    return fail(ErrorKind::Name, format!("`{name}` holds no valid certificate of this authority"));
                }
                serials.extend(valid.into_iter().map(|info| info.serial));
            }
            let new = folder.revoke(&serials)?;
            Ok(format!(
                "revoked {new} certificate(s). Put {} into the coordinator's folder and restart it: until then it still accepts them.",
                folder.revoked_path().display()
            ))
        }
        Command::Show { file } => show(&file),
    }
}

fn enrolled(made: &Enrolment) -> String {
    let mut text = format!("made private keys, which stay here. Send {} to the authority", made.csr.display());
    if let Some(identity) = &made.identity {
        text += &format!(",\nand {} to whoever makes the roster", identity.display());
    }
    text + &format!(".\nRead this out to the authority by telephone:\nkey fingerprint   {}", made.key_fingerprint)
}

fn with_warning(made: &blindsum_crypto::Roster) -> String {
    match roster::small_federation_warning(made) {
        Some(warning) => format!("{}\nnote: {warning}", roster::describe(made)),
        None => roster::describe(made),
    }
}

fn read_request(path: &Path) -> Result<Request, CertsError> {
    let bytes = read_public(path, PUBLIC_LIMIT)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| CertsError::new(ErrorKind::Format, format!("{} is no text file", path.display())))?;
    Request::from_pem(text).map_err(|e| e.within(path.display()))
}

fn show(path: &Path) -> Result<String, CertsError> {
    let bytes = read_public(path, PUBLIC_LIMIT)?;
    let text = String::from_utf8_lossy(&bytes);
    if text.contains("PRIVATE KEY") {
        return fail(ErrorKind::Refused, format!("{} is a private key: it is not shown", path.display()));
    }
    if text.contains("CERTIFICATE REQUEST") {
        let request = read_request(path)?;
        return Ok(format!(
            "request\nrole              {}\nname              {}\nhosts             {}\nkey fingerprint   {}",
            request.role,
            request.name,
            request.hosts.join(", "),
            request.key_fingerprint
        ));
    }
    if text.contains("X509 CRL") {
        let entries = revoked_in(&revocations_from_pem(&bytes)?)?;
        let mut shown = format!("revocation list with {} certificate(s)", entries.len());
        for entry in entries {
            let at = entry.at.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
            shown +=
                &format!("\nserial {}  revoked {}", hex::encode(entry.serial), date(i64::try_from(at).unwrap_or(0)));
        }
        return Ok(shown);
    }
    if text.contains("BEGIN CERTIFICATE") {
        let certificate = certificate_from_pem(&bytes).map_err(|e| e.within(path.display()))?;
        let parsed = parse_x509(&certificate)?;
        if parsed.is_ca() {
            return Ok(format!(
                "authority         {}\nvalid until       {}\ncertificate       {}",
                parsed.subject(),
                date(parsed.validity().not_after.timestamp()),
                blindsum_crypto::sha256(&certificate)
            ));
        }
        return CertificateInfo::parse(&certificate).map(|info| info.to_string()).map_err(|e| e.within(path.display()));
    }
    if text.contains("[[silos]]") {
        return Ok(with_warning(&roster::load(path)?));
    }
    IdentityFile::load(path).map(|file| format!("silo      {}\nidentity  {}", file.name, file.identity))
}
