//! The planner against modelled hosts: each trap of the field once, laws over random fleets, and a small
//! simulation with lost messages and restarts.

#[cfg(test)]
mod approvals;
#[cfg(test)]
mod asked;
#[cfg(test)]
mod blue_green;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod checks;
#[cfg(test)]
mod compare;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod converge;
#[cfg(test)]
mod diagram;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod drill;
#[cfg(test)]
mod evidence;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod gates;
#[cfg(test)]
mod gates_in_watch;
#[cfg(test)]
mod hosts;
#[cfg(test)]
mod labels;
#[cfg(test)]
mod large;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod leave_out;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod line;
#[cfg(test)]
mod many;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod migrations;
#[cfg(test)]
mod pace;
#[cfg(test)]
mod proven;
#[cfg(test)]
mod ranges;
#[cfg(test)]
mod records;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod restored;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod rollouts;
#[cfg(test)]
mod runbook;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod stops;
#[cfg(test)]
mod watch;
#[cfg(test)]
mod windows;
#[cfg(test)]
mod world;
