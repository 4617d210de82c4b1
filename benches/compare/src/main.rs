//! Starts Nightjar and the other brokers this machine has, drives all with the same generator in turns, and prints what
//! a delivered message and an idle client cost each of them.
//!
//! CPU is the broker process's own (all threads; all processes where there are several), so that a busy machine moves
//! the figures little; ratios are taken within a round. `README.md` beside this crate says how to read the tables.

#![forbid(unsafe_code)]

mod broker;
mod clients;
mod floor;
mod idle;
mod load;
mod options;
mod packet;
mod pages;
mod picture;
mod process;
mod report;
mod rounds;
mod storm;
mod table;
mod workload;

use options::Options;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["echo"] => floor::serve(false),
        ["relay"] => floor::serve(true),
        ["insert", results, pages @ ..] => pages::insert(results, pages),
        ["check", pages @ ..] => pages::check(pages),
        ["draw", results, picture] => pages::draw(results, picture),
        ["--help" | "-h"] => {
            println!("{}", options::USAGE);
            Ok(())
        }
        words => Options::parse(words)
            .map_err(io::Error::other)
            .and_then(|options| rounds::run(&options)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
