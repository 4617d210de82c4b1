//! A model of a broker's data path, small enough to run under several tokio runtime shapes and real enough to choose
//! between them: frames in, routed to outboxes, drained and written by each subscriber's own task.
//!
//! `runtime-model run` starts itself as server and drives it from a second process over loopback; the figures are CPU
//! time of the server process per delivered message. The record is `docs/decisions/0001-runtime-model.md`.
//!
//! `MODEL_BYTES` and `MODEL_TURNS` in the environment change how much one read and one write take and how many of them a
//! task has before it yields (`docs/decisions/0006-sockets.md`).

#![forbid(unsafe_code)]

mod connection;
mod load;
mod outbox;
mod report;
mod router;
mod server;

use std::process::ExitCode;

const USAGE: &str = "usage: runtime-model run [--rounds N] [--secs S] [--only WORKLOAD] | server MODEL WORKERS FLUSH";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["server", model, workers, flush] => server::Shape::parse(model, workers, flush)
            .ok_or_else(|| std::io::Error::other(USAGE))
            .and_then(server::run),
        ["run", options @ ..] => report::Options::parse(options)
            .ok_or_else(|| std::io::Error::other(USAGE))
            .and_then(|options| report::run(&options)),
        _ => Err(std::io::Error::other(USAGE)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
