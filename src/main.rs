//! Nightjar: one program that serves MQTT and MQTT-SN, and the commands around it.
#![forbid(unsafe_code)]

mod cli;
mod config;
mod ctl;
mod start;

/// Why not the C library's: docs/decisions/0003-allocator.md.
#[cfg(all(feature = "jemalloc", target_os = "linux"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cli::run()
}
