//! What a directory has more when its node is one of a cluster: the number, the snapshot of consensus, its log.

use std::path::Path;

use openraft::EntryPayload;

use super::{Report, words};
use crate::error::Error;
use crate::log::Groups;
use crate::member::{MemberIdentity, parts, raft_dir, read_mark};
use crate::raft::{self, Entry, HEAD};
use crate::scan::{self, Item};

/// Looks through it; nothing if the node is in no cluster.
pub(super) fn check(dir: &Path, groups: Groups, report: &mut Report) -> Result<(), Error> {
    let identity = match MemberIdentity::read(dir) {
        Ok(None) => return Ok(()),
        Ok(Some(identity)) => identity,
        Err(error @ Error::Damaged { .. }) => {
            report.wrong(error.to_string());
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    report.say(format!(
        "node {} of cluster {}{}; what stands above is from before it came there",
        identity.number,
        identity.cluster,
        if identity.left { ", which it left" } else { "" }
    ));
    let mut last = match raft::load(&raft_dir(dir)) {
        Ok(None) => None,
        Ok(Some((meta, state))) => {
            let index = meta.last_log_id.map(|id| id.index);
            report.say(format!(
                "snapshot of the cluster at entry {}: {} nodes, {} sessions, {} queued messages, {} retained messages, {} \
                 values",
                index.unwrap_or(0),
                state.nodes.nodes.len(),
                state.sessions.iter().map(|shard| shard.sessions()).sum::<usize>(),
                state.sessions.iter().map(|shard| shard.queued()).sum::<usize>(),
                state.retained.iter().map(|shard| shard.len()).sum::<usize>(),
                state.meta.0.len()
            ));
            index
        }
        Err(error) => {
            report.wrong(error.to_string());
            None
        }
    };
    let mut problems = Vec::new();
    let mut seen: Option<u64> = None;
    let scanned = each(dir, groups, &mut |place, entry| match entry {
        Ok((entry, said)) => {
            let index = entry.log_id.index;
            // A new leader may take the place of entries; it never leaves any out.
            if seen.is_some_and(|seen| index > seen + 1) {
                problems.push(format!(
                    "{place}: entry {index} follows entry {}",
                    seen.unwrap_or(0)
                ));
            }
            seen = Some(index);
            if let Err(what) = said {
                problems.push(format!("{place}: entry {index}: {what}"));
            }
        }
        Err(what) => problems.push(format!("{place}: {what}")),
    });
    match scanned {
        Ok(said) => said.into_iter().for_each(|line| report.say(line)),
        Err(error @ Error::Damaged { .. }) => report.wrong(error.to_string()),
        Err(error) => return Err(error),
    }
    for what in problems {
        report.wrong(what);
    }
    last = last.max(seen);
    let end = last.map_or(0, |last| last + 1);
    let marked = read_mark(dir)?;
    if end < marked {
        report.wrong(format!(
            "the log of the cluster ends before entry {end}, but stood at {marked}: this node must not vote; give it an empty \
             directory"
        ));
    }
    Ok(())
}

/// Writes out every entry of the log of the cluster in words.
pub(super) fn dump(dir: &Path, groups: Groups, out: &mut dyn FnMut(&str)) -> Result<(), Error> {
    if MemberIdentity::read(dir)?.is_none() {
        return Ok(());
    }
    each(dir, groups, &mut |place, entry| match entry {
        Ok((entry, said)) => {
            out(&format!("{place}: {} {}", entry.log_id, entry.payload));
            for line in said.unwrap_or_else(|what| vec![format!("cannot be read: {what}")]) {
                out(&format!("    {line}"));
            }
        }
        Err(what) => out(&format!("{place}: {what}")),
    })?;
    Ok(())
}

/// An entry, and what it holds in words.
type Read = Result<(Entry, Result<Vec<String>, String>), String>;

/// Reads the log; a line for each file comes back.
fn each(
    dir: &Path,
    groups: Groups,
    take: &mut dyn FnMut(&str, Read),
) -> Result<Vec<String>, Error> {
    let files = scan::files(&raft_dir(dir).join("log"))?;
    let mut lines = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let mut entries = 0u64;
        let scanned = scan::scan(
            file,
            scan::is_last(&files, at),
            &mut |offset, body, footer| {
                let place = format!("{} at byte {offset}", file.path.display());
                let Some(items) = scan::items(body, footer) else {
                    take(&place, Err("a batch that cannot be taken apart".to_owned()));
                    return;
                };
                for item in items {
                    let Item::Entry(_, _, bytes) = item else {
                        continue;
                    };
                    entries += 1;
                    take(&place, read(groups, bytes));
                }
            },
        )?;
        if let Some(what) = scanned.damage {
            return Err(Error::Damaged {
                path: file.path.clone(),
                offset: scanned.end,
                what,
            });
        }
        lines.push(format!(
            "{}: {} batches with {entries} entries of the cluster in {} bytes{}",
            file.path.display(),
            scanned.batches,
            scanned.end,
            if scanned.torn {
                ", then a batch that was not written to its end"
            } else {
                ""
            }
        ));
    }
    Ok(lines)
}

fn read(groups: Groups, bytes: &[u8]) -> Read {
    let bytes = bytes.get(HEAD..).ok_or("an entry without its index")?;
    let entry: Entry = postcard::from_bytes(bytes).map_err(|error| error.to_string())?;
    let said = match &entry.payload {
        EntryPayload::Normal(proposal) => body(groups, &proposal.body),
        EntryPayload::Blank | EntryPayload::Membership(_) => Ok(Vec::new()),
    };
    Ok((entry, said))
}

fn body(groups: Groups, body: &[u8]) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    for part in parts::parts(body) {
        let (group, bytes) = part.ok_or("a part is cut off")?;
        if group == parts::NODES {
            let entry: crate::member::NodeEntry =
                postcard::from_bytes(bytes).map_err(|error| error.to_string())?;
            lines.push(format!("{entry:?}"));
        } else if usize::from(group) < groups.count() {
            words(groups.region(group), bytes, &mut |line| {
                lines.push(format!("{}: {line}", groups.name(group)));
            })?;
        } else {
            return Err(format!("there is no group {group}"));
        }
    }
    Ok(lines)
}
