//! Nightjar: one program that serves MQTT and MQTT-SN, and the commands around it.
#![forbid(unsafe_code)]

mod config;

fn main() {
    match config::load(&config::Options::default().with_environment()) {
        Ok(loaded) => print!("{}", config::print(&loaded, true)),
        Err(errors) => eprintln!("{errors}"),
    }
}
