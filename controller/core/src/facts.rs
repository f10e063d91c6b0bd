//! In which facts the hosts of one application differ: inside of an environment, and between its environments.
//!
//! Hosts say kernel, distribution, libc, Python and the like when they connect; nobody decides by them. A release that
//! works in staging and not in production, or on three hosts and not on the fourth, often differs in one of them.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::{AppName, EnvName, HostId};

use crate::record::Place;

/// What one host says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Which.
    pub host: HostId,
    /// Where it belongs.
    pub place: Place,
    /// Its facts by their names.
    pub facts: BTreeMap<String, String>,
}

/// A fact in which hosts differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The application.
    pub application: AppName,
    /// The fact's name.
    pub fact: String,
    /// The environments inside of which hosts differ.
    pub inside: Vec<EnvName>,
    /// Whether environments differ from each other: not the same set of values in each.
    pub between: bool,
    /// Which hosts have which value, by environment; the empty value for those that do not tell.
    pub values: BTreeMap<EnvName, BTreeMap<String, Vec<HostId>>>,
}

/// The facts in which hosts of the same application differ, by application and name. Hosts without any facts have not
/// connected since the controller started, and count for nothing.
#[must_use]
pub fn differences(hosts: &[HostFacts]) -> Vec<Difference> {
    let mut by_application: BTreeMap<&AppName, Vec<&HostFacts>> = BTreeMap::new();
    for host in hosts.iter().filter(|host| !host.facts.is_empty()) {
        by_application.entry(&host.place.application).or_default().push(host);
    }
    let mut found = Vec::new();
    for (application, hosts) in by_application {
        let names: BTreeSet<&String> = hosts.iter().flat_map(|host| host.facts.keys()).collect();
        for fact in names {
            let mut values: BTreeMap<EnvName, BTreeMap<String, Vec<HostId>>> = BTreeMap::new();
            for host in &hosts {
                let value = host.facts.get(fact).cloned().unwrap_or_default();
                let here = values.entry(host.place.environment.clone()).or_default();
                here.entry(value).or_default().push(host.host.clone());
            }
            values.values_mut().flat_map(BTreeMap::values_mut).for_each(|hosts| hosts.sort());
            let several = values.iter().filter(|(_, values)| values.len() > 1);
            let inside: Vec<EnvName> = several.map(|(environment, _)| environment.clone()).collect();
            let sets: BTreeSet<Vec<&String>> =
                values.values().map(|values| values.keys().collect()).collect();
            let between = sets.len() > 1;
            if between || !inside.is_empty() {
                let (application, fact) = (application.clone(), fact.clone());
                found.push(Difference { application, fact, inside, between, values });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, environment: &str, facts: &[(&str, &str)]) -> HostFacts {
        HostFacts {
            host: name.parse().unwrap(),
            place: Place { application: "shop".parse().unwrap(), environment: environment.parse().unwrap() },
            facts: facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn hosts_of_one_environment_and_environments_of_one_application_are_compared() {
        let found = differences(&[
            host("web-1", "production", &[("kernel", "6.1.0-28"), ("python", "3.11.2"), ("arch", "x86_64")]),
            host("web-2", "production", &[("kernel", "6.1.0-25"), ("python", "3.11.2"), ("arch", "x86_64")]),
            host("stage-1", "staging", &[("kernel", "6.1.0-28"), ("python", "3.12.1"), ("arch", "x86_64")]),
            // It has not connected: nothing is known.
            host("web-3", "production", &[]),
        ]);
        let told: Vec<_> = found.iter().map(|d| (d.fact.as_str(), d.inside.len(), d.between)).collect();
        assert_eq!(told, [("kernel", 1, true), ("python", 0, true)]);
        let production: EnvName = "production".parse().unwrap();
        assert_eq!(found[0].values[&production]["6.1.0-25"], ["web-2".parse().unwrap()]);
    }

    #[test]
    fn each_fact_that_a_host_tells_is_compared_inside_of_a_group_and_between_groups() {
        let all = ["kernel", "distribution", "libc", "python", "disk"];
        for differing in all {
            let told = |other: &'static str| {
                all.map(move |fact| (fact, if fact == differing { other } else { "same" }))
            };
            for (second, inside, between) in [("production", 1, false), ("staging", 0, true)] {
                let found = differences(&[
                    host("web-1", "production", &told("one")),
                    host("web-2", second, &told("another")),
                ]);
                let found: Vec<_> =
                    found.iter().map(|d| (d.fact.as_str(), d.inside.len(), d.between)).collect();
                assert_eq!(found, [(differing, inside, between)]);
            }
        }
    }

    #[test]
    fn a_fact_that_some_hosts_do_not_tell_is_a_difference_and_other_applications_are_none() {
        let mut other = host("db-1", "production", &[("kernel", "5.10")]);
        other.place.application = "blog".parse().unwrap();
        let found = differences(&[
            host("web-1", "production", &[("kernel", "6.1"), ("python", "3.11.2")]),
            host("web-2", "production", &[("kernel", "6.1")]),
            other,
        ]);
        assert_eq!(found.len(), 1);
        assert!(found[0].fact == "python" && !found[0].between);
        assert!(found[0].values.values().next().unwrap().contains_key(""));
    }
}
