//! Work that takes its time, on threads of its own. What is large and nobody waits for is done with low priority, so that
//! whoever serves clients goes first.

use std::io;
use std::panic::resume_unwind;
use std::thread::Builder;

use tokio::runtime::Handle;

/// The niceness of such threads: about a tenth of what others get where all want the processor.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// This thread goes behind others from here on.
fn give_way() {
    // In Linux a thread has a niceness of its own; elsewhere it is the process', and stays as it is. More of it is never
    // refused, and without it the work is done all the same.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICENESS);
}

/// Does it on a thread of its own and waits for it. One whose runtime ends before it has begun is never done.
///
/// # Errors
/// There is no such thread to be had.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    // Waited for by a thread that the runtime knows: a simulation's clock stands still until it is done.
    tokio::task::spawn_blocking(move || run_here(work))
        .await
        .map_err(io::Error::other)?
}

/// As [`run`], for a thread that may wait.
///
/// # Errors
/// There is no such thread to be had.
pub(crate) fn run_here<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = Builder::new()
            .name("leisure".to_owned())
            .spawn_scoped(scope, move || {
                give_way();
                work()
            })?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// Does it on a thread of its own while the caller goes on. Somebody asks for what comes of it, so it gives way to nobody.
///
/// # Errors
/// There is no such thread to be had.
pub(crate) fn begin(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => drop(Builder::new().name("digests".to_owned()).spawn(work)?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_done_behind_others_and_whoever_waits_stays_as_it_was() {
        let mut done = 0;
        let niceness = run_here(|| {
            done += 1;
            #[cfg(target_os = "linux")]
            return rustix::process::nice(0).expect("it is asked for");
            #[cfg(not(target_os = "linux"))]
            0
        })
        .expect("a thread");
        assert_eq!(done, 1);
        if cfg!(target_os = "linux") {
            let own = rustix::process::nice(0).expect("it is asked for");
            assert_eq!(niceness, (own + 10).min(19));
        }
    }
}
