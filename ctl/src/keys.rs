//! The operator's signing keys: ed25519 in PKCS#8 PEM files that nobody else may read.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use landfall_trust::KeyPair;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::error::Error;
use crate::files;

/// Reads a signing key; none if there is no such file.
///
/// # Errors
/// [`Error::Config`] for a file that others may read, or that holds no ed25519 key.
pub fn read(path: &Path) -> Result<Option<KeyPair>, Error> {
    let Some(pem) = files::read_private(path)? else { return Ok(None) };
    let refuse = |reason: String| Error::Config { path: path.to_owned(), reason };
    let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|error| refuse(error.to_string()))?;
    KeyPair::from_pkcs8(der.secret_pkcs8_der()).map(Some).map_err(|error| refuse(error.to_string()))
}

/// Reads the key in a file, or makes it. Returns whether it was made.
///
/// # Errors
/// Those of [`read`], [`Error::Io`], [`Error::Trust`].
pub fn read_or_generate(path: &Path) -> Result<(KeyPair, bool), Error> {
    if let Some(pair) = read(path)? {
        return Ok((pair, false));
    }
    let make = Error::trust("a signing key cannot be made");
    let pair = KeyPair::generate().map_err(make)?;
    let der = pair.to_pkcs8().map_err(Error::trust("a signing key cannot be written"))?;
    files::create_private(path, pem("PRIVATE KEY", &der).as_bytes())?;
    Ok((pair, true))
}

/// Reads all of these keys.
///
/// # Errors
/// [`Error::Missing`] for one that is not there.
pub fn read_all(paths: &[PathBuf]) -> Result<Vec<KeyPair>, Error> {
    let one = |path: &PathBuf| {
        read(path)?.ok_or_else(|| {
            Error::missing(
                format!("the signing key {} is not on this machine", path.display()),
                "put it there, or set release_keys (root_keys) of the context: ctl context show".to_owned(),
            )
        })
    };
    paths.iter().map(one).collect()
}

/// PEM text around DER bytes.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    let encoded = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = encoded
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_is_private_and_is_refused_when_it_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys/root.pem");
        assert!(read(&path).unwrap().is_none());
        let (pair, made) = read_or_generate(&path).unwrap();
        let (again, made_again) = read_or_generate(&path).unwrap();
        assert!(made && !made_again);
        assert_eq!(pair.keyid(), again.keyid());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
