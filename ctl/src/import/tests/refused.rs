//! Files that cannot be imported: each gets a sentence, and nothing is written.

use super::super::*;

/// The error for a text, as a person reads it.
fn refused(kind: Kind, text: &str) -> String {
    let empty = tempfile::tempdir().unwrap();
    let source = Source { name: "the.file", text };
    let error = import(kind, &source, &Checkout::new(empty.path()), None).unwrap_err();
    assert_eq!(error.exit() as u8, 2, "{error:?}");
    assert!(error.next().is_some(), "{error:?}");
    crate::output::error_text(&error, false)
}

fn bomb() -> String {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let before = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(", ")));
    }
    text
}

#[test]
fn what_is_no_yaml_or_too_much_of_it_is_refused_with_its_place() {
    for (text, expected) in [
        ("hooks: [a\nfiles: {", "the.file:2:"),
        ("a: b: c", "this is not YAML"),
        ("\u{1}\u{2}\u{3}", "this file has neither"),
        ("# nothing\n", "nothing but comments"),
        ("hooks: {}\nfiles: []\nhooks: {}\n", "\"hooks\" is there twice, first in line 1"),
        ("? [a]\n: b\n", "a key is no plain text"),
        ("a: &a [*a]\n", "an alias stands inside of what it names"),
        ("a: 1\n---\nb: 2\n", "a second document"),
        (&bomb(), "more than 20000 values"),
        (&"[".repeat(100_000), "recursion limit exceeded"),
        (&format!("a: {}", "{b: ".repeat(100)), "nested more than 64 deep"),
    ] {
        let error = refused(Kind::Codedeploy, text);
        assert!(error.contains(expected), "{expected:?} is not in:\n{error}");
        assert!(error.len() < 1000, "{} bytes are too many to read", error.len());
    }
}

#[test]
fn an_appspec_that_is_not_one_for_linux_servers_is_refused() {
    for (text, expected) in [
        ("version: 0.0\nResources:\n  - a: b\n", "Amazon ECS or Lambda"),
        ("version: 0.0\nos: windows\nhooks: {}\n", "to Windows"),
        ("service: site\nimage: team/site\n", "has `files` or `hooks`"),
        ("def deploy():\n    run('x')\n", "has `files` or `hooks`"),
        ("just a text\n", "has `files` or `hooks`"),
        ("- a\n- b\n", "has `files` or `hooks`"),
    ] {
        let error = refused(Kind::Codedeploy, text);
        assert!(error.contains(expected), "{expected:?} is not in:\n{error}");
        assert!(error.len() < 1000, "{} bytes are too many to read", error.len());
    }
}

#[test]
fn a_deploy_yml_that_is_not_kamals_is_refused() {
    for (text, expected) in [
        ("on: push\njobs: {}\n", "Kamal's file has `service`"),
        ("service: [a]\nimage: b\n", "Kamal's file has `service`"),
        ("service: a\nservice: b\nimage: c\n", "\"service\" is there twice, first in line 1"),
        (
            "<% if x %>\nservice: a\n<% else %>\nservice: b\n<% end %>\n",
            "the.file:4:1: \"service\" is there twice",
        ),
        ("set :application, 'site'\n", "Kamal's file has `service`"),
    ] {
        let error = refused(Kind::Kamal, text);
        assert!(error.contains(expected), "{expected:?} is not in:\n{error}");
        assert!(error.len() < 1000, "{} bytes are too many to read", error.len());
    }
}

#[test]
fn scripts_that_are_no_deployments_are_refused() {
    let deep =
        format!("import fabric\ndef deploy():\n    run({}'x'{})\n", "(".repeat(5000), ")".repeat(5000));
    for (kind, text, expected) in [
        (Kind::Fabric, "print('hello')\n", "this is no fabfile.py"),
        (Kind::Fabric, "from fabric import task\n", "this is no fabfile.py"),
        (Kind::Fabric, "set :application, 'site'\n", "this is no fabfile.py"),
        (Kind::Fabric, "\u{1}\u{2}<?php ?>", "this is no fabfile.py"),
        (Kind::Fabric, "((((((((((", "this is no fabfile.py"),
        (Kind::Capistrano, "puts 'hello'\n", "this is no deploy.rb"),
        (Kind::Capistrano, "def deploy():\n    run('x')\n", "this is no deploy.rb"),
        (Kind::Capistrano, "service: site\nimage: x\n", "this is no deploy.rb"),
        (Kind::Capistrano, "\u{1}[[[[[[%w[", "this is no deploy.rb"),
    ] {
        let error = refused(kind, text);
        assert!(error.contains(expected), "{expected:?} is not in:\n{error}");
    }
    // Deeper than it is looked into: the rest is still there.
    let empty = tempfile::tempdir().unwrap();
    let source = Source { name: "fabfile.py", text: &deep };
    import(Kind::Fabric, &source, &Checkout::new(empty.path()), Some(&AppName::new("a").unwrap())).unwrap();
}

#[test]
fn what_is_not_understood_is_told_and_the_rest_is_carried_over() {
    let empty = tempfile::tempdir().unwrap();
    let name = AppName::new("a").unwrap();
    for (kind, text) in [
        (
            Kind::Fabric,
            "from fabric.api import run\nx = = 3\ndef deploy():\n    run('systemctl restart site')\n",
        ),
        (
            Kind::Capistrano,
            "set :application, 'a'\nset :x => => 3\nafter :a, :b do\n execute 'systemctl restart site'\nend\n",
        ),
    ] {
        let source = Source { name: "the.file", text };
        let made = import(kind, &source, &Checkout::new(empty.path()), Some(&name)).unwrap();
        assert!(made.definition.contains("unit = \"site.service\""), "{}", made.definition);
        let told = made.account.left.iter().any(|left| left.what == "a statement" && left.from.line == 2);
        assert!(told, "{:?}", made.account.left);
    }
}

#[test]
fn parts_of_another_shape_than_expected_are_passed_over() {
    let empty = tempfile::tempdir().unwrap();
    for text in [
        "version: 0.0\nos: linux\nfiles: x\nhooks: [a, {b: c}]\npermissions: {a: b}\n",
        "hooks:\n  AfterInstall: x\n  ApplicationStart:\n    - [a]\n    - location: [b]\n    - timeout: x\n",
        "files:\n  - source: {a: b}\n  -\n  - destination: 7\nhooks: ~\n",
        "hooks:\n  ValidateService:\n    - location: 'a \"b\" \\ {c} \u{e9}.sh'\n      timeout: 99999999999999\n",
        "hooks:\n  AfterInstall:\n    - location: \"a\\nb\"\n      runas: \"x\\ny\"\nfiles: []\nodd: \"a\\u001b[2Jb\"\n",
    ] {
        let source = Source { name: "appspec.yml", text };
        let made = import(
            Kind::Codedeploy,
            &source,
            &Checkout::new(empty.path()),
            Some(&AppName::new("a").unwrap()),
        );
        made.unwrap_or_else(|error| panic!("{text}: {}", crate::output::error_text(&error, false)));
    }
}
