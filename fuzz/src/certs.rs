//! What the authority reads from others, and what either end reads from its peer's certificate.

use blindsum_certs::authority::revoked_in;
use blindsum_certs::folder::IdentityFile;
use blindsum_certs::names::{Role, check_host, check_name};
use blindsum_certs::request::Request;
use blindsum_certs::{CertificateInfo, peer_name};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::input::Input;

/// A request, certificate or revocation list; an identity file; a name.
pub fn files(bytes: &[u8]) {
    let mut input = Input(bytes);
    let what = input.byte() % 6;
    let bytes = input.rest();
    let text = std::str::from_utf8(bytes);
    match (what, text) {
        (0, Ok(text)) => {
            if let Ok(request) = Request::from_pem(text) {
                check_name(&request.name).unwrap();
                assert!(request.hosts.len() <= 32);
                request.hosts.iter().for_each(|host| check_host(host).unwrap());
                assert_eq!(request.hosts.is_empty(), request.role == Role::Silo);
            }
        }
        // DER, so that the fuzzer does not have to mend the signature of base64
        (1, _) => {
            let der = CertificateDer::from(bytes);
            let info = CertificateInfo::parse(&der);
            assert_eq!(peer_name(&der).ok(), info.as_ref().ok().map(|i| i.name.clone()));
            if let Ok(info) = info {
                check_name(&info.name).unwrap();
                assert!(!info.to_string().is_empty() && info.serial_hex().len() == 2 * info.serial.len());
            }
        }
        (2, _) => {
            let _ = revoked_in(&CertificateRevocationListDer::from(bytes));
        }
        (3, Ok(text)) => {
            let _ = toml_identity(text);
        }
        (4, Ok(text)) => {
            let _ = (check_name(text), check_host(text), text.parse::<Role>());
        }
        (5, _) => {
            let _ = Request::from_pem(&pem("CERTIFICATE REQUEST", bytes));
        }
        _ => {}
    }
}

fn toml_identity(text: &str) -> Option<IdentityFile> {
    let file: IdentityFile = toml::from_str(text).ok()?;
    let again = toml::to_string(&file).unwrap();
    assert_eq!(toml::from_str::<IdentityFile>(&again).unwrap(), file);
    Some(file)
}

/// PEM text (RFC 7468).
pub fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut base64 = Vec::new();
    for chunk in der.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        let digit = |i: usize| if i <= chunk.len() { ALPHABET[(bits >> (18 - 6 * i)) as usize & 63] } else { b'=' };
        base64.extend((0..4).map(digit));
    }
    let lines: Vec<String> = base64.chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::pem;

    #[test]
    fn base64_of_rfc_4648() {
        for (plain, coded) in [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(pem("X", plain.as_bytes()), format!("-----BEGIN X-----\n{coded}\n-----END X-----\n"));
        }
    }
}
