//! The ways in which a service is restarted, and who does it in each.

use std::fmt::Write as _;

/// Gunicorn, where it is a unit of the host.
const GUNICORN: &str = "/usr/bin/python3 -m gunicorn --config gunicorn.conf.py";
const ENVIRONMENT: &str = "PYTHONPATH=/opt/packages PYTHONDONTWRITEBYTECODE=1";

/// The way that needs a Docker and no host of its own.
pub const DOCKER: &str = "docker";

/// Who changes the release.
#[derive(Debug, Clone)]
pub enum Who {
    /// `ctl release`, through a controller and the agent.
    Ours,
    /// One of the scripts in `peers/traffic`, and the command that restarts what it has put there.
    Script {
        /// In the table.
        name: &'static str,
        /// Its file.
        script: &'static str,
        /// The command.
        restart: String,
    },
}

/// A way.
#[derive(Debug, Clone)]
pub struct Way {
    /// By which it is asked for.
    pub key: &'static str,
    /// In the table.
    pub name: &'static str,
    /// Of `landfall.toml`: services, checks, traffic.
    service: String,
    /// On the server: path and text.
    pub files: Vec<(String, String)>,
    /// What its administrator types once, after that.
    pub setup: String,
    /// What starts the application that is released by hand.
    pub start: String,
    /// Where requests to what Landfall releases go, and those to what is released by hand.
    pub ports: [u16; 2],
    /// Who is measured.
    pub rows: Vec<Who>,
}

impl Way {
    /// `landfall.toml`.
    #[must_use]
    pub fn definition(&self) -> String {
        format!(
            "[application]\nname = \"tenants\"\n\n{}\n\
             [environment.production]\nmin_healthy = \"1s\"\nhealthy_deadline = \"60s\"\n\n\
             [retention]\nreleases = 3\n",
            self.service
        )
    }
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Way> {
    vec![
        restart(),
        socket(),
        hup(),
        usr2(),
        supervisor(),
        slots("nginx", "nginx blue-green", NGINX, "/etc/nginx/conf.d/tenants.conf"),
        slots("haproxy", "HAProxy", HAPROXY, "/etc/haproxy/haproxy.cfg"),
        process(),
        docker(),
    ]
}

/// By hand, and as Capistrano does it.
fn by_others(restart: &str) -> Vec<Who> {
    let script = |name, script| Who::Script { name, script, restart: restart.to_owned() };
    vec![Who::Ours, script("by hand", "by_hand.sh"), script("Capistrano-like", "capistrano_like.sh")]
}

/// A unit that runs Gunicorn.
fn unit(user: &str, directory: &str, options: &str, more: &str) -> String {
    format!(
        "[Service]\nType=notify\nNotifyAccess=main\nUser={user}\nWorkingDirectory={directory}\n\
         Environment={ENVIRONMENT}\nExecStart={GUNICORN} {options} app:application\nKillMode=mixed\n\
         TimeoutStopSec=30\n{more}"
    )
}

fn systemd(name: &str, text: String) -> (String, String) {
    (format!("/etc/systemd/system/{name}"), text)
}

fn check(address: &str) -> String {
    format!("[[check]]\nname = \"front\"\nhttp = {{ url = \"http://{address}/\" }}\n")
}

fn restart() -> Way {
    let bind = |port: u16| format!("--bind 0.0.0.0:{port}");
    Way {
        key: "restart",
        name: "systemd, without a socket",
        service: format!(
            "[[service]]\nname = \"web\"\ndriver = \"systemd\"\nunit = \"web.service\"\n\n{}",
            check("127.0.0.1:8000")
        ),
        files: vec![
            systemd("web.service", unit("tenants", "/srv/tenants/current", &bind(8000), "")),
            systemd("hand.service", unit("tenants", "/srv/hand/current", &bind(9000), "")),
        ],
        setup: String::new(),
        start: "systemctl start hand".to_owned(),
        ports: [8000, 9000],
        rows: by_others("systemctl restart hand"),
    }
}

fn socket() -> Way {
    let socket = |port: u16, more: &str| format!("[Socket]\nListenStream=0.0.0.0:{port}\n{more}");
    // Otherwise Gunicorn says READY=1 before a worker has loaded the application.
    let ready = "--preload";
    Way {
        key: "socket",
        name: "systemd, with a socket",
        service: format!(
            "[[service]]\nname = \"web\"\ndriver = \"systemd\"\nunit = \"web@{{slot}}.service\"\n\
             socket = \"web.socket\"\n\n{}",
            check("127.0.0.1:8000")
        ),
        files: vec![
            systemd("web.socket", socket(8000, "Service=web@a.service\n")),
            systemd(
                "web@.service",
                format!(
                    "[Unit]\nRequires=web.socket\n{}",
                    unit("tenants", "/srv/tenants/current", ready, "Sockets=web.socket\n")
                ),
            ),
            systemd("hand.socket", socket(9000, "")),
            systemd("hand.service", unit("tenants", "/srv/hand/current", ready, "")),
        ],
        setup: String::new(),
        start: "systemctl start hand.socket hand".to_owned(),
        ports: [8000, 9000],
        rows: by_others("systemctl restart hand"),
    }
}

fn hup() -> Way {
    // With `--chdir` Gunicorn looks anew where `current` leads. It is started elsewhere, since it first goes back to where
    // it was started, and ends if that release has been removed.
    let unit = |name: &str, port: u16| {
        let options = format!("--chdir /srv/{name}/current --bind 0.0.0.0:{port}");
        let config = format!("--config /srv/{name}/current/gunicorn.conf.py");
        unit("tenants", "/", &options, "ExecReload=/bin/kill -HUP $MAINPID\n")
            .replace("--config gunicorn.conf.py", &config)
    };
    let mut way = restart();
    way.key = "hup";
    way.name = "Gunicorn HUP";
    way.service = way.service.replace("\"web.service\"\n", "\"web.service\"\nhow = \"reload\"\n");
    way.files =
        vec![systemd("web.service", unit("tenants", 8000)), systemd("hand.service", unit("hand", 9000))];
    way.rows = by_others("systemctl reload hand");
    way
}

fn usr2() -> Way {
    // One process replaces another: a unit that has a main process would end with the first of them.
    let unit = |name: &str, user: &str, port: u16| {
        format!(
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nUser={user}\nRuntimeDirectory={name}\n\
             WorkingDirectory=/srv/{app}/current\nEnvironment={ENVIRONMENT} READY=/run/{name}/ready\n\
             ExecStart={GUNICORN} --config /srv/{app}/current/gunicorn.conf.py --chdir /srv/{app}/current \
             --bind 0.0.0.0:{port} --pid /run/{name}/pid --daemon app:application\nTimeoutStopSec=30\n",
            app = if name == "web" { "tenants" } else { name },
        )
        .replace(" --config gunicorn.conf.py", "")
    };
    Way {
        key: "usr2",
        name: "Gunicorn USR2",
        service: format!(
            "[[service]]\nname = \"web\"\ndriver = \"exec\"\n\
             restart = [\"sh\", \"{{release}}/usr2.sh\", \"web\", \"/run/web\"]\n\n{}",
            check("127.0.0.1:8000")
        ),
        files: vec![
            // An agent that is not root may signal processes of its own user.
            systemd("web.service", unit("web", "landfall", 8000)),
            systemd("hand.service", unit("hand", "root", 9000)),
        ],
        setup: String::new(),
        start: "sh /srv/hand/incoming/usr2.sh hand /run/hand".to_owned(),
        ports: [8000, 9000],
        rows: by_others("sh /srv/hand/incoming/usr2.sh hand /run/hand"),
    }
}

fn supervisor() -> Way {
    let mut programs = String::new();
    for (name, app, port) in [("web", "tenants", 8000), ("hand", "hand", 9000)] {
        let environment = ENVIRONMENT.replace('=', "=\"").replace(' ', "\",");
        let _ = write!(
            programs,
            "[fcgi-program:{name}]\nsocket = tcp://0.0.0.0:{port}\nprocess_name = %(program_name)s_%(process_num)d\n\
             numprocs = 2\ndirectory = /srv/{app}/current\ncommand = {GUNICORN} --workers 1 --bind fd://0 app:application\n\
             environment = {environment}\"\nuser = tenants\nstartsecs = 3\nautostart = false\nautorestart = true\n\
             stopsignal = TERM\nstopwaitsecs = 30\n\n"
        );
    }
    Way {
        key: "supervisor",
        name: "Supervisor, two processes on its socket",
        service: format!(
            "[[service]]\nname = \"web\"\ndriver = \"supervisor\"\ngroup = \"web\"\n\n{}",
            check("127.0.0.1:8000")
        ),
        files: vec![("/etc/supervisor/conf.d/both.conf".to_owned(), programs)],
        setup: "mkdir -p /srv/tenants
             sed -i 's/^chmod=.*/chmod=0770\\nchown=root:landfall/' /etc/supervisor/supervisord.conf
             systemctl start supervisor"
            .to_owned(),
        start: "supervisorctl start hand:*".to_owned(),
        ports: [8000, 9000],
        rows: by_others("supervisorctl restart hand:*"),
    }
}

const NGINX: &str = "include /var/lib/landfall/nginx/*.conf;
include /etc/nginx/hand.upstream;
server { listen 8080; location / { proxy_pass http://tenants; } }
server { listen 9080; location / { proxy_pass http://hand; } }
";

const HAPROXY: &str = "global
    stats socket /run/haproxy/admin.sock mode 660 level admin group landfall expose-fd listeners
    server-state-file /var/lib/landfall/haproxy/state
    user haproxy
    group haproxy
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    load-server-state-from-file global
frontend tenants
    bind *:8080
    default_backend tenants
frontend hand
    bind *:9080
    default_backend hand
backend tenants
    server blue 127.0.0.1:8001 disabled
    server green 127.0.0.1:8002 disabled
backend hand
    server blue 127.0.0.1:9001
    server green 127.0.0.1:9002 disabled
";

/// Two places for one service, and a proxy before them.
fn slots(key: &'static str, name: &'static str, config: &str, path: &str) -> Way {
    let script = |name, script, who| Who::Script {
        name,
        script,
        restart: format!("sh /opt/peers/slots.sh {key} {who}"),
    };
    let bind = "--bind 127.0.0.1:${PORT}";
    let port = |slot: &str, port: u16| {
        (
            format!("/etc/systemd/system/hand@{slot}.service.d/port.conf"),
            format!("[Service]\nEnvironment=PORT={port}\n"),
        )
    };
    Way {
        key,
        name,
        service: format!(
            "[[service]]\nname = \"web\"\ndriver = \"process\"\n\
             command = [\"/usr/bin/python3\", \"-m\", \"gunicorn\", \"--config\", \"gunicorn.conf.py\", \"app:application\"]\n\
             environment = {{ PYTHONPATH = \"/opt/packages\", PYTHONDONTWRITEBYTECODE = \"1\" }}\n\
             listen = \"{{address}}\"\nready = {{ http = \"/\", timeout = \"30s\" }}\n\n{}\n\
             [traffic]\nproxy = \"{key}\"\n\n[traffic.slots]\nservice = \"web\"\nblue = \"127.0.0.1:8001\"\n\
             green = \"127.0.0.1:8002\"\nwarm_up = [\"/\"]\nkeep = \"1s\"\n",
            check("{address}")
        ),
        files: vec![
            (path.to_owned(), config.to_owned()),
            ("/etc/nginx/hand.upstream".to_owned(), "upstream hand { server 127.0.0.1:9001; }\n".to_owned()),
            ("/srv/hand/slot".to_owned(), "green\n".to_owned()),
            systemd("hand@.service", unit("tenants", "/srv/hand/slot-%i", bind, "")),
            port("blue", 9001),
            port("green", 9002),
        ],
        setup: format!(
            "install -d -o landfall -g landfall /var/lib/landfall/nginx /var/lib/landfall/haproxy
             echo 'upstream tenants {{ server 127.0.0.1:8001; }}' >/var/lib/landfall/nginx/tenants.conf
             echo 1 >/var/lib/landfall/haproxy/state
             chown landfall /var/lib/landfall/nginx/tenants.conf /var/lib/landfall/haproxy/state
             sed -i 's/^test = .*/test = []/; s/^# state_file/state_file/' /etc/landfall/agent.toml
             systemctl start {key}"
        ),
        start: format!("sh /opt/peers/slots.sh {key} hand"),
        ports: [8080, 9080],
        rows: vec![
            Who::Ours,
            script("by hand", "by_hand.sh", "hand"),
            script("Kamal-like", "by_hand.sh", "kamal"),
        ],
    }
}

/// Two containers on one host, nginx before them.
fn docker() -> Way {
    let script = |name, who| Who::Script {
        name,
        script: "by_hand.sh",
        restart: format!("sh ../peers/docker.sh {who}"),
    };
    Way {
        key: DOCKER,
        name: "Docker, two containers behind nginx",
        service: format!(
            "[[service]]\nname = \"web\"\ndriver = \"docker\"\nimage_file = \"images/web.tar\"\n\
             command = [\"/usr/bin/python3\", \"-m\", \"gunicorn\", \"--config\", \"/app/gunicorn.conf.py\", \
             \"--chdir\", \"/app\", \"--bind\", \"0.0.0.0:8000\", \"app:application\"]\n\
             environment = {{ PYTHONPATH = \"/packages\", PYTHONDONTWRITEBYTECODE = \"1\" }}\n\
             volumes = [\"/usr:/usr:ro\", \"PACKAGES:/packages:ro\", \"{{release}}:/app:ro\"]\n\
             publish = [\"{{address}}:8000\"]\nsettle = \"200ms\"\n\n{}\n\
             [traffic]\nproxy = \"nginx\"\n\n[traffic.slots]\nservice = \"web\"\nblue = \"127.0.0.1:8001\"\n\
             green = \"127.0.0.1:8002\"\nwarm_up = [\"/\"]\nkeep = \"1s\"\n",
            check("{address}")
        ),
        files: Vec::new(),
        setup: String::new(),
        start: "sh ../peers/docker.sh hand".to_owned(),
        ports: [8080, 9080],
        rows: vec![Who::Ours, script("by hand", "hand"), script("Kamal-like", "kamal")],
    }
}

/// Landfall's own; by hand there is nothing like it: what comes nearest is a socket of systemd.
fn process() -> Way {
    let mut way = socket();
    way.key = "process";
    way.name = "Landfall's holder (driver process)";
    way.service = format!(
        "[[service]]\nname = \"web\"\ndriver = \"process\"\n\
         command = [\"/usr/bin/python3\", \"-m\", \"gunicorn\", \"--config\", \"gunicorn.conf.py\", \"app:application\"]\n\
         environment = {{ PYTHONPATH = \"/opt/packages\", PYTHONDONTWRITEBYTECODE = \"1\" }}\n\
         listen = \"0.0.0.0:8000\"\nready = {{ http = \"/\", timeout = \"30s\" }}\n\n{}",
        check("127.0.0.1:8000")
    );
    way.rows.truncate(1);
    way
}
