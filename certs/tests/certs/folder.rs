//! Enrolment on disk, from the authority to revocation, with what goes wrong on the way.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use blindsum_certs::authority::{Authority, Validity};
use blindsum_certs::credentials::{AUTHORITY_FILE, IDENTITY_KEY_FILE, REVOKED_FILE, TLS_KEY_FILE};
use blindsum_certs::folder::{AuthorityFolder, IdentityFile, coordinator_init, install, silo_init};
use blindsum_certs::request::Request;
use blindsum_certs::{CertificateInfo, CertsError, Credentials, ErrorKind, Role, load_identity};
use blindsum_testkit::mint;

struct Place {
    _dir: tempfile::TempDir,
    root: PathBuf,
    authority: AuthorityFolder,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_path_buf();
        let authority = AuthorityFolder::init(&root.join("authority"), "demo", Validity::days(30).unwrap()).unwrap();
        Place { _dir: dir, root, authority }
    }

    fn sign(&self, csr: &Path, role: Role, renew: bool) -> Result<(CertificateInfo, PathBuf), CertsError> {
        let request = Request::from_pem(&fs::read_to_string(csr).unwrap())?;
        let out = self.root.join(format!("{}-signed.pem", request.name));
        let info = self.authority.sign(&request, role, Validity::days(7).unwrap(), renew, &out)?;
        Ok((info, out))
    }

    fn install(&self, dir: &Path, certificate: &Path) -> Result<CertificateInfo, CertsError> {
        install(dir, certificate, &self.authority.certificate_path(), Some(&self.authority.revoked_path()))
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_silo_enrols_and_its_keys_stay_private() {
    let place = Place::new();
    let dir = place.root.join("north");
    let enrolment = silo_init(&dir, "north").unwrap();
    assert_eq!((mode(&dir), mode(&dir.join(TLS_KEY_FILE)), mode(&dir.join(IDENTITY_KEY_FILE))), (0o700, 0o600, 0o600));
    for sent in [&enrolment.csr, enrolment.identity.as_ref().unwrap()] {
        let text = fs::read_to_string(sent).unwrap();
        assert!(!text.contains("PRIVATE"), "{text}");
        assert!(!text.contains(fs::read_to_string(dir.join(IDENTITY_KEY_FILE)).unwrap().trim()));
    }

    let (info, signed) = place.sign(&enrolment.csr, Role::Silo, false).unwrap();
    assert_eq!(info.key_fingerprint, enrolment.key_fingerprint);
    place.install(&dir, &signed).unwrap();
    let credentials = Credentials::load(&dir, Role::Silo).unwrap();
    assert_eq!(credentials.info.name, "north");
    assert!(!format!("{credentials:?}").contains("PRIVATE"));
    let identity = load_identity(&dir.join(IDENTITY_KEY_FILE)).unwrap();
    assert_eq!(IdentityFile::load(&enrolment.identity.unwrap()).unwrap().identity, identity.public());
}

#[test]
fn nothing_is_overwritten() {
    let place = Place::new();
    let dir = place.root.join("north");
    silo_init(&dir, "north").unwrap();
    let key = fs::read(dir.join(TLS_KEY_FILE)).unwrap();
    let error = silo_init(&dir, "north").unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    assert!(coordinator_init(&dir, "hub", &["localhost".into()]).is_err());
    assert_eq!(fs::read(dir.join(TLS_KEY_FILE)).unwrap(), key);
    assert!(AuthorityFolder::init(&place.root.join("authority"), "demo", Validity::days(1).unwrap()).is_err());
}

#[test]
fn a_name_is_signed_twice_only_on_purpose_and_only_for_its_role() {
    let place = Place::new();
    let north = silo_init(&place.root.join("north"), "north").unwrap();
    let error = place.sign(&north.csr, Role::Coordinator, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Role);
    place.sign(&north.csr, Role::Silo, false).unwrap();

    let thief = silo_init(&place.root.join("thief"), "north").unwrap();
    let error = place.sign(&thief.csr, Role::Silo, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("--renew"), "{error}");
    place.sign(&north.csr, Role::Silo, true).unwrap();
    assert_eq!(place.authority.valid_certificates("north").unwrap().len(), 2);
    assert_eq!(place.authority.valid_certificates("south").unwrap().len(), 0);
}

#[test]
fn revocation_survives_reopening_and_shuts_the_member_out() {
    let place = Place::new();
    let dir = place.root.join("north");
    let (info, signed) = place.sign(&silo_init(&dir, "north").unwrap().csr, Role::Silo, false).unwrap();
    place.install(&dir, &signed).unwrap();
    let reopened = AuthorityFolder::open(&place.root.join("authority")).unwrap();
    assert_eq!(reopened.revoke(std::slice::from_ref(&info.serial)).unwrap(), 1);
    assert_eq!(reopened.revoke(&[info.serial]).unwrap(), 0);
    assert_eq!(place.authority.valid_certificates("north").unwrap(), []);
    let error = place.install(&dir, &signed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Revoked);
    Credentials::load(&dir, Role::Silo).unwrap();
    fs::copy(place.authority.revoked_path(), dir.join(REVOKED_FILE)).unwrap();
    assert_eq!(Credentials::load(&dir, Role::Silo).unwrap_err().kind(), ErrorKind::Revoked);
}

#[test]
fn wrong_files_are_named_with_their_remedy() {
    let place = Place::new();
    let (north, south) = (place.root.join("north"), place.root.join("south"));
    let csr = silo_init(&north, "north").unwrap().csr;
    silo_init(&south, "south").unwrap();
    let missing = Credentials::load(&north, Role::Silo).unwrap_err();
    assert!(
        missing.to_string().contains(AUTHORITY_FILE) && missing.to_string().contains("ask the federation"),
        "{missing}"
    );

    let (_, signed) = place.sign(&csr, Role::Silo, false).unwrap();
    assert_eq!(place.install(&south, &signed).unwrap_err().kind(), ErrorKind::KeyMismatch);
    let other = Place::new();
    let foreign = install(&north, &signed, &other.authority.certificate_path(), None).unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::Untrusted);
    let list = install(&north, &signed, &place.authority.certificate_path(), Some(&other.authority.revoked_path()));
    assert!(list.unwrap_err().to_string().contains("revocation list"));

    place.install(&north, &signed).unwrap();
    assert_eq!(Credentials::load(&north, Role::Coordinator).unwrap_err().kind(), ErrorKind::Role);
    fs::set_permissions(north.join(TLS_KEY_FILE), fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = Credentials::load(&north, Role::Silo).unwrap_err();
    assert!(exposed.to_string().contains("chmod 600"), "{exposed}");
}

#[test]
fn an_expired_certificate_says_since_when() {
    let place = Place::new();
    let (authority, _) = Authority::generate("demo", mint::valid_now()).unwrap();
    let old = mint::credentials(&authority, Role::Silo, "north", mint::expired());
    let error = old.check(Role::Silo).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validity);
    assert!(error.to_string().contains("expired on"), "{error}");
    drop(place);
}
