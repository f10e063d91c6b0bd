use super::*;
use crate::config::Context;
use crate::output::Format;

const BROKEN: &str = "[application\nname = shop";
const SHOP: &str = "[application]\nname = \"shop\"\n[environment.production]\n[environment.staging]\n";

/// A session in a directory with this definition.
fn session(home: &tempfile::TempDir, definition: &str, app: Option<&str>) -> Session {
    std::fs::write(home.path().join("landfall.toml"), definition).unwrap();
    let places = Places { config: home.path().join("config"), cache: home.path().join("cache") };
    let mut config = Config { current: Some("work".into()), ..Config::default() };
    config.contexts.insert("work".into(), Context::new("127.0.0.1:1".into()));
    let app = app.map(|name| AppName::new(name).unwrap());
    let global = Global { context: None, app, output: Format::Table };
    Session { directory: home.path().to_owned(), places, config, global, output: Output::plain() }
}

fn env(name: &str) -> EnvName {
    EnvName::new(name).unwrap()
}

#[test]
fn whoever_names_application_and_environment_needs_no_definition() {
    let home = tempfile::tempdir().unwrap();
    let session = session(&home, BROKEN, Some("shop"));
    assert_eq!(session.known_application().unwrap().unwrap().as_str(), "shop");
    assert_eq!(session.local_environment(Some(&env("production"))).unwrap(), env("production"));
    let error = session.local_environment(None).unwrap_err();
    let next = error.next().unwrap();
    assert!(next.contains("--app NAME") && next.contains("--env NAME"), "{next}");
    assert!(!next.contains("tag"), "{next}");
}

#[test]
fn a_definition_that_is_not_valid_is_refused_where_it_is_needed() {
    let home = tempfile::tempdir().unwrap();
    let error = session(&home, BROKEN, None).known_application().unwrap_err();
    assert!(matches!(error, Error::Definition { .. }), "{error:?}");
    assert!(error.next().unwrap().contains("--app NAME"));
}

#[test]
fn the_environments_of_another_application_are_not_taken_for_those_of_this_one() {
    let home = tempfile::tempdir().unwrap();
    let only = "[application]\nname = \"shop\"\n[environment.staging]\n";
    assert_eq!(session(&home, only, None).local_environment(None).unwrap(), env("staging"));
    let other = session(&home, only, Some("blog"));
    assert_eq!(other.local_environment(None).unwrap(), env("production"));
    assert_eq!(other.defined_environments(&AppName::new("blog").unwrap()), None);
    let shop = session(&home, SHOP, None).defined_environments(&AppName::new("shop").unwrap());
    assert_eq!(shop.unwrap(), [env("production"), env("staging")]);
}
