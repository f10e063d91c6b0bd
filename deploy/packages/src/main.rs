//! `landfall-man DIRECTORY`: writes the man pages, made of the same text as `--help`.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};

fn main() -> io::Result<()> {
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, "usage: landfall-man DIRECTORY");
    let directory = std::env::args_os().nth(1).ok_or_else(usage)?;
    std::fs::create_dir_all(&directory)?;
    for program in programs() {
        clap_mangen::generate_to(program, Path::new(&directory))?;
    }
    Ok(())
}

fn programs() -> [Command; 3] {
    [
        landfall_agent::cli::Arguments::command(),
        landfall_controller::cli::Arguments::command().name("landfall-controller"),
        landfall_ctl::cli::Cli::command(),
    ]
}
