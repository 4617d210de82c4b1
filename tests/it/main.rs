//! The one integration-test binary: the program from outside, as processes, sockets and files.

mod access;
mod cli;
mod deploy;
mod doctor;
mod flow;
mod import;
mod process;
mod sensors;
mod statements;
mod store;
mod users;
