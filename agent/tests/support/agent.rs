//! What stands in for the agent: a process that asks for one activation and writes how it ended, to be
//! killed at any moment.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use landfall_agent::{drivers, steps};
use landfall_common::manifest::{Service, Step};
use serde::{Deserialize, Serialize};

use super::site::{Site, release_digest};

/// What it is to do.
#[derive(Serialize, Deserialize)]
pub struct Errand {
    pub root: PathBuf,
    pub service: Service,
    pub release: String,
    pub attempt: String,
    pub result: PathBuf,
}

/// The process's own main.
pub fn run(errand: &str) -> Result<(), String> {
    let errand: Errand = serde_json::from_str(errand).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let site = Site::at(&errand.root);
    let context = site.context(&errand.release);
    let digest = release_digest(&errand.release);
    let ended =
        runtime.block_on(drivers::activate(&site.host, &errand.service, &context, digest, &errand.attempt));
    let text = match ended {
        Ok(()) => "ok".to_owned(),
        Err(failure) => format!("{} {:?} {:?}", failure.reason, failure.exit_code, failure.tail),
    };
    let new = errand.result.with_extension("new");
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, &errand.result))
        .map_err(|error| error.to_string())
}

/// Runs a script as a step, as an agent does whose directory is `root`.
pub fn step(root: &str, script: &str) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let site = Site::at(Path::new(root));
    let step = Step {
        name: "prepare".parse().expect("a name"),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        environment: Default::default(),
        timeout: std::time::Duration::from_secs(600),
        network: None,
    };
    runtime.block_on(steps::run(&step, &site.noted("v1"))).map(drop).map_err(|failure| failure.to_string())
}

/// A stand-in that runs; it is killed when this is dropped.
pub struct Agent {
    child: Child,
    result: PathBuf,
}

impl Agent {
    pub fn start(root: &Path, service: &Service, release: &str, attempt: &str) -> Self {
        let result = root.join(format!("result-{release}-{attempt}"));
        let _ = std::fs::remove_file(&result);
        let errand = Errand {
            root: root.to_owned(),
            service: service.clone(),
            release: release.to_owned(),
            attempt: attempt.to_owned(),
            result: result.clone(),
        };
        let child = Command::new(std::env::current_exe().unwrap())
            .args(super::roles::arguments("agent"))
            .arg(serde_json::to_string(&errand).unwrap())
            .spawn()
            .unwrap();
        Self { child, result }
    }

    /// SIGKILL; gives back whether it had not ended by itself before.
    pub fn kill(&mut self) -> bool {
        let early = self.child.try_wait().unwrap().is_none();
        let _ = self.child.kill();
        let _ = self.child.wait();
        early
    }

    /// Waits for its end and gives back what it wrote.
    pub async fn result(mut self) -> String {
        while self.child.try_wait().unwrap().is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        std::fs::read_to_string(&self.result).unwrap_or_else(|error| format!("it wrote no result: {error}"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}
