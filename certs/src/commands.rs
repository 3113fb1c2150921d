//! What the commands of `blindsum-certs` do, and what they print: what was done, then what to type next.

use std::path::Path;

use blindsum_crypto::sha256;
use blindsum_files::{PUBLIC_LIMIT, read_public};

use crate::authority::{Validity, revoked_in};
use crate::cli::{AuthorityCommand, CertsCommand, RosterCommand};
use crate::credentials::revocations_from_pem;
use crate::error::{CertsError, ErrorKind, fail};
use crate::folder::{
    AUTHORITY_KEY_FILE, AuthorityFolder, Enrolment, IdentityFile, Installation, Issued, Standing, coordinator_init,
    silo_init,
};
use crate::inspect::{CertificateInfo, certificate_from_pem, date, parse_x509, unix};
use crate::names::Role;
use crate::paper::{self, Paper, Typed};
use crate::request::Request;
use crate::roster;

/// Does `command`; the text is for standard output.
pub(crate) fn execute(command: CertsCommand) -> Result<String, CertsError> {
    match command {
        CertsCommand::AuthorityInit { dir, federation, days } => {
            let folder = AuthorityFolder::init(&dir, &federation, Validity::days(days)?)?;
            Ok(format!(
                "made the authority of federation `{federation}`, valid for {days} days.\n\
                 Keep {} to yourself; give every member {} and read this out to it by telephone:\n\
                 certificate       {}\n\
                 Next, for each .csr file that a member sends you:\n  \
                 blindsum-certs sign --authority {} --role silo --csr NAME.csr --out NAME.pem",
                dir.join(AUTHORITY_KEY_FILE).display(),
                folder.certificate_path().display(),
                folder.fingerprint(),
                Typed(&dir)
            ))
        }
        CertsCommand::Authority { command: AuthorityCommand::List { authority } } => list(&authority),
        CertsCommand::SiloInit { dir, name } => silo_init(&dir, &name).map(|made| enrolled(&dir, &name, &made)),
        CertsCommand::CoordinatorInit { dir, name, hosts } => {
            coordinator_init(&dir, &name, &hosts).map(|made| enrolled(&dir, &name, &made))
        }
        CertsCommand::Sign { authority, role, csr, out, days, renew } => {
            let folder = AuthorityFolder::open(&authority)?;
            let request = read_request(&csr)?;
            let signed = folder.sign(&request, role, Validity::days(days)?, renew, &out);
            let info = signed.map_err(|e| if e.kind() == ErrorKind::Role { e.within(csr.display()) } else { e })?;
            Ok(format!(
                "signed:\n{info}\nThe key fingerprint must be the one that the {role} `{}` reads out to you; if it \
                 differs, type\n  blindsum-certs revoke --authority {} --serial {}\n\
                 wrote {}. Next: send it to `{}`, together with {} .",
                info.name,
                Typed(&authority),
                info.serial_hex(),
                out.display(),
                info.name,
                folder.certificate_path().display()
            ))
        }
        CertsCommand::Install { dir, certificate, authority_certificate, revoked, replace_authority } => {
            let authority = &authority_certificate;
            let (certificate, revoked) = (&certificate, revoked.as_deref());
            let installed = Installation { dir: &dir, certificate, authority, revoked, replace_authority }.run()?;
            let done = if installed.changed { "installed in" } else { "the same files lie already in" };
            let role = installed.info.role;
            Ok(format!(
                "{done} {}:\n{}\nThe authority must read this out to you:\nauthority         {}\n\
                 Next, once roster.toml and {role}.toml are here:\n  \
                 blindsum-certs roster show roster.toml\n  blindsum-{role} check --config {role}.toml",
                dir.display(),
                installed.info,
                installed.authority
            ))
        }
        CertsCommand::Roster { command: RosterCommand::Make { federation, roster_version, out, identities } } => {
            let silos = identities.iter().map(|path| IdentityFile::load(path)).collect::<Result<_, _>>()?;
            let made = roster::make(&federation, roster_version, silos)?;
            roster::write(&made, &out)?;
            Ok(format!(
                "{}\nwrote {}. Next: send it to the coordinator and to every silo, and compare with each of them \
                 what this prints there:\n  blindsum-certs roster show {}",
                with_warning(&made),
                out.display(),
                Typed(out.file_name().unwrap_or_default().as_ref())
            ))
        }
        CertsCommand::Roster { command: RosterCommand::Show { file } } => Ok(format!(
            "{}\nCompare the fingerprint with every other member over the telephone before you run.",
            with_warning(&roster::load(&file)?)
        )),
        CertsCommand::Revoke { authority, name, serial } => revoke(&authority, name.as_deref(), &serial),
        CertsCommand::Show { file } => show(&file),
    }
}

fn enrolled(dir: &Path, name: &str, made: &Enrolment) -> String {
    let mut text = format!("made private keys, which stay here. Send {} to the authority", made.csr.display());
    if let Some(identity) = &made.identity {
        text += &format!(",\nand {} to whoever makes the roster", identity.display());
    }
    text + &format!(
        ".\nRead this out to the authority by telephone:\nkey fingerprint   {}\n\
         Next, once the authority has sent {name}.pem and authority.pem:\n  \
         blindsum-certs install --dir {} --certificate {name}.pem --authority-certificate authority.pem",
        made.key_fingerprint,
        Typed(dir)
    )
}

fn with_warning(made: &blindsum_crypto::Roster) -> String {
    match roster::small_federation_warning(made) {
        Some(warning) => format!("{}\nnote: {warning}", roster::describe(made)),
        None => roster::describe(made),
    }
}

fn list(authority: &Path) -> Result<String, CertsError> {
    let folder = AuthorityFolder::open(authority)?;
    let issued = folder.issued()?;
    let mut text = format!(
        "authority of federation `{}`, certificate {}\nissued {} certificate(s)",
        folder.federation()?,
        folder.fingerprint(),
        issued.len()
    );
    let rows: Vec<[String; 6]> = issued
        .iter()
        .map(|Issued { info, standing }| {
            let hosts = info.hosts.join(", ");
            [
                info.name.clone(),
                info.role.to_string(),
                standing.to_string(),
                date(info.not_after),
                info.serial_hex(),
                hosts,
            ]
        })
        .collect();
    if rows.is_empty() {
        return Ok(text);
    }
    let head = ["name", "role", "standing", "valid until", "serial", "hosts"].map(str::to_owned);
    let width = |column: usize| rows.iter().chain([&head]).map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for row in [&head].into_iter().chain(&rows) {
        let line: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text += &format!("\n{}", line.join("  ").trim_end());
    }
    Ok(text)
}

fn revoke(authority: &Path, name: Option<&str>, serials: &[String]) -> Result<String, CertsError> {
    let folder = AuthorityFolder::open(authority)?;
    let issued = folder.issued()?;
    let mut chosen = Vec::new();
    for serial in serials {
        chosen.push(folder.find_serial(&issued, serial)?);
    }
    if let Some(name) = name {
        chosen.extend(folder.find_name(&issued, name)?);
    }
    folder.revoke(&chosen.iter().map(|issued| issued.info.serial.clone()).collect::<Vec<_>>())?;
    let mut text = String::new();
    let mut new = false;
    for Issued { info, standing } in chosen {
        let certificate = format!("the certificate {} of the {} `{}`", info.serial_hex(), info.role, info.name);
        text += &match standing {
            Standing::Revoked(at) => format!("{certificate} was already revoked on {}\n", date(unix(*at))),
            Standing::Valid | Standing::Expired => {
                new = true;
                format!("revoked {certificate}\n")
            }
        };
    }
    Ok(text
        + &if new {
            format!(
                "Next: copy {} into the coordinator's folder as revoked.pem and restart the coordinator: until then \
                 it still accepts them.",
                folder.revoked_path().display()
            )
        } else {
            "nothing was changed".to_owned()
        })
}

fn read_request(path: &Path) -> Result<Request, CertsError> {
    let bytes = paper::read(path, Paper::Request)?;
    Request::from_pem(&String::from_utf8_lossy(&bytes)).map_err(|e| e.within(path.display()))
}

fn show(path: &Path) -> Result<String, CertsError> {
    let bytes = read_public(path, PUBLIC_LIMIT)?;
    let within = |e: CertsError| e.within(path.display());
    match Paper::of(&bytes) {
        Paper::PrivateKey => fail(ErrorKind::Refused, format!("{} is a private key: it is not shown", path.display())),
        Paper::Request => {
            let request = read_request(path)?;
            let hosts = if request.role == Role::Silo { "none".to_owned() } else { request.hosts.join(", ") };
            Ok(format!(
                "request\nrole              {}\nname              {}\nhosts             {hosts}\nkey fingerprint   {}",
                request.role, request.name, request.key_fingerprint
            ))
        }
        Paper::Revocations => {
            let entries = revocations_from_pem(&bytes).and_then(|list| revoked_in(&list)).map_err(within)?;
            let mut shown = format!("revocation list with {} certificate(s)", entries.len());
            for entry in entries {
                shown += &format!("\nserial {}  revoked {}", hex::encode(entry.serial), date(unix(entry.at)));
            }
            Ok(shown)
        }
        Paper::AuthorityCertificate => {
            let certificate = certificate_from_pem(&bytes).map_err(within)?;
            let parsed = parse_x509(&certificate).map_err(within)?;
            Ok(format!(
                "authority         {}\nvalid until       {}\ncertificate       {}",
                parsed.subject(),
                date(parsed.validity().not_after.timestamp()),
                sha256(&certificate)
            ))
        }
        Paper::Certificate => {
            let info = certificate_from_pem(&bytes).and_then(|der| CertificateInfo::parse(&der)).map_err(within)?;
            Ok(info.to_string())
        }
        Paper::Roster => Ok(with_warning(&roster::load(path)?)),
        Paper::Identity => {
            IdentityFile::load(path).map(|file| format!("silo      {}\nidentity  {}", file.name, file.identity))
        }
        Paper::Unknown => fail(
            ErrorKind::Format,
            format!(
                "{} is nothing that this program makes: name a certificate (.pem), a request (.csr), a revocation \
                 list, an identity file or a roster",
                path.display()
            ),
        ),
    }
}
