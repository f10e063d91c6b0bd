//! A PostgreSQL server of a test's own: Debian's, on a socket in a temporary directory, as a user who is not root.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{self, Process, wait_until};
use crate::stage::Said;

/// `nobody`, who has no other processes: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running server, ended when dropped.
pub struct Postgres {
    server: Process,
    programs: PathBuf,
    directory: tempfile::TempDir,
}

impl Postgres {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// If PostgreSQL is not installed, with the command that installs it, or does not come up.
    pub fn start() -> io::Result<Self> {
        let programs = programs()?;
        // Short: the name of a socket may have 107 bytes.
        let directory = tempfile::Builder::new().prefix("landfall-pg-").tempdir()?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let data = directory.path().join("data");
        fs::create_dir(&data)?;
        if process::is_root() {
            chown(directory.path(), Some(NOBODY), Some(NOBODY))?;
            chown(&data, Some(NOBODY), Some(NOBODY))?;
        }
        let mut initdb = unprivileged(&programs.join("initdb"), directory.path());
        initdb.args(["--username=tenants", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]);
        Said::from(initdb.arg("--pgdata").arg(&data).output()?).expect_code(0)?;
        let mut server = unprivileged(&programs.join("postgres"), directory.path());
        server.arg("-D").arg(&data).arg("-k").arg(directory.path());
        server.args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        let server = Process::spawn("postgres", &mut server, &directory.path().join("log"))?;
        let postgres = Self { server, programs, directory };
        wait_until("PostgreSQL answers", PATIENCE, || postgres.query("SELECT 1").is_ok())
            .map_err(|error| io::Error::other(format!("{error}\n{}", postgres.server.tail())))?;
        Ok(postgres)
    }

    /// `DATABASE_URL` of an application.
    #[must_use]
    pub fn url(&self) -> String {
        let socket = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgres://tenants@{socket}/postgres")
    }

    /// What a query gives, one line for each row.
    ///
    /// # Errors
    /// What `psql` said.
    pub fn query(&self, sql: &str) -> io::Result<Vec<String>> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.arg("-h").arg(self.directory.path());
        psql.args(["-U", "tenants", "-d", "postgres", "-XAtc", sql]);
        let said = Said::from(psql.output()?).expect_code(0)?;
        Ok(said.out.lines().map(str::to_owned).collect())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its fast shutdown; its processes would otherwise outlive it for a moment, in a directory that is gone.
        process::signal(self.server.id(), "INT");
        let _ = self.server.wait(PATIENCE);
    }
}

/// As `nobody` if this is root.
fn unprivileged(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory);
    if process::is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Where Debian keeps the programs of its newest PostgreSQL.
fn programs() -> io::Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let bin = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    bin.filter(|bin| bin.join("initdb").is_file()).max().ok_or_else(|| {
        let message =
            "PostgreSQL is not installed: `tests/setup.sh tests` installs it, or apt-get install postgresql";
        io::Error::new(io::ErrorKind::NotFound, message)
    })
}
