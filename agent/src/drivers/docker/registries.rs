//! Who pulls from a registry: the host's own file, in the form of Docker's `config.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use bollard::auth::DockerCredentials;
use serde::Deserialize;

/// What Docker calls its own registry, in its files and in names.
const HUB: [&str; 3] = ["https://index.docker.io/v1/", "index.docker.io", "docker.io"];

/// Why credentials cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialsError {
    #[error("the credentials in {path} cannot be read: {reason}")]
    File { path: PathBuf, reason: String },
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    /// `user:password` in base64.
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// The credentials for an image's registry; none if the file has none for it.
///
/// # Errors
/// [`CredentialsError`] with the file, never with a secret.
pub(super) fn credentials(file: &Path, image: &str) -> Result<Option<DockerCredentials>, CredentialsError> {
    let fail = |reason: String| CredentialsError::File { path: file.to_owned(), reason };
    let text = std::fs::read(file).map_err(|error| fail(error.to_string()))?;
    // What serde says of a value could quote a secret.
    let place = |error: serde_json::Error| format!("line {}, column {}", error.line(), error.column());
    let config: Config = serde_json::from_slice(&text).map_err(|error| fail(place(error)))?;
    let registry = registry(image);
    let is_its = |name: &str| {
        let bare = name.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
        bare == registry || (HUB.contains(&name) && HUB.contains(&registry))
    };
    let Some((name, auth)) = config.auths.into_iter().find(|(name, _)| is_its(name)) else { return Ok(None) };
    let (username, password) = match auth.auth {
        Some(auth) => {
            let broken = || fail(format!("`auth` of {name} is not `user:password` in base64"));
            let bytes = base64::engine::general_purpose::STANDARD.decode(auth).map_err(|_| broken())?;
            let pair = String::from_utf8(bytes).map_err(|_| broken())?;
            let (user, password) = pair.split_once(':').ok_or_else(broken)?;
            (Some(user.to_owned()), Some(password.to_owned()))
        }
        None => (auth.username, auth.password),
    };
    let serveraddress = Some(name);
    let identitytoken = auth.identitytoken;
    Ok(Some(DockerCredentials { username, password, serveraddress, identitytoken, ..Default::default() }))
}

/// The registry that a name begins with, if it names one.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => HUB[2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_registry_gets_its_own_credentials_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("registries.json");
        std::fs::write(
            &file,
            r#"{"auths": {
                "registry.example.com:5000": {"auth": "YWxpY2U6czpjcmV0"},
                "https://index.docker.io/v1/": {"username": "bob", "password": "hidden"},
                "broken.example.com": {"auth": "%%%"}
            }}"#,
        )
        .unwrap();
        let of = |image: &str| credentials(&file, image);
        let alice = of("registry.example.com:5000/web").unwrap().unwrap();
        assert_eq!((alice.username.as_deref(), alice.password.as_deref()), (Some("alice"), Some("s:cret")));
        for name in ["nginx", "library/nginx", "docker.io/library/nginx"] {
            assert_eq!(of(name).unwrap().unwrap().username.as_deref(), Some("bob"), "{name}");
        }
        assert!(of("registry.example.com/web").unwrap().is_none());
        let error = of("broken.example.com/web").unwrap_err().to_string();
        assert!(error.contains("broken.example.com") && !error.contains("%%%"), "{error}");
        std::fs::write(&file, r#"{"auths": {"x": "s3cret"}}"#).unwrap();
        let error = of("nginx").unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
}
