//! A real supervisord, without root, that ends with the directory it works in.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A program of the Supervisor that `tests/setup.sh` installs, or of the machine's own.
fn program(name: &str) -> PathBuf {
    let above = || Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|place| place.join("target"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.or_else(|| above().find(|place| place.is_dir())).unwrap_or_default();
    let own = target.join("tools/supervisor/bin").join(name);
    if own.is_file() { own } else { name.into() }
}

/// Where it is asked.
pub fn socket(root: &Path) -> PathBuf {
    root.join("supervisor.sock")
}

/// As its administrator does: what `supervisorctl` answers.
pub fn control(root: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program("supervisorctl"))
        .arg("--configuration")
        .arg(root.join("supervisord.conf"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

/// Starts one with these programs, and waits until it can be asked.
pub async fn start(root: &Path, programs: &str) {
    let at = root.display();
    let text = format!(
        "[unix_http_server]\nfile={socket}\n[supervisorctl]\nserverurl=unix://{socket}\n\
         [supervisord]\nlogfile={at}/supervisord.log\npidfile={at}/supervisord.pid\nchildlogdir={at}\n\
         [rpcinterface:supervisor]\n\
         supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n{programs}\n",
        socket = socket(root).display()
    );
    let file = root.join("supervisord.conf");
    std::fs::write(&file, text).unwrap();
    let program = program("supervisord");
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
