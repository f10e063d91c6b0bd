//! The canary analysis: held against another implementation, against its promises in simulation, and as it speaks.

#![expect(clippy::cast_precision_loss, reason = "requests of a window, in the simulation")]

#[cfg(test)]
mod intervals;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod verdicts;
#[cfg(test)]
mod worlds;
