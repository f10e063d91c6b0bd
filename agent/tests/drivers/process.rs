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
            hold: None,
        },
    }
}

const TRAITS: Traits = Traits {
    keeps_old: true,
    restarts_old: false,
    repeats: false,
    counts_restarts: true,
    sees_readiness: true,
    knows_release: true,
    knows_stopped: true,
};

async fn stage() -> Stage {
    Stage { site: Site::new(), service: service(), traits: TRAITS }
}

laws!(tests_of_all_laws);

#[tokio::test]
async fn it_has_no_reload() {
    let failure = stage().await.reload("v1", "g1").await.unwrap_err();
    assert_eq!(failure.reason, "the service's definition has no reload");
}

/// One that may not run beside another.
mod alone {
    use super::*;

    async fn stage() -> Stage {
        let mut service = service();
        if let Driver::Process { hold, .. } = &mut service.driver {
            *hold = Some(Duration::from_secs(60));
        }
        Stage {
            site: Site::new(),
            service,
            traits: Traits { keeps_old: false, restarts_old: true, ..TRAITS },
        }
    }

    laws!(tests_of_all_laws);
}
