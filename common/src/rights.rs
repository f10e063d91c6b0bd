//! What operators may do, and where: roles, each for everything, for one application, or for one environment of it.
//!
//! Their text is what certificates, tokens and the command line carry: `viewer,deployer:shop/staging`. A program that
//! does not know a word of it refuses all of it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::InvalidName;
use crate::{AppName, EnvName};

/// Certificates are shown at each connection, and stay small.
pub const MOST_RIGHTS: usize = 32;

/// What an operator may do; each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Opens and closes the gates that a rollout waits at, hands in evidence, and nothing else: an integration.
    Gatekeeper,
    /// Says yes or no to what others want to roll out.
    Approver,
    /// Publishes and rolls out releases.
    Deployer,
    /// Lets a rollout begin that windows, freezes, other environments or a lack of evidence would hold.
    Manager,
    /// Enrols, removes, and changes the trust root.
    Admin,
}

impl Role {
    /// From the lowest to the highest.
    pub const ALL: [Self; 6] =
        [Self::Viewer, Self::Gatekeeper, Self::Approver, Self::Deployer, Self::Manager, Self::Admin];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Gatekeeper => "gatekeeper",
            Self::Approver => "approver",
            Self::Deployer => "deployer",
            Self::Manager => "manager",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = InvalidRights;
    fn from_str(text: &str) -> Result<Self, InvalidRights> {
        let named = Self::ALL.into_iter().find(|role| role.as_str() == text);
        named.ok_or_else(|| InvalidRights::Role(text.to_owned()))
    }
}

/// Where a role holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// In all that the controller has, and for the controller itself.
    Everything,
    /// In every environment of an application, also in those to come.
    Application(AppName),
    /// In one environment of it.
    Environment(AppName, EnvName),
}

impl Scope {
    /// Whether all of `other` lies within it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everything, _) => true,
            (Self::Application(own), Self::Application(of) | Self::Environment(of, _)) => own == of,
            (Self::Environment(..), Self::Environment(..)) => self == other,
            (Self::Application(_), Self::Everything)
            | (Self::Environment(..), Self::Everything | Self::Application(_)) => false,
        }
    }

    /// Whether the two have an environment in common.
    #[must_use]
    pub fn touches(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

/// As the second half of a sentence: `shop in staging`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Application(application) => write!(f, "{application}"),
            Self::Environment(application, environment) => write!(f, "{application} in {environment}"),
        }
    }
}

/// A role, and where it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// What.
    pub role: Role,
    /// Where.
    pub scope: Scope,
}

impl Right {
    fn covers(&self, other: &Self) -> bool {
        self.role >= other.role && self.scope.covers(&other.scope)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Scope::Everything => write!(f, "{}", self.role),
            Scope::Application(application) => write!(f, "{}:{application}", self.role),
            Scope::Environment(application, environment) => {
                write!(f, "{}:{application}/{environment}", self.role)
            }
        }
    }
}

impl FromStr for Right {
    type Err = InvalidRights;
    fn from_str(text: &str) -> Result<Self, InvalidRights> {
        let (role, scope) = match text.split_once(':') {
            None => (text, None),
            Some((role, scope)) => (role, Some(scope)),
        };
        let role = role.parse()?;
        let invalid = |source| InvalidRights::Scope { right: text.to_owned(), source };
        let scope = match scope.map(|scope| scope.split_once('/').ok_or(scope)) {
            None => Scope::Everything,
            Some(Err(application)) => Scope::Application(AppName::new(application).map_err(invalid)?),
            Some(Ok((application, environment))) => Scope::Environment(
                AppName::new(application).map_err(invalid)?,
                EnvName::new(environment).map_err(invalid)?,
            ),
        };
        Ok(Self { role, scope })
    }
}

/// All that an operator may do. None of them is within another one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rights(BTreeSet<Right>);

impl Rights {
    /// Those of these that no other one covers.
    ///
    /// # Errors
    /// [`InvalidRights`] for none, or for more than [`MOST_RIGHTS`].
    pub fn new(rights: impl IntoIterator<Item = Right>) -> Result<Self, InvalidRights> {
        let rights = Self::default().and(rights);
        match rights.0.len() {
            0 => Err(InvalidRights::None),
            count if count > MOST_RIGHTS => Err(InvalidRights::TooMany(count)),
            _ => Ok(rights),
        }
    }

    /// One role for everything.
    #[must_use]
    pub fn everywhere(role: Role) -> Self {
        Self(BTreeSet::from([Right { role, scope: Scope::Everything }]))
    }

    /// These and more.
    #[must_use]
    pub fn and(&self, more: impl IntoIterator<Item = Right>) -> Self {
        let all: BTreeSet<Right> = self.0.iter().cloned().chain(more).collect();
        let covered = |right: &&Right| !all.iter().any(|other| other != *right && other.covers(right));
        Self(all.iter().filter(covered).cloned().collect())
    }

    /// The role, if it is one, and for everything.
    #[must_use]
    pub fn single(&self) -> Option<Role> {
        let mut all = self.0.iter();
        match (all.next(), all.next()) {
            (Some(Right { role, scope: Scope::Everything }), None) => Some(*role),
            _ => None,
        }
    }

    /// The same roles, each for everything.
    #[must_use]
    pub fn unscoped(&self) -> Self {
        Self::default().and(self.0.iter().map(|right| Right { role: right.role, scope: Scope::Everything }))
    }

    /// Whether they have this role, or a higher one, in all of this.
    #[must_use]
    pub fn have(&self, role: Role, scope: &Scope) -> bool {
        self.0.iter().any(|own| own.role >= role && own.scope.covers(scope))
    }

    /// Whether they have this role, or a higher one, in some of this: in one environment of an application, say.
    #[must_use]
    pub fn have_some(&self, role: Role, scope: &Scope) -> bool {
        self.0.iter().any(|own| own.role >= role && own.scope.touches(scope))
    }

    /// Whether an environment may be looked at.
    #[must_use]
    pub fn see(&self, application: &AppName, environment: &EnvName) -> bool {
        self.have(Role::Viewer, &Scope::Environment(application.clone(), environment.clone()))
    }

    /// Whether an environment of this application may be looked at.
    #[must_use]
    pub fn see_some_of(&self, application: &AppName) -> bool {
        self.have_some(Role::Viewer, &Scope::Application(application.clone()))
    }

    /// Whether all may be looked at.
    #[must_use]
    pub fn see_everything(&self) -> bool {
        self.have(Role::Viewer, &Scope::Everything)
    }

    /// Where they hold: `shop in staging, blog`.
    #[must_use]
    pub fn places(&self) -> String {
        let places: BTreeSet<String> = self.0.iter().map(|right| right.scope.to_string()).collect();
        places.into_iter().collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, right) in self.0.iter().enumerate() {
            write!(f, "{}{right}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for Rights {
    type Err = InvalidRights;
    fn from_str(text: &str) -> Result<Self, InvalidRights> {
        if text.is_empty() {
            return Err(InvalidRights::None);
        }
        Self::new(text.split(',').map(Right::from_str).collect::<Result<Vec<_>, _>>()?)
    }
}

impl TryFrom<String> for Rights {
    type Error = InvalidRights;
    fn try_from(text: String) -> Result<Self, InvalidRights> {
        text.parse()
    }
}

impl From<Rights> for String {
    fn from(rights: Rights) -> Self {
        rights.to_string()
    }
}

/// Why a text does not say what an operator may do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRights {
    /// A role that does not exist.
    #[error("{0:?} is not a role; there are viewer, gatekeeper, approver, deployer, manager and admin")]
    Role(String),
    /// Where it holds cannot be a name.
    #[error(
        "{right:?} does not say where it holds ({source}); write deployer, deployer:APP or deployer:APP/ENV"
    )]
    Scope {
        /// The whole word.
        right: String,
        /// Which name, and why.
        source: InvalidName,
    },
    /// Nothing at all.
    #[error("a role is missing; there are viewer, gatekeeper, approver, deployer, manager and admin")]
    None,
    /// More than a certificate has room for.
    #[error(
        "{0} roles are more than the {MOST_RIGHTS} that one operator may have; deployer:APP holds in every \
         environment of it"
    )]
    TooMany(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rights(text: &str) -> Rights {
        text.parse().unwrap()
    }

    fn scope(text: &str) -> Scope {
        if text.is_empty() {
            Scope::Everything
        } else {
            format!("viewer:{text}").parse::<Right>().unwrap().scope
        }
    }

    #[test]
    fn a_text_reads_back_without_what_goes_without_saying() {
        for (text, written) in [
            ("admin", "admin"),
            ("deployer:shop/staging", "deployer:shop/staging"),
            ("deployer:shop/staging,viewer", "viewer,deployer:shop/staging"),
            ("viewer,deployer:shop/staging,deployer:shop/staging", "viewer,deployer:shop/staging"),
            ("admin,deployer:shop", "admin"),
            ("viewer:shop/staging,deployer:shop", "deployer:shop"),
            ("approver:shop,deployer:shop/staging", "approver:shop,deployer:shop/staging"),
        ] {
            let read = rights(text);
            assert_eq!(read.to_string(), written, "{text}");
            assert_eq!(rights(written), read, "{text}");
            assert_eq!(serde_json::to_string(&read).unwrap(), format!("{written:?}"));
            assert_eq!(serde_json::from_str::<Rights>(&format!("{text:?}")).unwrap(), read);
        }
    }

    #[test]
    fn a_text_that_is_not_wholly_understood_is_refused() {
        for (text, why) in [
            ("", "a role is missing"),
            (",", "\"\" is not a role"),
            ("root", "\"root\" is not a role"),
            ("Admin", "\"Admin\" is not a role"),
            ("viewer,", "\"\" is not a role"),
            ("viewer, deployer", "\" deployer\" is not a role"),
            ("deployer:", "does not say where"),
            ("deployer:*", "does not say where"),
            ("deployer:/staging", "does not say where"),
            ("deployer:shop/", "does not say where"),
            ("deployer:shop/staging/eu", "does not say where"),
            ("deployer:shop:staging", "does not say where"),
            (":shop", "\"\" is not a role"),
        ] {
            let refused = text.parse::<Rights>().unwrap_err().to_string();
            assert!(refused.contains(why), "{text:?}: {refused}");
        }
        let many: Vec<String> = (0..=MOST_RIGHTS).map(|index| format!("viewer:a{index}")).collect();
        assert_eq!(many.join(",").parse::<Rights>(), Err(InvalidRights::TooMany(MOST_RIGHTS + 1)));
    }

    #[test]
    fn a_role_holds_where_it_was_given() {
        for (has, role, place, all, some) in [
            ("deployer", Role::Deployer, "", true, true),
            ("deployer", Role::Manager, "shop/staging", false, false),
            ("deployer:shop", Role::Deployer, "", false, true),
            ("deployer:shop", Role::Deployer, "shop", true, true),
            ("deployer:shop", Role::Viewer, "shop/staging", true, true),
            ("deployer:shop", Role::Viewer, "blog/staging", false, false),
            ("deployer:shop/staging", Role::Deployer, "shop", false, true),
            ("deployer:shop/staging", Role::Deployer, "shop/production", false, false),
            ("viewer,deployer:shop/staging", Role::Viewer, "shop/production", true, true),
            ("viewer,deployer:shop/staging", Role::Deployer, "shop/production", false, false),
            ("viewer,deployer:shop/staging", Role::Approver, "shop/staging", true, true),
        ] {
            let (has, place) = (rights(has), scope(place));
            assert_eq!(has.have(role, &place), all, "{has}: all of {place} as {role}");
            assert_eq!(has.have_some(role, &place), some, "{has}: some of {place} as {role}");
        }
        assert!(!Rights::default().have_some(Role::Viewer, &Scope::Everything));
    }

    fn any_scope() -> impl Strategy<Value = Scope> {
        let application =
            prop_oneof![Just("shop"), Just("blog")].prop_map(|name| AppName::new(name).unwrap());
        let environment =
            prop_oneof![Just("staging"), Just("production")].prop_map(|name| EnvName::new(name).unwrap());
        prop_oneof![
            Just(Scope::Everything),
            application.clone().prop_map(Scope::Application),
            (application, environment)
                .prop_map(|(application, environment)| Scope::Environment(application, environment)),
        ]
    }

    fn any_right() -> impl Strategy<Value = Right> {
        (proptest::sample::select(&Role::ALL[..]), any_scope())
            .prop_map(|(role, scope)| Right { role, scope })
    }

    proptest! {
        #[test]
        fn a_scope_never_allows_more_than_the_same_role_without(
            rights in proptest::collection::vec(any_right(), 1..6),
            asked in any_right(),
        ) {
            let scoped = Rights::new(rights).unwrap();
            let unscoped = scoped.unscoped();
            prop_assert!(!scoped.have(asked.role, &asked.scope) || unscoped.have(asked.role, &asked.scope));
            prop_assert!(!scoped.have_some(asked.role, &asked.scope) || unscoped.have_some(asked.role, &asked.scope));
        }

        #[test]
        fn what_goes_without_saying_allows_nothing_more_and_nothing_less(
            rights in proptest::collection::vec(any_right(), 1..6),
            asked in any_right(),
        ) {
            let kept = Rights::new(rights.clone()).unwrap();
            let plain = rights.iter().any(|right| right.covers(&asked));
            prop_assert_eq!(kept.have(asked.role, &asked.scope), plain);
            let written: Rights = kept.to_string().parse().unwrap();
            prop_assert_eq!(written, kept);
        }

        #[test]
        fn who_has_all_of_it_has_some_and_a_higher_role_has_no_less(
            rights in proptest::collection::vec(any_right(), 1..6),
            asked in any_right(),
        ) {
            let rights = Rights::new(rights).unwrap();
            prop_assert!(!rights.have(asked.role, &asked.scope) || rights.have_some(asked.role, &asked.scope));
            for lower in Role::ALL.into_iter().filter(|role| *role <= asked.role) {
                prop_assert!(!rights.have(asked.role, &asked.scope) || rights.have(lower, &asked.scope));
            }
        }
    }
}
