use std::path::{Path, PathBuf};

use super::*;

mod older;
mod refused;

fn fixture(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(kind)
}

/// What a fixture becomes.
fn imported(kind: Kind, file: &str) -> Imported {
    let checkout = Checkout::new(&fixture(kind.word()));
    let text = checkout.read(file).unwrap_or_else(|| panic!("there is no {file}"));
    assert_eq!(Kind::of(file, &text), Some(kind), "{file}");
    import(kind, &Source { name: file, text: &text }, &checkout, None).unwrap()
}

/// The definition and the report of a fixture, as they are read by people.
fn shown(kind: Kind, file: &str) -> String {
    let made = imported(kind, file);
    let report = report::text(file, kind, Some(Path::new(FILE_NAME)), &made);
    assert_page_shows(kind, &report);
    format!("{}\n---\n{report}\n", made.definition)
}

/// What a page below `docs/from` shows of `ctl import` is what it says.
fn assert_page_shows(kind: Kind, report: &str) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(kind.page());
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains(report), "{} does not show this report:\n\n{report}\n", kind.page());
}

#[test]
fn an_appspec_becomes_what_its_page_says() {
    insta::with_settings!({ snapshot_path => "../../tests/import/snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("codedeploy", shown(Kind::Codedeploy, "appspec.yml"));
    });
}

#[test]
fn a_deploy_yml_becomes_what_its_page_says() {
    insta::with_settings!({ snapshot_path => "../../tests/import/snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("kamal", shown(Kind::Kamal, "config/deploy.yml"));
    });
}

#[test]
fn a_deploy_rb_becomes_what_its_page_says() {
    insta::with_settings!({ snapshot_path => "../../tests/import/snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("capistrano", shown(Kind::Capistrano, "config/deploy.rb"));
    });
}

#[test]
fn a_fabfile_becomes_what_its_page_says() {
    insta::with_settings!({ snapshot_path => "../../tests/import/snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("fabric", shown(Kind::Fabric, "fabfile.py"));
    });
}

/// What each fixture is made of, for what is made of damaged ones.
const FIXTURES: [(Kind, &str); 4] = [
    (Kind::Capistrano, "config/deploy.rb"),
    (Kind::Codedeploy, "appspec.yml"),
    (Kind::Fabric, "fabfile.py"),
    (Kind::Kamal, "config/deploy.yml"),
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    /// Lines that are gone, that are there twice, and values that nobody expects.
    #[test]
    fn a_damaged_file_is_refused_or_becomes_a_valid_definition(
        which in 0..FIXTURES.len(),
        damage in proptest::collection::vec((0..4_u8, 0..1000_usize, 0..NASTY.len()), 1..6),
    ) {
        let (kind, file) = FIXTURES[which];
        let checkout = Checkout::new(&fixture(kind.word()));
        let mut lines: Vec<String> =
            checkout.read(file).unwrap().lines().map(str::to_owned).collect();
        for (how, at, nasty) in damage {
            if lines.is_empty() {
                break;
            }
            let at = at % lines.len();
            match how {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[(at * 7 + 3) % lines.len()].clone()),
                2 => {
                    let end = lines[at].find([':', '"', '-', '(']).map_or(0, |found| found + 1);
                    lines[at] = format!("{} {}", &lines[at][..end], NASTY[nasty]);
                }
                _ => lines[at] = lines[at].replace(['s', 'w', '/'], NASTY[nasty]),
            }
        }
        let text = lines.join("\n");
        let name = AppName::new("site").unwrap();
        match import(kind, &Source { name: file, text: &text }, &checkout, Some(&name)) {
            Ok(_) | Err(Error::Import { .. }) => {}
            Err(error) => panic!("{}\n{text}", crate::output::error_text(&error, false)),
        }
    }
}

/// Values that nobody expects.
const NASTY: [&str; 16] = [
    "",
    "{release}",
    "'{relase} {{x}} ${y}'",
    "\"a\\nb\\e[2J\\\"\"",
    "-1",
    "99999999999999999999",
    "[a, [b], {c: d}]",
    "{a: b}",
    "~",
    "'../../etc/passwd'",
    "'/'",
    "'a:b:c:d'",
    "\u{1F600} \u{202E}",
    "<%= x %>",
    "<% y %>",
    "'x' \"y\" \\",
];

#[test]
fn a_name_that_is_given_needs_no_decision() {
    let checkout = Checkout::new(&fixture("codedeploy"));
    let text = checkout.read("appspec.yml").unwrap();
    let name = AppName::new("shop").unwrap();
    let made = import(Kind::Codedeploy, &Source { name: "appspec.yml", text: &text }, &checkout, Some(&name));
    let made = made.unwrap();
    assert!(made.definition.contains("[application]\nname = \"shop\"\n"), "{}", made.definition);
    assert!(made.account.open.iter().all(|open| open.key != "[application] name"));
}

#[test]
fn a_script_outside_of_the_repository_is_not_read() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("site")).unwrap();
    std::fs::write(home.path().join("outside.sh"), "systemctl restart outside\n").unwrap();
    std::os::unix::fs::symlink("../outside.sh", home.path().join("site/link.sh")).unwrap();
    let checkout = Checkout::new(&home.path().join("site"));
    for location in ["../outside.sh", "link.sh", "/etc/passwd"] {
        let text =
            format!("version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: {location}\n");
        let source = Source { name: "appspec.yml", text: &text };
        let made = import(Kind::Codedeploy, &source, &checkout, None).unwrap();
        assert!(!made.definition.contains("driver = \"systemd\""), "{}", made.definition);
        assert!(
            made.account.open.iter().any(|open| open.what.contains("was not found")),
            "{:?}",
            made.account
        );
    }
}
