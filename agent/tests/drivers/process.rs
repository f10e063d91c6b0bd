//! The driver `process` on the stage.

use std::time::Duration;

use landfall_common::manifest::{Driver, Ready, Service};

use crate::stage::{Stage, Traits};
use crate::suite::{laws, tests_of_all_laws};
use crate::world::site::{SERVICE, Site};

pub fn service() -> Service {
    Service {
        name: SERVICE.parse().unwrap(),
        on: Default::default(),
        driver: Driver::Process {
            command: ["sh", "{release}/run"].map(str::to_owned).to_vec(),
            environment: Default::default(),
            listen: None,
            ready: Ready::Alive { period: Duration::from_millis(300) },
            stop_timeout: Duration::from_secs(5),
        },
    }
}

async fn stage() -> Stage {
    let traits = Traits {
        keeps_old: true,
        repeats: false,
        counts_restarts: true,
        sees_readiness: true,
        knows_release: true,
        knows_stopped: true,
    };
    Stage { site: Site::new(), service: service(), traits }
}

laws!(tests_of_all_laws);
