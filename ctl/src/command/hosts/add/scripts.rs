//! What is run on a host that is added: scripts for its `sh`, and what the first of them finds there.
//!
//! Each may be run again. The token is in the text of one of them and so on its standard input, and on no command line.

use landfall_common::{AppName, EnvName, HostId, Sha256};
use serde::Deserialize;

/// Where root looks for programs: what `sudo` and `sshd` leave of it differs from one distribution to the next.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH\n";
/// What every line begins with that is for us: a login shell may have its own to say.
const MARK: &str = "landfall: ";

/// How the scripts are run there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// It is root who logs in.
    Root,
    /// `sudo` makes root of who logs in.
    Sudo,
}

impl Rights {
    /// The command that reads a script for root from its standard input.
    #[must_use]
    pub fn shell(self) -> &'static str {
        match self {
            Self::Root => SHELL,
            Self::Sudo => "exec sudo -n sh -s",
        }
    }
}

/// The command that reads a script from its standard input, as who logs in.
pub const SHELL: &str = "exec sh -s";

/// What of a host is enrolled: its agent, and where it is wanted the one that releases the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instance {
    /// That of the application.
    Agent,
    /// That of the agent itself.
    Updater,
}

impl Instance {
    /// Its unit.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Agent => "landfall-agent.service",
            Self::Updater => "landfall-updater.service",
        }
    }

    /// How it is run there: as its own user, and by its own settings.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Self::Agent => "runuser -u landfall -- landfall-agent",
            Self::Updater => {
                "runuser -u landfall-updater -- landfall-agent --config /etc/landfall/updater.toml"
            }
        }
    }

    /// Where it keeps its state.
    #[must_use]
    pub fn state(self) -> &'static str {
        match self {
            Self::Agent => "/var/lib/landfall",
            Self::Updater => "/var/lib/landfall-updater",
        }
    }
}

/// What a host is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// As whom we are there, or why not as root.
    pub rights: Result<Rights, String>,
    /// Who logged in.
    pub user: String,
    /// Whether systemd runs there.
    pub has_systemd: bool,
    /// Whether packages are Debian's there.
    pub has_dpkg: bool,
    /// The agent that is installed.
    pub agent: Option<String>,
    /// As what it has joined.
    pub identity: Option<Identity>,
    /// As what its updater has.
    pub updater: Option<Identity>,
}

/// As what a host has joined, as far as its `identity.json` is needed here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Identity {
    /// Its name and place.
    pub identity: Place,
    /// `HOST:PORT`.
    pub controller: String,
}

/// The name and the place of a host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Place {
    /// Its name.
    pub host: HostId,
    /// What it runs.
    pub application: AppName,
    /// Where.
    pub environment: EnvName,
}

/// Looks, and changes nothing.
#[must_use]
pub fn look() -> String {
    let script = r#"say() { printf 'landfall: %s %s\n' "$1" "$2"; }
say user "$(id -un)"
become=
if [ "$(id -u)" != 0 ]; then
    become='sudo -n'
    if ! complaint=$(sudo -n true 2>&1); then
        say refused "$(printf '%s\n' "$complaint" | head -n 1)"
        exit 0
    fi
fi
say rights "${become:-root}"
[ ! -d /run/systemd/system ] || say systemd yes
! command -v dpkg >/dev/null || say dpkg yes
! command -v landfall-agent >/dev/null || say agent "$(landfall-agent --version 2>&1 | head -n 1)"
for name in identity updater; do
    state=/var/lib/landfall
    [ $name = identity ] || state=$state-updater
    identity=$($become cat $state/identity/identity.json 2>/dev/null | tr -d '\n')
    [ -z "$identity" ] || say $name "$identity"
done
"#;
    format!("{PATH}{script}")
}

impl Found {
    /// Reads what [`look`] said.
    ///
    /// # Errors
    /// What is missing, or cannot be read.
    pub fn parse(said: &str) -> Result<Self, String> {
        let value = |key: &str| {
            said.lines().find_map(|line| line.strip_prefix(MARK)?.strip_prefix(key)?.strip_prefix(' '))
        };
        let user = value("user").ok_or("its shell did not run what it was given")?.to_owned();
        let rights = match (value("rights"), value("refused")) {
            (Some("root"), _) => Ok(Rights::Root),
            (Some(_), _) => Ok(Rights::Sudo),
            (None, why) => Err(why.unwrap_or("it did not say").to_owned()),
        };
        let identity = |key, instance: Instance| {
            let found = value(key).map(serde_json::from_str).transpose();
            found.map_err(|error| {
                format!("{}/identity/identity.json there cannot be read: {error}", instance.state())
            })
        };
        Ok(Self {
            rights,
            user,
            has_systemd: value("systemd").is_some(),
            has_dpkg: value("dpkg").is_some(),
            agent: value("agent").map(str::to_owned),
            identity: identity("identity", Instance::Agent)?,
            updater: identity("updater", Instance::Updater)?,
        })
    }
}

/// What a host gets to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The agent's package.
    Package,
    /// The tarball of everything.
    Tarball,
}

impl Kind {
    /// What it is called there.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Package => "landfall-agent.deb",
            Self::Tarball => "landfall.tar.gz",
        }
    }
}

/// The command that puts its standard input into a new directory, and says which.
#[must_use]
pub fn receive(kind: Kind) -> String {
    let name = kind.name();
    format!("exec sh -c 'umask 077; d=$(mktemp -d) && cat >$d/{name} && echo {MARK}directory $d'")
}

/// The directory that [`receive`] made.
#[must_use]
pub fn received(said: &str) -> Option<&str> {
    let directory = said.lines().find_map(|line| line.strip_prefix(MARK)?.strip_prefix("directory "))?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    (directory.starts_with('/') && directory.chars().all(is_plain)).then_some(directory)
}

/// Installs what was received in this directory, and removes that.
#[must_use]
pub fn install(kind: Kind, directory: &str, digest: &Sha256) -> String {
    let name = kind.name();
    let begin = format!(
        "{PATH}set -eu\ndirectory={directory}\ntrap 'rm -rf \"$directory\"' EXIT\n\
         echo '{digest}  '\"$directory/{name}\" | sha256sum --check --status || {{ echo 'what has arrived is not what was sent' >&2; exit 1; }}\n"
    );
    let rest = match kind {
        // A server that was set up this minute still upgrades itself, or has no lists of packages yet.
        Kind::Package => {
            r#"export DEBIAN_FRONTEND=noninteractive
install() {
    apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold \
        "$directory/landfall-agent.deb" </dev/null
}
install || { apt-get update </dev/null || true; install; }
"#
        }
        Kind::Tarball => {
            r#"tar -xzf "$directory/landfall.tar.gz" -C "$directory" --no-same-owner
sh "$directory"/landfall-*/install.sh agent </dev/null
"#
        }
    };
    let last = "command -v landfall-agent >/dev/null || { echo 'there is no landfall-agent after that' >&2; exit 1; }\n";
    format!("{begin}{rest}{last}")
}

/// Lets the host join: its application's directories, its variables, and the token.
#[must_use]
pub fn join(application: &AppName, variables: &[(String, String)], token: &str, controller: &str) -> String {
    format!(
        "{PATH}set -eu\ncd /\n\
         for directory in /srv/{application} /srv/{application}/shared; do\n    \
         [ -e $directory ] || install -d -o landfall -g landfall $directory\ndone\n{}{}",
        set_variables(variables),
        join_with(Instance::Agent, token, controller)
    )
}

fn join_with(instance: Instance, token: &str, controller: &str) -> String {
    format!("{} join - --controller '{controller}' <<'END'\n{token}\nEND\n", instance.command())
}

/// Lets the host's updater join, and the agent be what it releases.
#[must_use]
pub fn join_updater(token: &str, controller: &str) -> String {
    let script = r#"set -eu
cd /
if ! id landfall-updater >/dev/null 2>&1; then
    echo 'the agent that is installed there is older than this ctl, and brings no updater' >&2
    exit 1
fi
settings=/etc/landfall/agent.toml
if ! grep -q '^program *=' $settings; then
    { echo 'program = "/var/lib/landfall-released/landfall-agent/current/landfall-agent"'; cat $settings; } >$settings.new
    chmod 644 $settings.new
    mv $settings.new $settings
fi
"#;
    format!("{PATH}{script}{}", join_with(Instance::Updater, token, controller))
}

/// Puts variables into the host's `agent.toml`, and leaves all else there as it is.
fn set_variables(variables: &[(String, String)]) -> String {
    if variables.is_empty() {
        return String::new();
    }
    let keys: Vec<_> = variables.iter().map(|(key, _)| key.as_str()).collect();
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"");
    let lines: String =
        variables.iter().map(|(key, value)| format!("{key} = \"{}\"\n", quoted(value))).collect();
    format!(
        r#"settings=/etc/landfall/agent.toml
grep -q '^\[variables\]' $settings || printf '\n[variables]\n' >>$settings
cat >$settings.lines <<'END'
{lines}END
awk '/^\[/ {{ inside = /^\[variables\]/ }} !(inside && /^[ \t]*({})[ \t]*=/)' $settings |
    sed "/^\[variables\]/r $settings.lines" >$settings.new
chmod 644 $settings.new
mv $settings.new $settings
rm $settings.lines
"#,
        keys.join("|")
    )
}

/// Starts it; if it does not stay, its last words are told.
#[must_use]
pub fn start(instance: Instance) -> String {
    let unit = instance.unit();
    format!(
        "{PATH}systemctl --quiet enable {unit} </dev/null\n\
         systemctl start {unit} </dev/null && systemctl --quiet is-active {unit} && exit 0\n{}exit 1\n",
        last_words(instance)
    )
}

/// What it said last.
#[must_use]
pub fn last_words(instance: Instance) -> String {
    format!("{PATH}journalctl --no-pager --output=cat --lines=12 --unit={} </dev/null >&2\n", instance.unit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_login_shell_says_of_its_own_is_no_answer() {
        let said = "Welcome!\nrights sudo -n\nlandfall: user ana\nlandfall: rights sudo -n\nlandfall: systemd yes\n\
                    landfall: agent landfall-agent 0.1.0\n";
        let found = Found::parse(said).unwrap();
        assert_eq!(
            found,
            Found {
                rights: Ok(Rights::Sudo),
                user: "ana".into(),
                has_systemd: true,
                has_dpkg: false,
                agent: Some("landfall-agent 0.1.0".into()),
                identity: None,
                updater: None,
            }
        );
        let said = "landfall: user ana\nlandfall: refused sudo: a password is required\n";
        assert_eq!(Found::parse(said).unwrap().rights, Err("sudo: a password is required".to_owned()));
        assert!(Found::parse("This account is not available.\n").is_err());
        assert!(
            Found::parse("landfall: user root\nlandfall: identity {\n").unwrap_err().contains("identity")
        );
    }

    #[test]
    fn a_directory_that_a_shell_would_read_otherwise_is_none() {
        assert_eq!(received("hello\nlandfall: directory /tmp/tmp.a1\n"), Some("/tmp/tmp.a1"));
        for said in
            ["", "landfall: directory \n", "landfall: directory /tmp/a b", "landfall: directory $(id)"]
        {
            assert_eq!(received(said), None, "{said}");
        }
    }

    #[test]
    fn the_token_is_on_standard_input_and_on_no_command_line() {
        let variables = [("port".to_owned(), "8101".to_owned()), ("zone".to_owned(), r#"a\ "b""#.to_owned())];
        let script = join(&AppName::new("shop").unwrap(), &variables, "TOKEN", "deploy:7443");
        insta::assert_snapshot!(script, @r#"
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        export PATH
        set -eu
        cd /
        for directory in /srv/shop /srv/shop/shared; do
            [ -e $directory ] || install -d -o landfall -g landfall $directory
        done
        settings=/etc/landfall/agent.toml
        grep -q '^\[variables\]' $settings || printf '\n[variables]\n' >>$settings
        cat >$settings.lines <<'END'
        port = "8101"
        zone = "a\\ \"b\""
        END
        awk '/^\[/ { inside = /^\[variables\]/ } !(inside && /^[ \t]*(port|zone)[ \t]*=/)' $settings |
            sed "/^\[variables\]/r $settings.lines" >$settings.new
        chmod 644 $settings.new
        mv $settings.new $settings
        rm $settings.lines
        runuser -u landfall -- landfall-agent join - --controller 'deploy:7443' <<'END'
        TOKEN
        END
        "#);
        assert_eq!(
            receive(Kind::Package),
            "exec sh -c 'umask 077; d=$(mktemp -d) && cat >$d/landfall-agent.deb && echo landfall: directory $d'"
        );
    }

    #[test]
    fn variables_are_set_where_they_stand_and_all_else_stays() {
        let directory = tempfile::tempdir().unwrap();
        let settings = directory.path().join("agent.toml");
        let variables = [("port".to_owned(), "8101".to_owned()), ("zone".to_owned(), r#"a\ "b""#.to_owned())];
        let script =
            set_variables(&variables).replace("/etc/landfall/agent.toml", settings.to_str().unwrap());
        let set = |before: &str| {
            std::fs::write(&settings, before).unwrap();
            // Done twice, it is as done once.
            for _ in 0..2 {
                let status = std::process::Command::new("sh").args(["-euc", &script]).status().unwrap();
                assert!(status.success());
            }
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
            std::fs::read_to_string(&settings).unwrap()
        };
        let after = set("# mine\n[variables]\n# port = 1\nport = 2\nports = 3\n\n[docker]\nport = 4\n");
        assert_eq!(
            after,
            "# mine\n[variables]\nport = \"8101\"\nzone = \"a\\\\ \\\"b\\\"\"\n# port = 1\nports = 3\n\n[docker]\nport = 4\n"
        );
        let read: toml::Table = after.parse().unwrap();
        assert_eq!(read["variables"]["zone"].as_str(), Some(r#"a\ "b""#));
        let read: toml::Table = set("steps = \"unit\"").parse().unwrap();
        assert_eq!(read["variables"]["port"].as_str(), Some("8101"));
    }
}
