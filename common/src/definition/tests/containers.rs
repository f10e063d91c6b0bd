//! Services in containers.

use super::*;

#[test]
fn a_container_is_read_with_its_defaults_and_written_as_it_is_signed() {
    let text = r#"
[application]
name = "tenants"
[[service]]
name = "web"
driver = "docker"
image = "registry:5000/tenants/web:v1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
publish = ["{address}:8000", "[::1]:53:53/udp"]
volumes = ["{shared}/media:/app/media", "tenants-data:/data:ro"]
memory = "512MiB"
cpus = "1.5"
pids = 200
[[service]]
name = "worker"
driver = "docker"
image_file = "images/worker.tar"
command = ["work", "--in={shared}"]
environment = { A = "{port}" }
network = "backend"
user = "1000:1000"
privileged = true
log_driver = "journald"
settle = "5s"
timeout = "1m"
stop_timeout = "2m"
[traffic]
proxy = "nginx"
slots = { service = "web", blue = "127.0.0.1:8001", green = "127.0.0.1:8002", warm_up = ["/"] }
"#;
    let program = parse(text).unwrap().program;
    let forms: Vec<_> = program
        .services
        .iter()
        .map(|service| {
            let bytes = crate::canonical::to_vec(&service.driver).unwrap();
            assert_eq!(serde_json::from_slice::<Driver>(&bytes).unwrap(), service.driver);
            String::from_utf8(bytes).unwrap()
        })
        .collect();
    insta::assert_snapshot!(forms.join("\n"), @r#"
    {"cpus_milli":1500,"image":{"digest":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","name":"registry:5000/tenants/web","type":"registry"},"log_driver":"local","memory_bytes":536870912,"pids":200,"publish":[{"container":8000,"host":"{address}","protocol":"tcp"},{"container":53,"host":"[::1]:53","protocol":"udp"}],"settle_ms":2000,"stop_timeout_ms":30000,"timeout_ms":120000,"type":"docker","volumes":[{"source":{"path":"{shared}/media","type":"path"},"target":"/app/media"},{"read_only":true,"source":{"name":"tenants-data","type":"named"},"target":"/data"}]}
    {"command":["work","--in={shared}"],"environment":{"A":"{port}"},"image":{"path":"images/worker.tar","type":"file"},"log_driver":"journald","network":"backend","privileged":true,"settle_ms":5000,"stop_timeout_ms":120000,"timeout_ms":60000,"type":"docker","user":"1000:1000"}
    "#);
    let placed = program.in_slot(crate::manifest::traffic::Slot::Green);
    let Driver::Docker(web) = &placed.services[0].driver else { panic!() };
    assert_eq!(web.publish[0].host, "127.0.0.1:8002");
}

#[test]
fn a_container_that_cannot_be_is_refused_with_what_to_write() {
    insta::assert_snapshot!(wrong(r#"
[[service]]
name = "a"
driver = "docker"
image = "nginx:1.25"
publish = ["8000:8000", "127.0.0.1:80", "web:0"]
[[service]]
name = "b"
driver = "docker"
image = "nginx@sha256:abc"
image_file = "web.tar"
[[service]]
name = "c"
driver = "docker"
image = "nginx@sha256:abc"
volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
[[service]]
name = "d"
driver = "docker"
image_file = "../web.tar"
network = "container:other"
memory = "512m"
cpus = "1.2345"
log_driver = "jurnald"
user = "a:b:c"
[[service]]
name = "e"
driver = "docker"
image_file = "web.tar"
network = "host"
publish = ["127.0.0.1:80:80"]
memory = "1MiB"
cpus = 2
listen = "127.0.0.1:80"
[[service]]
name = "f"
driver = "docker"
"#), @r#"
    landfall.toml:7:9: "nginx:1.25" names no digest: what a tag stands for may change after the release was signed
      7 | image = "nginx:1.25"
        |         ^^^^^^^^^^^^
      help: write `image = "nginx@sha256:…"`; `docker inspect --format '{{index .RepoDigests 0}}' nginx:1.25` prints it
    landfall.toml:8:12: "8000:8000" says no address
      8 | publish = ["8000:8000", "127.0.0.1:80", "web:0"]
        |            ^^^^^^^^^^^
      help: write "127.0.0.1:8000:8000"; for every address of the host, past its firewall, "0.0.0.0:8000:8000"
    landfall.toml:8:25: "127.0.0.1" is not an address
      8 | publish = ["8000:8000", "127.0.0.1:80", "web:0"]
        |                         ^^^^^^^^^^^^^^
      help: write "host:port"
    landfall.toml:8:41: "web:0" does not say which port of the container is published where
      8 | publish = ["8000:8000", "127.0.0.1:80", "web:0"]
        |                                         ^^^^^^^
      help: write "127.0.0.1:8000:8000": address and port on the host, port in the container
    landfall.toml:13:1: [[service]] has both `image` and `image_file`
      13 | image_file = "web.tar"
         | ^^^^^^^^^^
      help: keep one of them
    landfall.toml:17:9: "sha256:abc" is not a digest
      17 | image = "nginx@sha256:abc"
         |         ^^^^^^^^^^^^^^^^^^
      help: write `sha256:` and 64 digits of 0-9 and a-f
    landfall.toml:18:1: two volumes are mounted at "/d"
      18 | volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
         | ^^^^^^^
    landfall.toml:18:12: "/data" is not a volume
      18 | volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
         |            ^^^^^^^
      help: write "{shared}/media:/app/media", or "name:/data" for a volume of Docker's; `:ro` behind it for one that is not written to
    landfall.toml:18:21: "{release}" is part of a release, which nothing may change once it is there
      18 | volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
         |                     ^^^^^^^^^^^^^^^^
      help: add `:ro`, or mount something of `{shared}`
    landfall.toml:18:39: `{current}` may name another release than the one that the container runs
      18 | volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
         |                                       ^^^^^^^^^^^^^^^^^^^
      help: write `{release}`
    landfall.toml:18:60: "a b" is neither an absolute path nor the name of a volume
      18 | volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
         |                                                            ^^^^^^^^
      help: write "{shared}/media:/app/media", or "name:/data" for a volume of Docker's; `:ro` behind it for one that is not written to
    landfall.toml:18:70: "data" is not a place in a container
      18 | volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
         |                                                                      ^^^^^^^^
      help: write an absolute path, such as "/data"
    landfall.toml:18:80: "/a/../b" is not a place in a container
      18 | volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
         |                                                                                ^^^^^^^^^^^
      help: write an absolute path, such as "/data"
    landfall.toml:22:14: "../web.tar" is not the path of a file in the release
      22 | image_file = "../web.tar"
         |              ^^^^^^^^^^^^
      help: write it relative to the root of the release, such as `image_file = "images/web.tar"`
    landfall.toml:23:11: "container:other" is not the name of a network
      23 | network = "container:other"
         |           ^^^^^^^^^^^^^^^^^
      help: letters, digits, '_', '-' and '.'; the network of another container cannot be shared
    landfall.toml:24:10: `memory`: "512m" is not a size
      24 | memory = "512m"
         |          ^^^^^^
      help: write a whole number with its unit, such as "512MiB" or "2GiB"
    landfall.toml:25:8: `cpus`: "1.2345" is not a number of cores
      25 | cpus = "1.2345"
         |        ^^^^^^^^
      help: write "2" or "0.5"
    landfall.toml:26:14: `log_driver` is "jurnald"
      26 | log_driver = "jurnald"
         |              ^^^^^^^^^
      help: did you mean "journald"?
    landfall.toml:27:8: "a:b:c" is not a user
      27 | user = "a:b:c"
         |        ^^^^^^^
      help: write "user", "user:group" or "1000:1000"
    landfall.toml:33:1: `publish` has no meaning with `network = "host"`: the container listens on the host itself
      33 | publish = ["127.0.0.1:80:80"]
         | ^^^^^^^
      help: remove `publish`
    landfall.toml:34:10: `memory` is 1MiB: Docker gives no container less than 6MiB
      34 | memory = "1MiB"
         |          ^^^^^^
    landfall.toml:35:8: `cpus` must be a string, not an integer
      35 | cpus = 2
         |        ^
      help: write `cpus = "2"`
    landfall.toml:36:1: `listen` is for services with driver "process" only
      36 | listen = "127.0.0.1:80"
         | ^^^^^^
      help: remove `listen`
    landfall.toml:37:1: [[service]] needs one of `image`, `image_file`
      37 | [[service]]
         | ^^^^^^^^^^^
    "#);
    let web = "[[service]]\nname = \"web\"\ndriver = \"docker\"\nimage_file = \"web.tar\"\n";
    let slots = "slots = { service = \"web\", blue = \"unix:/run/b\", green = \"127.0.0.1:{b}\" }\n";
    insta::assert_snapshot!(wrong(&format!("{web}[traffic]\nproxy = \"nginx\"\n{slots}")), @r#"
    landfall.toml:9:21: service "web" does not publish a port where its slot is
      9 | slots = { service = "web", blue = "unix:/run/b", green = "127.0.0.1:{b}" }
        |                     ^^^^^
      help: write `publish = ["{address}:8000"]` there: the slot's address, the container's port
    landfall.toml:9:21: a container needs `warm_up`: Docker accepts connections for it before it listens itself
      9 | slots = { service = "web", blue = "unix:/run/b", green = "127.0.0.1:{b}" }
        |                     ^^^^^
      help: add `warm_up = ["/healthz"]`, a path that it answers once it is ready
    landfall.toml:9:35: a port of a container cannot be published on a path
      9 | slots = { service = "web", blue = "unix:/run/b", green = "127.0.0.1:{b}" }
        |                                   ^^^^^^^^^^^^^
      help: write "127.0.0.1:8001"
    "#);
}
