//! The application that the recipe for Rust serves in the tests.

use std::error::Error;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};

/// The service runs in its release's directory, `releases/<name>`.
const SHARED: &str = "../../shared";

/// Which release this is.
static RELEASE: OnceLock<String> = OnceLock::new();

/// Reads what it needs; v3 has nothing of it.
pub fn load() -> Result<(), Box<dyn Error>> {
    let name = std::fs::read_to_string("release.txt")?;
    if name == "v3" {
        return Err("the settings of v3 name a database that is not there".into());
    }
    RELEASE.get_or_init(|| name);
    Ok(())
}

/// One answer for every path but `/long`, which takes as long as the test wants.
pub async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let shared = Path::new(SHARED);
    if request.uri().path() == "/long" {
        std::fs::write(shared.join("long-has-begun"), "").expect("the shared directory is ours");
        while !shared.join("long-may-end").exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let release = RELEASE.get().expect("it was loaded before anything was served");
    let response = Response::builder().header("X-Release", release.as_str());
    response.body(Full::new(Bytes::from_static(b"ok\n"))).expect("a release's name is a header's value")
}
