//! What `ctl hosts add` takes.

use std::path::PathBuf;

use clap::Args;
use landfall_common::HostId;
use landfall_common::time::Duration;

use super::{Environment, duration, label};

/// `ctl hosts add`
#[derive(Debug, Args)]
#[command(after_help = "\
It logs in to each host with your own ssh (its configuration, keys and known hosts; nothing is ever asked for), as root
or as somebody whom sudo lets become root without a password. It installs the agent, joins, starts it, and waits until
the controller sees the host. Typed again, it goes on where it stood; hosts that have joined are left alone.

Examples:
  ctl hosts add root@web-1 root@web-2 --env production --package landfall-agent_0.1.0_amd64.deb
  ctl hosts add web-3=admin@10.0.0.7 --label zone=a --tarball landfall-0.1.0-x86_64-linux.tar.gz
  ctl hosts add web-4 --package landfall-agent_0.1.0_amd64.deb --ssh-option ProxyJump=bastion --dry-run")]
pub struct Add {
    /// Where to log in, as ssh takes it; the host is named by it without its user, or by NAME=DESTINATION
    #[arg(required = true, value_name = "HOST", value_parser = target)]
    pub hosts: Vec<Target>,
    /// Where the hosts belong, for good.
    #[command(flatten)]
    pub environment: Environment,
    /// A label of all of them, such as zone=a; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// The Debian package of the agent, for hosts that have dpkg
    #[arg(long, value_name = "PATH")]
    pub package: Option<PathBuf>,
    /// The tarball, for hosts that do not
    #[arg(long, value_name = "PATH")]
    pub tarball: Option<PathBuf>,
    /// One of [variables] in the agent.toml of all of them, such as port=8101; may be given several times
    #[arg(long = "variable", value_name = "KEY=VALUE", value_parser = variable)]
    pub variables: Vec<(String, String)>,
    /// Where the hosts find the controller [default: where this machine does]
    #[arg(long, value_name = "HOST:PORT")]
    pub controller: Option<String>,
    /// A setting of ssh_config(5), such as Port=2222; may be given several times
    #[arg(long = "ssh-option", value_name = "KEY=VALUE")]
    pub ssh_options: Vec<String>,
    /// Let each join for the application landfall-agent too, as NAME-agent, so that the agent itself can be released
    #[arg(long)]
    pub updater: bool,
    /// How many hosts at once
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub parallel: u8,
    /// How long the controller may take to see a host
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub wait: Duration,
    /// Show what would be run there, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask about an environment that landfall.toml does not have
    #[arg(short, long)]
    pub yes: bool,
}

/// A host to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name under which it is enrolled.
    pub name: HostId,
    /// Where ssh finds it.
    pub destination: String,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as port=8101")?;
    let is_name = |key: &str| key.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
    if key.is_empty() || !is_name(key) {
        return Err("a variable has lower-case letters, digits and _ in its name".to_owned());
    }
    if value.chars().any(char::is_control) {
        return Err("the value of a variable is one line".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn target(text: &str) -> Result<Target, String> {
    let (name, destination) = text.split_once('=').unwrap_or_else(|| {
        let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
        (host, text)
    });
    let is_word = |c: char| c.is_ascii_graphic() && !"'\"\\$`;&|<>()".contains(c);
    if destination.is_empty() || destination.starts_with('-') || !destination.chars().all(is_word) {
        return Err("ssh takes no such destination: write HOST, USER@HOST, or NAME=USER@HOST".to_owned());
    }
    let name = HostId::new(name)
        .map_err(|error| format!("{error}; say how the host is to be named: NAME={destination}"))?;
    Ok(Target { name, destination: destination.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_by_its_destination_or_as_it_is_said() {
        for (text, name, destination) in [
            ("web-1", "web-1", "web-1"),
            ("root@web-1.example.org", "web-1.example.org", "root@web-1.example.org"),
            ("web-1=root@10.0.0.7", "web-1", "root@10.0.0.7"),
            ("six=root@2001:db8::7", "six", "root@2001:db8::7"),
            ("web=ssh://root@web:2222", "web", "ssh://root@web:2222"),
        ] {
            let found = target(text).unwrap();
            assert_eq!((found.name.as_str(), found.destination.as_str()), (name, destination));
        }
        for text in ["-oProxyCommand=id", "web=-v", "web 1", "web=", "ssh://web:2222", "a=`id`", ""] {
            assert!(target(text).is_err(), "{text}");
        }
        assert!(target("ssh://web:22").unwrap_err().contains("NAME=ssh://web:22"));
    }

    #[test]
    fn a_variable_is_a_name_and_one_line() {
        assert_eq!(variable("port=8101").unwrap(), ("port".to_owned(), "8101".to_owned()));
        assert_eq!(variable("a=b=c").unwrap().1, "b=c");
        for text in ["port", "=1", "Port=1", "a.b=1", "a=1\n[docker]"] {
            assert!(variable(text).is_err(), "{text}");
        }
    }
}
