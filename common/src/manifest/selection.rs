//! Which services of a release run on a host: those whose `on` agrees with the host's own variables.
//!
//! Everything is signed, for every host alike; a host's administrator chooses among it, by what the agent's
//! configuration says of the host. The controller has no say.

use std::collections::BTreeMap;

use super::{Program, Service};

/// A service asks for a variable that the host does not have. Whether it is to run there is not known, then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "service {service} runs where {variable} is {value:?}, and this host does not say what {variable} is; \
     set it in [variables] of the agent's agent.toml"
)]
pub struct UnsetVariable {
    /// The service.
    pub service: String,
    /// The variable that it asks for.
    pub variable: String,
    /// The value that it asks for.
    pub value: String,
}

impl Program {
    /// The program with the services that run on a host with these variables.
    ///
    /// # Errors
    /// [`UnsetVariable`]. One that has another value is an answer; one that is missing is none.
    pub fn on_host(mut self, variables: &BTreeMap<String, String>) -> Result<Self, UnsetVariable> {
        let mut kept = Vec::new();
        for service in self.services {
            if service.is_on(variables)? {
                kept.push(service);
            }
        }
        self.services = kept;
        Ok(self)
    }
}

impl Service {
    fn is_on(&self, variables: &BTreeMap<String, String>) -> Result<bool, UnsetVariable> {
        let mut is_on = true;
        for (variable, value) in &self.on {
            let Some(own) = variables.get(variable) else {
                let (variable, value) = (variable.clone(), value.clone());
                return Err(UnsetVariable { service: self.name.to_string(), variable, value });
            };
            is_on &= own == value;
        }
        Ok(is_on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Driver;
    use crate::time::Duration;

    fn words(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn service(name: &str, on: &[(&str, &str)]) -> Service {
        let driver = Driver::Process {
            command: vec!["serve".to_owned()],
            environment: BTreeMap::new(),
            listen: None,
            ready: crate::manifest::Ready::Alive { period: Duration::from_secs(1) },
            stop_timeout: Duration::from_secs(1),
            hold: None,
        };
        Service { name: name.parse().unwrap(), driver, on: words(on) }
    }

    #[test]
    fn a_host_runs_the_services_whose_conditions_it_fulfils() {
        let program = Program {
            services: vec![
                service("everywhere", &[]),
                service("units", &[("init", "systemd")]),
                service("programs", &[("init", "supervisor")]),
                service("mail", &[("init", "systemd"), ("role", "mail")]),
            ],
            ..Program::default()
        };
        let on = |variables: &[(&str, &str)]| {
            program.clone().on_host(&words(variables)).map(|program| {
                program.services.iter().map(|service| service.name.to_string()).collect::<Vec<_>>()
            })
        };
        assert_eq!(on(&[("init", "systemd"), ("role", "web")]).unwrap(), ["everywhere", "units"]);
        assert_eq!(on(&[("init", "systemd"), ("role", "mail")]).unwrap(), ["everywhere", "units", "mail"]);
        assert_eq!(on(&[("init", "supervisor"), ("role", "mail")]).unwrap(), ["everywhere", "programs"]);
        // A host that says nothing is not taken for one that says no: it would run nothing, and be well.
        let unset = on(&[("init", "supervisor")]).unwrap_err();
        assert_eq!((unset.service.as_str(), unset.variable.as_str()), ("mail", "role"));
        insta::assert_snapshot!(on(&[]).unwrap_err(), @r#"service units runs where init is "systemd", and this host does not say what init is; set it in [variables] of the agent's agent.toml"#);
    }

    #[test]
    fn a_service_for_every_host_is_written_as_it_always_was() {
        let text = serde_json::to_string(&service("web", &[])).unwrap();
        assert!(!text.contains("\"on\""), "{text}");
        let only = service("web", &[("init", "systemd")]);
        let text = serde_json::to_string(&only).unwrap();
        assert_eq!(serde_json::from_str::<Service>(&text).unwrap(), only);
    }
}
