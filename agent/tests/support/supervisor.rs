//! A real supervisord, without root, that ends with the directory it works in.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The supervisord that `tests/setup.sh` installs, or the machine's own.
fn supervisord() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target"),
        PathBuf::from,
    );
    let own = target.join("tools/supervisor/bin/supervisord");
    if own.is_file() { own } else { "supervisord".into() }
}

/// Where it is asked.
pub fn socket(root: &Path) -> PathBuf {
    root.join("supervisor.sock")
}

/// Starts one with these programs, and waits until it can be asked.
pub async fn start(root: &Path, programs: &str) {
    let at = root.display();
    let text = format!(
        "[unix_http_server]\nfile={}\n\
         [supervisord]\nlogfile={at}/supervisord.log\npidfile={at}/supervisord.pid\nchildlogdir={at}\n\
         [rpcinterface:supervisor]\n\
         supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n{programs}\n",
        socket(root).display()
    );
    let file = root.join("supervisord.conf");
    std::fs::write(&file, text).unwrap();
    let program = supervisord();
    let mut child = Command::new(&program)
        .args(["--nodaemon", "--configuration"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env("SITE", root)
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; `tests/setup.sh` installs it", program.display()));
    let socket = socket(root);
    let listening = async {
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let said = || std::fs::read_to_string(root.join("supervisord.log")).unwrap_or_default();
            assert!(child.try_wait().unwrap().is_none(), "supervisord ended: {}", said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), listening).await.expect("supervisord does not listen");
    // It ends with its directory; until then somebody has to take its end.
    std::thread::spawn(move || child.wait());
}
