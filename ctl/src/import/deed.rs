//! What a command of a deployment is for, read off its words.

mod tools;

use super::shell::{Call, base};
use tools::{container, link, probe, retained, service, supervised, systemctl, units};

/// What a command is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Nothing that a release would have to do: `echo`, `mkdir`, `true`.
    Nothing,
    /// A virtualenv is made.
    Virtualenv,
    /// Python packages are installed.
    Pip {
        /// What stands behind `pip install`, options aside: `-r` files and packages.
        what: Vec<String>,
    },
    /// Django collects its static files.
    Collectstatic,
    /// The schema is migrated.
    Migrate(Migration),
    /// Something is made that is the same on every host.
    Build {
        /// What to call it.
        name: &'static str,
        /// The command.
        command: Vec<String>,
    },
    /// Units of systemd are started, restarted or reloaded.
    Unit {
        /// Their names.
        names: Vec<String>,
        /// Whether it is only reloaded.
        is_reload: bool,
    },
    /// Programs of Supervisor are started or restarted.
    Supervised(Vec<String>),
    /// Passenger is told to restart the application.
    Passenger,
    /// An application server serves the application; how it is started is known.
    Serve {
        /// In the foreground.
        command: Vec<String>,
    },
    /// A process is started by hand, or by a process manager of its own.
    Run(Vec<String>),
    /// A container is started.
    Container,
    /// Something is stopped.
    Stop,
    /// The code is fetched, unpacked or copied.
    Fetch,
    /// Files are copied or changed on the host.
    Copy,
    /// A file or directory that outlives a release is linked into it.
    Share {
        /// What, relative to the release.
        path: String,
    },
    /// `current` is pointed to the release.
    Switch,
    /// Old releases are removed; so many stay.
    Retain(u32),
    /// A URL of this host is asked.
    Probe(String),
    /// A URL of somewhere else, or one that cannot be read off.
    ProbeElsewhere,
    /// The host itself is set up: packages, users, units, a proxy, permissions.
    Host,
    /// Something else.
    Other,
}

/// How a schema is migrated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Whose migrations they are.
    pub of: Framework,
    /// The command, as it was.
    pub command: Vec<String>,
}

/// Whose migrations they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framework {
    /// `manage.py migrate`
    Django,
    /// `rails db:migrate`
    Rails,
    /// `artisan migrate`
    Laravel,
    /// Anything else.
    Other,
}

/// What a command is for.
#[must_use]
pub fn deed(call: &Call) -> Deed {
    let words: Vec<&str> = call.words.iter().map(String::as_str).collect();
    let arguments = call.arguments();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    if call.pipe.iter().any(|words| words.iter().any(|word| base(word) == "rm")) {
        return retained(call).map_or(Deed::Other, Deed::Retain);
    }
    let plain = |words: &&Vec<String>| {
        words.iter().any(|word| matches!(base(word), "sh" | "bash" | "python" | "python3" | "apt-key"))
    };
    if call.pipe.last().as_ref().is_some_and(plain) {
        return Deed::Host;
    }
    match (call.program(), arguments.first().map_or("", String::as_str)) {
        (
            "" | "echo" | "printf" | "true" | "false" | ":" | "set" | "exit" | "return" | "mkdir" | "test"
            | "[" | "[[" | "cat" | "ls" | "sleep" | "date" | "pwd" | "whoami" | "trap" | "shopt" | "popd"
            | "wait" | "read" | "for" | "case" | "function" | "unset" | "umask" | "ulimit" | "which" | "head"
            | "tail" | "grep" | "source" | "." | "workon" | "deactivate" | "activate" | "nvm" | "shift"
            | "env" | "uptime" | "df" | "du" | "stat" | "find" | "history" | "tee" | "ps" | "lsof"
            | "netstat" | "uname" | "hostname" | "pgrep" | "readlink" | "dirname" | "basename" | "awk"
            | "sed" | "cut" | "wc" | "xargs",
            _,
        ) => Deed::Nothing,
        ("virtualenv" | "mkvirtualenv", _) => Deed::Virtualenv,
        ("python" | "python2" | "python3", "-m") => module(&words),
        ("pip" | "pip2" | "pip3", "install") => Deed::Pip { what: packages(&arguments[1..]) },
        ("pipenv", "install" | "sync") | ("poetry", "install") | ("uv", "sync") => {
            Deed::Build { name: "packages", command: call.words.clone() }
        }
        ("uv", "pip") if has("install") => Deed::Pip { what: packages(&arguments[2..]) },
        ("bundle", "exec") | ("poetry" | "pipenv" | "uv", "run") => framework(call, &words[2..]),
        ("bundle" | "bundler", "install" | "check") => Deed::Build { name: "gems", command: gems() },
        ("bundle" | "bundler", _) => Deed::Nothing,
        ("npm", "ci" | "i" | "install") if has("-g") || has("--global") => Deed::Host,
        ("npm", "ci" | "i" | "install") | ("yarn" | "pnpm", "install" | "--frozen-lockfile") => {
            Deed::Build { name: "node-modules", command: call.words.clone() }
        }
        ("yarn", "") => Deed::Build { name: "node-modules", command: call.words.clone() },
        ("npm" | "yarn" | "pnpm", "start") => Deed::Run(call.words.clone()),
        ("npm" | "yarn" | "pnpm", "run")
            if arguments.get(1).is_some_and(|script| script.starts_with("start")) =>
        {
            Deed::Run(call.words.clone())
        }
        ("npm" | "yarn" | "pnpm", "run") => script(call, arguments.get(1)),
        ("yarn" | "pnpm", _) => script(call, arguments.first()),
        (
            "npx" | "webpack" | "gulp" | "grunt" | "bower" | "tailwindcss" | "vite" | "ng" | "make" | "mvn"
            | "mvnw" | "gradle" | "gradlew" | "go" | "cargo" | "tsc" | "jekyll" | "hugo" | "pelican"
            | "sphinx-build",
            _,
        ) => framework_or(call, &words, || Deed::Build { name: "build", command: call.words.clone() }),
        ("composer" | "composer.phar", "install" | "update") => {
            Deed::Build { name: "composer", command: call.words.clone() }
        }
        ("composer" | "composer.phar", _) => Deed::Build { name: "composer", command: call.words.clone() },
        ("php", first) if base(first).starts_with("composer") => {
            Deed::Build { name: "composer", command: call.words.clone() }
        }
        ("systemctl", _) => systemctl(arguments),
        ("service" | "invoke-rc.d", _) => service(arguments.first(), arguments.get(1)),
        ("restart" | "start" | "reload", name) if !name.is_empty() && arguments.len() == 1 => {
            units(arguments, call.program() == "reload")
        }
        ("supervisorctl", _) => supervised(arguments),
        ("passenger-config", "restart-app") => Deed::Passenger,
        ("touch", path) if path.ends_with("tmp/restart.txt") => Deed::Passenger,
        ("stop" | "kill" | "pkill" | "killall" | "fuser", _) => Deed::Stop,
        (
            "pm2" | "forever",
            "start" | "restart" | "reload" | "startOrRestart" | "startOrReload" | "startOrGracefulReload",
        ) => Deed::Run(call.words.clone()),
        ("pm2" | "forever", "install" | "save" | "startup" | "update" | "list" | "status" | "logs") => {
            Deed::Host
        }
        ("pm2" | "forever", _) => Deed::Stop,
        (
            "gunicorn" | "uwsgi" | "uvicorn" | "daphne" | "hypercorn" | "waitress-serve" | "puma" | "unicorn"
            | "unicorn_rails" | "celery" | "sidekiq" | "flask" | "streamlit",
            _,
        ) => framework_or(call, &words, || Deed::Run(call.words.clone())),
        (
            "java" | "dotnet" | "node" | "nodejs" | "screen" | "tmux" | "daemon" | "thin" | "spawn-fcgi"
            | "circusd",
            _,
        ) => framework_or(call, &words, || Deed::Run(call.words.clone())),
        ("docker" | "docker-compose" | "podman", _) => container(call.program(), arguments),
        (
            "git",
            "pull" | "clone" | "fetch" | "checkout" | "reset" | "submodule" | "merge" | "archive" | "clean",
        )
        | ("hg" | "svn", _)
        | ("rsync" | "scp" | "tar" | "unzip" | "wget" | "aws" | "gzip" | "gunzip", _) => Deed::Fetch,
        ("git", _) => Deed::Nothing,
        ("cp" | "mv" | "install" | "rm" | "truncate" | "touch" | "dd", _) => Deed::Copy,
        ("ln", _) => link(arguments),
        ("curl" | "http", _) => probe(arguments),
        (
            "apt"
            | "apt-get"
            | "aptitude"
            | "yum"
            | "dnf"
            | "apk"
            | "dpkg"
            | "rpm"
            | "snap"
            | "brew"
            | "amazon-linux-extras"
            | "add-apt-repository"
            | "apt-key"
            | "gem"
            | "easy_install"
            | "useradd"
            | "adduser"
            | "groupadd"
            | "usermod"
            | "chown"
            | "chmod"
            | "chgrp"
            | "chcon"
            | "setfacl"
            | "update-alternatives"
            | "a2ensite"
            | "a2enmod"
            | "a2dissite"
            | "crontab"
            | "iptables"
            | "ufw"
            | "sysctl"
            | "mount"
            | "update-rc.d"
            | "chkconfig"
            | "initctl"
            | "certbot"
            | "nginx"
            | "mysql"
            | "psql"
            | "createdb"
            | "dropdb"
            | "createuser"
            | "locale-gen"
            | "hostnamectl"
            | "timedatectl"
            | "rbenv"
            | "rvm"
            | "pyenv"
            | "nginx_ensite"
            | "rabbitmqctl"
            | "apachectl"
            | "apache2ctl"
            | "swapon"
            | "mkswap"
            | "logrotate"
            | "whenever"
            | "postconf",
            _,
        ) => Deed::Host,
        _ => framework(call, &words),
    }
}

/// `bundle install` into the release.
#[must_use]
pub fn gems() -> Vec<String> {
    let install = "bundle config set --local deployment true; bundle config set --local without development:test; \
                   bundle install --quiet";
    vec!["sh".into(), "-ec".into(), install.into()]
}

/// Django's `manage.py`, or a variable that holds its path.
#[must_use]
pub fn is_manage(word: &str) -> bool {
    base(word) == "manage.py" || (word.starts_with("${") && word.contains("manage"))
}

/// What a program of a framework does, whichever way it was started.
fn framework(call: &Call, words: &[&str]) -> Deed {
    framework_or(call, words, || Deed::Other)
}

fn framework_or(call: &Call, words: &[&str], otherwise: impl FnOnce() -> Deed) -> Deed {
    let migrate = |of| Deed::Migrate(Migration { of, command: call.words.clone() });
    let has = |word: &str| words.contains(&word);
    let starts = |prefix: &str| words.iter().any(|word| word.starts_with(prefix));
    let program = words.first().map_or("", |word| base(word));
    let manages = words.iter().any(|word| is_manage(word)) || program.starts_with("django-admin");
    if manages && (has("migrate") || has("syncdb") || (has("db") && has("upgrade"))) {
        return migrate(if has("upgrade") { Framework::Other } else { Framework::Django });
    }
    if manages && has("collectstatic") {
        return Deed::Collectstatic;
    }
    if manages && (has("compilemessages") || has("compress")) {
        return Deed::Build { name: "messages", command: call.words.clone() };
    }
    if manages && has("runserver") {
        return Deed::Run(call.words.clone());
    }
    if words.iter().any(|word| base(word) == "artisan") {
        if starts("migrate") {
            return migrate(Framework::Laravel);
        }
        // Caches hold the paths of the release's directory.
        return Deed::Other;
    }
    if matches!(program, "rake" | "rails") || words.iter().any(|word| matches!(base(word), "rake" | "rails"))
    {
        if has("db:migrate") || has("db:prepare") {
            return migrate(Framework::Rails);
        }
        if has("assets:precompile") || has("webpacker:compile") {
            return Deed::Build { name: "assets", command: assets() };
        }
    }
    if (program == "alembic" && has("upgrade"))
        || (program == "flask" && has("db") && has("upgrade"))
        || (has("prisma") && has("migrate"))
        || (has("knex") && starts("migrate:"))
        || (starts("sequelize") && starts("db:migrate"))
        || (has("typeorm") && starts("migration:run"))
        || program == "flyway"
        || program == "phinx"
        || starts("doctrine:migrations:migrate")
    {
        return migrate(Framework::Other);
    }
    otherwise()
}

fn assets() -> Vec<String> {
    ["bundle", "exec", "rails", "assets:precompile"].map(str::to_owned).to_vec()
}

/// `npm run NAME`.
fn script(call: &Call, name: Option<&String>) -> Deed {
    match name.map(String::as_str) {
        Some(name) if name.contains("migrat") => {
            Deed::Migrate(Migration { of: Framework::Other, command: call.words.clone() })
        }
        Some("start" | "serve" | "dev") => Deed::Run(call.words.clone()),
        _ => Deed::Build { name: "build", command: call.words.clone() },
    }
}

/// `python -m …`.
fn module(words: &[&str]) -> Deed {
    match words.get(2..).unwrap_or_default() {
        ["venv" | "virtualenv", ..] => Deed::Virtualenv,
        ["pip", "install", rest @ ..] => {
            Deed::Pip { what: packages(&rest.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()) }
        }
        ["pip" | "ensurepip", ..] => Deed::Nothing,
        ["gunicorn" | "uvicorn" | "flask" | "http.server" | "SimpleHTTPServer", ..] => {
            Deed::Run(words.iter().map(|&word| word.to_owned()).collect())
        }
        _ => Deed::Other,
    }
}

/// What is installed: `-r FILE` and packages, without options for how.
fn packages(arguments: &[String]) -> Vec<String> {
    let mut what = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-r" | "--requirement" => {
                what.extend(
                    arguments.next().map(|file| ["-r".to_owned(), file.clone()]).into_iter().flatten(),
                );
            }
            "-i" | "--index-url" | "--extra-index-url" | "-f" | "--find-links" | "-c" | "--constraint"
            | "--cache-dir" | "-t" | "--target" | "--proxy" | "--timeout" | "-E" => {
                arguments.next();
            }
            option if option.starts_with("--requirement=") => {
                what.extend(["-r".to_owned(), option["--requirement=".len()..].to_owned()]);
            }
            option if option.starts_with("-r") && option.len() > 2 => {
                what.extend(["-r".to_owned(), option[2..].to_owned()]);
            }
            option if option.starts_with('-') => {}
            "pip" | "setuptools" | "wheel" | "virtualenv" => {}
            package => what.push(package.to_owned()),
        }
    }
    what
}

#[cfg(test)]
mod tests {
    use super::super::shell::calls;
    use super::*;

    #[test]
    fn what_a_command_is_for_is_read_off_its_words() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (text, expected) in [
            ("python3 -m venv /srv/x/venv", Deed::Virtualenv),
            (
                "venv/bin/pip install --upgrade -r requirements.txt",
                Deed::Pip { what: words("-r requirements.txt") },
            ),
            ("pip install -rreq.txt gunicorn pip", Deed::Pip { what: words("-r req.txt gunicorn") }),
            (
                "cd x && ./manage.py migrate --noinput",
                Deed::Migrate(Migration {
                    of: Framework::Django,
                    command: words("./manage.py migrate --noinput"),
                }),
            ),
            (
                "bundle exec rake db:migrate",
                Deed::Migrate(Migration {
                    of: Framework::Rails,
                    command: words("bundle exec rake db:migrate"),
                }),
            ),
            ("python manage.py collectstatic --noinput", Deed::Collectstatic),
            ("sudo systemctl restart gunicorn", Deed::Unit { names: words("gunicorn"), is_reload: false }),
            ("sudo service nginx reload", Deed::Host),
            ("sudo service site restart", Deed::Unit { names: words("site"), is_reload: false }),
            ("supervisorctl -c /etc/s.conf restart web:*", Deed::Supervised(words("web:*"))),
            ("supervisorctl restart web worker", Deed::Supervised(words("web worker"))),
            ("systemctl restart nginx site", Deed::Unit { names: words("site"), is_reload: false }),
            ("supervisorctl reread", Deed::Host),
            ("ls -1t | tail -n +6 | xargs rm -rf", Deed::Retain(5)),
            (
                "curl --fail --retry 5 http://localhost:8000/up",
                Deed::Probe("http://127.0.0.1:8000/up".into()),
            ),
            ("curl -f localhost:8080", Deed::Probe("http://127.0.0.1:8080/".into())),
            ("curl https://example.org/", Deed::ProbeElsewhere),
            ("curl -sL https://example.org/setup | sudo -E bash -", Deed::Host),
            ("ln -s /srv/x/shared/.env /srv/x/releases/1/.env", Deed::Share { path: ".env".into() }),
            ("ln -s /srv/x/shared/up /srv/x/releases/1/public/up", Deed::Share { path: "public/up".into() }),
            ("ln -sfn /srv/x/releases/1 /srv/x/current", Deed::Switch),
            ("touch tmp/restart.txt", Deed::Passenger),
            ("pm2 restart all", Deed::Run(words("pm2 restart all"))),
            ("docker-compose -f x.yml up -d", Deed::Container),
            ("git pull origin main", Deed::Fetch),
            ("frobnicate now", Deed::Other),
        ] {
            assert_eq!(deed(calls(text).last().unwrap()), expected, "{text}");
        }
    }
}
