//! `lockstep`: one binary, all roles. This file is a table of contents.

#[macro_use]
mod say;

mod cli;
mod cluster;
mod columns;
mod commands;
mod display;
mod exit;
mod folder;
mod history;
mod local_workers;
mod lock;
mod logging;
mod origin;
mod prepare;
mod processor;
mod report;
mod signals;
mod source;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};

/// Tensors of a few megabytes come and go with every step: mimalloc keeps their pages, where glibc gives them back to the
/// kernel and faults them in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    let result = match cli.command {
        Command::Train(args) => commands::train::run(args),
        Command::Coordinator(args) => commands::coordinator::run(args),
        Command::Worker(args) => commands::worker::run(args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Predict(args) => commands::predict::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Verify(args) => commands::verify::run(args),
        Command::Bench(args) => commands::bench::run(args),
        Command::Recipes(args) => commands::recipes::run(&args),
        Command::Reproduce(args) => commands::reproduce::run(&args),
        Command::Model(args) => commands::model::run(&args),
        Command::Data(args) => commands::data::run(&args),
        Command::Status(args) => commands::remote::status(&args),
        Command::Stop(args) => commands::remote::stop(&args),
    };
    exit::code(result)
}
