//! The commands `pub`, `sub` and `bench`: flags, and functions that run them to an exit code.
//!
//! Each `run_*` builds its own runtime: call it outside of any other.

pub mod args;
mod debug;
pub mod format;
pub mod json;
pub(crate) mod printer;
pub mod properties;
pub(crate) mod publish;
pub(crate) mod stdin;
pub(crate) mod subscribe;

use std::future::Future;
use std::process::ExitCode;

use crate::error::{Error, Result};

pub use crate::bench::{BenchArgs, run_bench};
pub use publish::{PubArgs, publish};
pub use subscribe::{SubArgs, subscribe};

/// Publishes as the flags say. Exit codes are mosquitto_pub's.
pub fn run_pub(args: &PubArgs) -> ExitCode {
    finish(
        block_on(publish(args, tokio::io::stdin())),
        args.connect.quiet,
    )
}

/// Subscribes and prints as the flags say. Exit codes are mosquitto_sub's: 27 when `-W` ends it.
pub fn run_sub(args: &SubArgs) -> ExitCode {
    finish(
        block_on(subscribe(args, std::io::stdout())),
        args.connect.quiet,
    )
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Io {
            what: "cannot start",
            source,
        })?;
    let result = runtime.block_on(future);
    // A read of stdin that nobody will answer must not hold up the end.
    runtime.shutdown_background();
    result
}

fn finish(result: Result<u8>, quiet: bool) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            if !quiet {
                eprintln!("Error: {error}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Completes at Ctrl-C or SIGTERM.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        // Without a handler the signal ends the process by itself.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
