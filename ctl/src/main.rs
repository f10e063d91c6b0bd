//! The operator command line.

use std::process::ExitCode;

use clap::Parser as _;
use landfall_ctl::cli::Cli;
use landfall_ctl::error::{Error, Exit};
use landfall_ctl::output::Output;
use landfall_ctl::{command, interrupt};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::of_process(cli.global.output);
    let exit = run(cli, output).unwrap_or_else(|error| {
        output.error(&error);
        error.exit()
    });
    ExitCode::from(exit as u8)
}

fn run(cli: Cli, output: Output) -> Result<Exit, Error> {
    let here = std::path::Path::new(".");
    let directory = std::env::current_dir().map_err(|source| Error::io("find", here, source))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // One drives the connection while the other packs.
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| Error::io("start the runtime in", here, source))?;
    let result = runtime.block_on(async {
        let work = tokio::spawn(command::run(cli, directory, output));
        tokio::select! {
            result = work => match result {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            },
            () = interrupt::unhandled() => Err(Error::Interrupted),
        }
    });
    // Packing may be in the middle of a file; nobody waits for its end.
    runtime.shutdown_background();
    result
}
