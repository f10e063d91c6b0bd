//! Images: brought to this host by a digest that the signed manifest names, kept by a tag of ours, and removed
//! with the last release that needs them.
//!
//! The tag, `landfall/<application>.<environment>:<how>-<digest>`, keeps an image from being swept up by anybody else, and says
//! how it came here: what was here before is never removed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::query_parameters::{
    CreateImageOptionsBuilder, ImportImageOptions, ListImagesOptions, RemoveImageOptions,
    TagImageOptionsBuilder,
};
use futures::StreamExt as _;
use landfall_common::manifest::container::Image;
use landfall_common::manifest::{Driver, Manifest};
use landfall_common::{AppName, EnvName, Sha256};

use super::client::{Client, DockerError, found};
use super::registries;
use super::saved::{self, SavedError};
use crate::layout;

/// A pull or a load that says nothing for so long is stuck.
const SILENCE: Duration = Duration::from_secs(5 * 60);

/// Why an image is not here.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImageError {
    #[error(transparent)]
    Docker(#[from] DockerError),
    #[error("{reference} cannot be pulled")]
    Pull { reference: String, source: DockerError },
    #[error(transparent)]
    Saved(#[from] SavedError),
    #[error("{path} cannot be loaded")]
    Load { path: PathBuf, source: DockerError },
    #[error("{path} cannot be read: {reason}")]
    Unread { path: PathBuf, reason: String },
    #[error("Docker says that {0} is there now, and does not have it")]
    Missing(String),
    #[error("the manifest names no digest for {0}: release it again with a newer `ctl`")]
    NoDigest(String),
    #[error(transparent)]
    Credentials(#[from] registries::CredentialsError),
}

impl ImageError {
    /// What Docker said, if it is that.
    pub fn docker(&self) -> Option<&DockerError> {
        match self {
            Self::Docker(error) | Self::Pull { source: error, .. } | Self::Load { source: error, .. } => {
                Some(error)
            }
            _ => None,
        }
    }
}

/// How an image came to this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// By a pull.
    Pulled,
    /// It was here.
    Found,
    /// From a file of a release.
    File,
}

impl How {
    const ALL: [Self; 3] = [Self::Pulled, Self::Found, Self::File];

    fn as_str(self) -> &'static str {
        match self {
            Self::Pulled => "pulled",
            Self::Found => "found",
            Self::File => "file",
        }
    }

    fn tag(self, digest: &str) -> String {
        format!("{}-{digest}", self.as_str())
    }
}

/// Where an application's images are looked for and kept.
pub(super) struct Images<'a> {
    pub docker: &'a Client,
    pub application: &'a AppName,
    pub environment: &'a EnvName,
    /// `/srv/<app>`.
    pub directory: &'a Path,
    /// The file with the credentials of registries.
    pub credentials: Option<&'a Path>,
}

impl Images<'_> {
    /// Sees to it that an image is on this host, and tells its id.
    ///
    /// # Errors
    /// [`ImageError`]. Nothing that runs was touched.
    pub async fn ensure(&self, image: &Image, release: &Path) -> Result<String, ImageError> {
        match image {
            Image::Registry { name, digest } => self.pulled(name, *digest).await,
            Image::File { path, digest } => {
                let digest = digest.ok_or_else(|| ImageError::NoDigest(path.clone()))?;
                self.loaded(&release.join(path), digest).await
            }
        }
    }

    /// The id of an image that was brought to this host and is still here by our name.
    ///
    /// # Errors
    /// [`ImageError::Docker`].
    pub async fn known(&self, image: &Image) -> Result<Option<String>, ImageError> {
        let (ways, digest) = match image {
            Image::Registry { digest, .. } => (&[How::Pulled, How::Found][..], digest.to_string()),
            Image::File { digest: Some(digest), .. } => (&[How::File][..], digest.to_string()),
            Image::File { digest: None, .. } => return Ok(None),
        };
        for how in ways {
            if let Some(id) = self.id(&self.ours(&how.tag(&digest))).await? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Docker itself holds what a registry answers against the digest, and knows an image by that digest only if
    /// it has come so.
    async fn pulled(&self, name: &str, digest: Sha256) -> Result<String, ImageError> {
        let reference = &format!("{name}@sha256:{digest}");
        let digest = &digest.to_string();
        for how in [How::Pulled, How::Found] {
            if let Some(id) = self.id(&self.ours(&how.tag(digest))).await? {
                return Ok(id);
            }
        }
        if let Some(id) = self.id(reference).await? {
            self.tag(&id, &How::Found.tag(digest)).await?;
            return Ok(id);
        }
        let credentials = self.credentials.map(|file| registries::credentials(file, name)).transpose()?;
        let options = CreateImageOptionsBuilder::default().from_image(reference).build();
        let answers = self.docker.docker.create_image(Some(options), None, credentials.flatten());
        let drained = drained(answers.map(|answer| answer.map(|_| None)), SILENCE).await;
        drained.map_err(|source| ImageError::Pull { reference: reference.clone(), source })?;
        let missing = || ImageError::Missing(reference.clone());
        let id = self.id(reference).await?.ok_or_else(missing)?;
        self.tag(&id, &How::Pulled.tag(digest)).await?;
        Ok(id)
    }

    async fn loaded(&self, file: &Path, digest: Sha256) -> Result<String, ImageError> {
        let tag = How::File.tag(&digest.to_string());
        if let Some(id) = self.id(&self.ours(&tag)).await? {
            return Ok(id);
        }
        let path = self.where_it_is(file, digest);
        let checking = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || saved::open(&path, digest))
        };
        let unread = |reason: String| ImageError::Unread { path: path.clone(), reason };
        let saved = checking.await.map_err(|error| unread(error.to_string()))??;
        let own = saved.id.clone();
        let answers =
            self.docker.docker.import_image_stream(ImportImageOptions::default(), saved.nameless(), None);
        let said = drained(answers.map(|answer| answer.map(|answer| answer.stream)), SILENCE).await;
        let said = said.map_err(|source| ImageError::Load { path: path.clone(), source })?;
        // An image's id is the digest of its configuration, or (in containerd's store) that of its manifest, which
        // Docker tells.
        let told = said.lines().filter_map(|line| line.strip_prefix("Loaded image ID:"));
        let mut id = None;
        for name in [own.as_str()].into_iter().chain(told) {
            id = id.or(self.id(name.trim()).await?);
        }
        let id = id.ok_or_else(|| ImageError::Missing(path.display().to_string()))?;
        self.tag(&id, &tag).await?;
        Ok(id)
    }

    /// In the release, or among what was fetched for it and is not laid out yet.
    fn where_it_is(&self, file: &Path, digest: Sha256) -> PathBuf {
        let fetched = [false, true].map(|executable| self.directory.join(layout::object(digest, executable)));
        let places = [file.to_owned()].into_iter().chain(fetched);
        places.into_iter().find(|place| place.is_file()).unwrap_or_else(|| file.to_owned())
    }

    /// Whether a file's image can be loaded already.
    pub fn is_fetched(&self, image: &Image, release: &Path) -> bool {
        match image {
            Image::File { path, digest: Some(digest) } => {
                self.where_it_is(&release.join(path), *digest).is_file()
            }
            Image::File { digest: None, .. } => false,
            Image::Registry { .. } => true,
        }
    }

    async fn id(&self, name: &str) -> Result<Option<String>, ImageError> {
        Ok(found(self.docker.docker.inspect_image(name)).await?.and_then(|image| image.id))
    }

    fn repository(&self) -> String {
        repository(self.application, self.environment)
    }

    fn ours(&self, tag: &str) -> String {
        format!("{}:{tag}", self.repository())
    }

    async fn tag(&self, id: &str, tag: &str) -> Result<(), ImageError> {
        let options = TagImageOptionsBuilder::default().repo(&self.repository()).tag(tag).build();
        Ok(super::client::within(SILENCE, self.docker.docker.tag_image(id, Some(options))).await?)
    }

    /// Removes what no release on this host needs any more, and tells how many images went.
    ///
    /// # Errors
    /// [`ImageError::Docker`].
    pub async fn sweep(&self) -> Result<usize, ImageError> {
        // What cannot be read may need anything.
        let Some(needed) = self.needed() else { return Ok(0) };
        // Asked for ours alone, Docker would leave out the other names of each.
        let listing = self.docker.docker.list_images(None::<ListImagesOptions>);
        let images = super::client::within(SILENCE, listing).await?;
        let mut removed = 0;
        for image in images {
            for name in &image.repo_tags {
                let Some(tag) = name.strip_prefix(&format!("{}:", self.repository())) else { continue };
                let Some((how, digest)) = read(tag).filter(|(_, digest)| !needed.contains(*digest)) else {
                    continue;
                };
                let is_its = |name: &&String| how == How::Pulled && hex_of(name) == digest;
                // Our own name goes last: by it the image is found again if a container keeps it now.
                for name in image.repo_digests.iter().filter(is_its).chain([name]) {
                    match found(self.docker.docker.remove_image(name, None::<RemoveImageOptions>, None)).await
                    {
                        Ok(_) => removed += 1,
                        // A container still has it; the next sweep tries again.
                        Err(DockerError::Refused { status: 409, .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(removed)
    }

    /// The digests of all images that releases on this host name.
    fn needed(&self) -> Option<BTreeSet<String>> {
        let mut needed = BTreeSet::new();
        for entry in std::fs::read_dir(self.directory.join(layout::MANIFESTS)).ok()? {
            let bytes = std::fs::read(entry.ok()?.path()).ok()?;
            for service in Manifest::from_bytes(&bytes).ok()?.program.services {
                let Driver::Docker(container) = service.driver else { continue };
                needed.extend(match container.image {
                    Image::Registry { digest, .. } => Some(digest.to_string()),
                    Image::File { digest, .. } => digest.map(|digest| digest.to_string()),
                });
            }
        }
        Some(needed)
    }
}

/// The digits behind `@sha256:`.
fn hex_of(reference: &str) -> &str {
    reference.rsplit_once("@sha256:").map_or("", |(_, hex)| hex)
}

fn read(tag: &str) -> Option<(How, &str)> {
    let (kind, digest) = tag.split_once('-')?;
    How::ALL.into_iter().find(|how| how.as_str() == kind).map(|how| (how, digest))
}

/// `landfall/<application>.<environment>`. A name whose dashes and underscores Docker does not take has its digest
/// instead.
fn repository(application: &AppName, environment: &EnvName) -> String {
    let part = |name: &str| {
        let words = name.split(['-', '_']);
        let is_plain = words.clone().all(|word| !word.is_empty());
        if is_plain { name.to_owned() } else { format!("x{}", Sha256::of(name.as_bytes()).short()) }
    };
    format!("landfall/{}.{}", part(application.as_str()), part(environment.as_str()))
}

/// Reads answers to their end: what they said, or the first that says that it went wrong.
async fn drained(
    answers: impl futures::Stream<Item = Result<Option<String>, bollard::errors::Error>>,
    silence: Duration,
) -> Result<String, DockerError> {
    let mut answers = std::pin::pin!(answers);
    let mut said = String::new();
    loop {
        match tokio::time::timeout(silence, answers.next()).await {
            Ok(Some(Ok(text))) => said.push_str(&text.unwrap_or_default()),
            Ok(Some(Err(error))) => return Err(error.into()),
            Ok(None) => return Ok(said),
            Err(_) => return Err(DockerError::TooLate(silence)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pull_that_says_nothing_more_is_given_up() {
        let said = futures::stream::iter([Ok(Some("Pulling".to_owned()))]).chain(futures::stream::pending());
        let error = drained(said, Duration::from_millis(20)).await.unwrap_err();
        assert!(matches!(error, DockerError::TooLate(_)), "{error}");
    }

    #[test]
    fn images_are_kept_by_names_that_docker_takes() {
        let of = |application: &str, environment: &str| {
            repository(&application.parse().unwrap(), &environment.parse().unwrap())
        };
        assert_eq!(of("tenants", "production"), "landfall/tenants.production");
        assert_eq!(of("my-shop_2", "eu-west"), "landfall/my-shop_2.eu-west");
        // Docker's names take neither at their end, and underscores only one by one or in pairs.
        let odd = ["shop-", "shop_", "a___b", "a-_b", "a--b"].map(|name| of(name, "e"));
        for (at, name) in odd.iter().enumerate() {
            let bare = name.strip_prefix("landfall/x").unwrap().strip_suffix(".e").unwrap();
            assert!(bare.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
            assert!(!odd[..at].contains(name), "{name} is another's");
        }
    }

    #[test]
    fn only_tags_of_ours_are_read() {
        assert_eq!(read("pulled-abc"), Some((How::Pulled, "abc")));
        for other in ["v1", "latest", "taken-abc", "pulledabc"] {
            assert_eq!(read(other), None, "{other}");
        }
        assert_eq!(hex_of("registry:5000/web@sha256:abc"), "abc");
    }
}
