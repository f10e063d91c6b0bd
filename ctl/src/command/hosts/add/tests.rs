use super::outcome::SHOWN_LINES;
use super::*;
use landfall_common::HostId;

fn target() -> Target {
    Target { name: HostId::new("web-1").unwrap(), destination: "root@web-1".into() }
}

#[test]
fn a_failure_says_which_host_which_step_what_it_said_and_what_to_type() {
    let err = "\u{7}join: refused lft1_secret\n\nroot@web-1: Permission denied (publickey).\r\n";
    let said = Said { ended: Ended::Unconnected, out: String::new(), err: err.into() };
    let next = unreached(&target(), &said.err);
    let failure = Failure::new("login", "ssh does not get there".into(), &said, &["lft1_secret"], next);
    insta::assert_snapshot!(failure.text(&Output::plain(), &target()), @r"
    web-1: login failed: ssh does not get there
      | join: refused TOKEN
      | root@web-1: Permission denied (publickey).
      next: let it know your key: ssh-copy-id root@web-1; or give ssh another one: --ssh-option IdentityFile=PATH; then the same command again
    ");
    assert!(unreached(&target(), "Host key verification failed.").contains("StrictHostKeyChecking"));
    assert!(unreached(&target(), "No route to host").starts_with("ssh root@web-1 true"));
}

#[test]
fn only_the_end_of_what_a_host_said_is_shown() {
    let out = (0..40).map(|n| format!("line {n}\n")).collect();
    let said = Said { ended: Ended::With(1), out, err: "the reason".into() };
    let failure = Failure::new("install", String::new(), &said, &[], String::new());
    assert_eq!(failure.said.len(), SHOWN_LINES);
    assert_eq!(failure.said.last().unwrap(), "the reason");
}

#[test]
fn hosts_are_told_an_address_that_leads_them_to_the_controller() {
    for address in ["deploy.example.org:7443", "10.0.0.1:7443", "[2001:db8::1]:7443"] {
        assert_eq!(controller(address).unwrap(), address);
    }
    for (address, told) in [
        ("127.0.0.1:7443", "each host itself"),
        ("localhost:7443", "each host itself"),
        ("[::1]:7443", "each host itself"),
        ("deploy", "HOST:PORT"),
        ("deploy:https", "HOST:PORT"),
        ("a'b:1", "HOST:PORT"),
    ] {
        let error = controller(address).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[test]
fn what_is_no_package_is_refused_before_anything_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    assert!(artifact(Kind::Package, &path("a.deb", b"!<arch>\ndebian-binary")).is_ok());
    let error = artifact(Kind::Package, &path("b.deb", b"\x1f\x8b")).err().unwrap();
    assert!(error.to_string().ends_with("b.deb is no Debian package"), "{error}");
    assert!(artifact(Kind::Tarball, &path("c.tar.gz", b"!<arch>\n")).is_err());
    assert!(artifact(Kind::Tarball, &directory.path().join("none")).is_err());
}
