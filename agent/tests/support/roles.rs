//! The other processes of a test are its own binary again, in another role.
//!
//! The role is taken before the test harness starts, on the main thread of a process that has only one:
//! that is what a holder and a supervisor are given in production too.

use std::ffi::OsString;
use std::path::Path;

use super::{agent, server};

/// What comes before the name of a role on the command line.
pub const MARK: &str = "landfall-role";

/// The arguments that make this binary take a role.
pub fn arguments(role: &str) -> Vec<OsString> {
    vec![MARK.into(), role.into()]
}

#[used]
// SAFETY: the C library calls each function of this section once, before main, on the only thread; Rust's
// standard library needs no initialisation for what the roles use.
#[unsafe(link_section = ".init_array")]
static TAKE_ROLE: extern "C" fn() = take_role;

extern "C" fn take_role() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(MARK) {
        return;
    }
    let role = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let result: Result<(), String> = match role.as_str() {
        "holder" => landfall_agent::holder::run(Path::new(&rest[0])).map_err(|error| error.to_string()),
        "step-runner" => {
            landfall_agent::steps::supervisor::supervise(std::io::stdin()).map_err(|error| error.to_string())
        }
        "serve" => server::run(&rest),
        "agent" => agent::run(&rest[0]),
        "step" => agent::step(&rest[0], &rest[1]),
        other => Err(format!("there is no role {other:?}")),
    };
    if let Err(error) = &result {
        eprintln!("{role}: {error}");
    }
    #[expect(clippy::exit, reason = "the harness must not start in a process that has a role")]
    std::process::exit(i32::from(result.is_err()));
}
