//! Nightjar: one program that serves MQTT and MQTT-SN, and the commands around it.
#![forbid(unsafe_code)]

mod cli;
mod config;
mod ctl;
mod start;

fn main() -> std::process::ExitCode {
    cli::run()
}
