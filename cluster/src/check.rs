//! `nightjar store check|dump`: says in words what a data directory holds and whether it is whole. Reads only.

mod member;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use nightjar_broker::shard::{Decoder, RetainedEntry, RetainedShard, SessionEntry, SessionShard};

use crate::bodies::{self, Source};
use crate::dir::Identity;
use crate::error::Error;
use crate::log::{Groups, HEAD, is_retained_region, is_session_region, name_of_region};
use crate::mark::Mark;
use crate::meta::{Meta, MetaEntry};
use crate::scan::{self, Item};
use crate::snapshot;

/// What [`check`] found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Everything in words, line by line.
    pub text: String,
    /// What is wrong; empty if the directory is whole.
    pub problems: Vec<String>,
}

impl Report {
    fn say(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    fn wrong(&mut self, what: String) {
        self.say(format!("DAMAGED: {what}"));
        self.problems.push(what);
    }
}

struct Place {
    last: u64,
    snapshot: u64,
}

/// Looks through a data directory without changing it.
///
/// # Errors
/// It is no data directory, of a newer format, or cannot be read at all. Damage is no error: it stands in the report.
pub fn check(dir: &Path) -> Result<Report, Error> {
    let mut report = Report::default();
    let Some(identity) = Identity::read(dir)? else {
        return Err(Error::NotOurs {
            dir: dir.to_owned(),
            found: "no file \"identity\"".to_owned(),
        });
    };
    report.say(format!(
        "{}: format {}, cluster {}, node {:?}, {} session groups, {} retained groups",
        dir.display(),
        identity.format,
        identity.cluster,
        identity.node,
        identity.session_groups,
        identity.retained_groups
    ));
    if is_in_use(dir) {
        report.say(
            "in use by a running process: what it writes meanwhile may look unfinished or is not seen",
        );
    }
    let groups = Groups {
        sessions: identity.session_groups,
        retained: identity.retained_groups,
    };
    let mark = match Mark::read(&dir.join("mark")) {
        Ok(mark) => mark,
        Err(error) => {
            report.wrong(error.to_string());
            None
        }
    };
    let mut places: Vec<Place> = Vec::new();
    for group in 0..groups.count() as u16 {
        places.push(Place {
            last: 0,
            snapshot: check_snapshot(dir, groups, group, &mut report)?,
        });
    }
    check_log(dir, groups, &mut places, &mut report)?;
    for (group, place) in places.iter().enumerate() {
        let last = place.last.max(place.snapshot);
        let marked = mark
            .as_ref()
            .and_then(|mark| mark.indexes.get(group))
            .copied()
            .unwrap_or(0);
        if last < marked {
            report.wrong(format!(
                "{} ends at entry {last}, but entry {marked} was acknowledged",
                groups.name(group as u16)
            ));
        }
    }
    match &mark {
        Some(mark) => report.say(format!(
            "durable mark {}: last alive at {} ms since 1970{}",
            mark.sequence,
            mark.alive.0,
            if mark.relaxed {
                ", durability \"async\""
            } else {
                ""
            }
        )),
        None if places.iter().any(|place| place.last > 0) => {
            report.wrong("the durable mark is missing".to_owned());
        }
        None => {}
    }
    member::check(dir, groups, &mut report)?;
    let verdict = match report.problems.len() {
        0 => "whole".to_owned(),
        1 => "1 problem".to_owned(),
        more => format!("{more} problems"),
    };
    report.say(format!("verdict: {verdict}"));
    Ok(report)
}

/// Does a process hold the lock?
fn is_in_use(dir: &Path) -> bool {
    File::open(dir.join("lock"))
        .is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

fn check_snapshot(
    dir: &Path,
    groups: Groups,
    group: u16,
    report: &mut Report,
) -> Result<u64, Error> {
    let found = snapshot::find(&dir.join("snapshots"), groups, group)?;
    let Some(newest) = found.first() else {
        return Ok(0);
    };
    let name = groups.name(group);
    let index = newest.index;
    let bytes = match snapshot::read(newest, groups, group) {
        Ok(bytes) => bytes,
        Err(error) => {
            report.wrong(error.to_string());
            return Ok(index);
        }
    };
    let words = if group < groups.sessions {
        SessionShard::decode(&bytes).map(|shard| {
            check_bodies(dir, groups, group, &shard, report);
            format!(
                "{} sessions, {} queued messages",
                shard.sessions(),
                shard.queued()
            )
        })
    } else if group < groups.meta() {
        RetainedShard::decode(&bytes).map(|shard| format!("{} retained messages", shard.len()))
    } else {
        Meta::decode(&bytes).map(|meta| format!("{} values", meta.0.len()))
    };
    match words {
        Ok(words) => report.say(format!("snapshot of {name} at entry {index}: {words}")),
        Err(error) => report.wrong(format!("{}: {error}", newest.path.display())),
    }
    Ok(index)
}

/// Every message that a snapshot has left to a file of bodies must be readable there.
fn check_bodies(dir: &Path, groups: Groups, group: u16, shard: &SessionShard, report: &mut Report) {
    let mut wanted: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    shard.places(&mut |_, _, place| {
        wanted.entry(place.file).or_default().insert(place.offset);
    });
    let region = groups.region(group);
    for (number, offsets) in wanted {
        let path = dir
            .join(bodies::DIR)
            .join(bodies::file_name(region, number));
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (len, file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                report.wrong(format!(
                    "{}: {error}; {} queued messages are in it",
                    path.display(),
                    offsets.len()
                ));
                continue;
            }
        };
        let source = Source {
            path: path.clone(),
            file: Arc::new(file),
            len,
        };
        if let Err(error) = source.check_header(region, number) {
            report.wrong(error.to_string());
        }
        let offsets: Vec<(u32, u32)> = offsets.into_iter().map(|offset| (offset, 0)).collect();
        let damaged: Vec<Error> = source
            .read(&offsets)
            .into_iter()
            .filter_map(Result::err)
            .collect();
        report.say(format!(
            "{}: {} messages of queues in {len} bytes",
            path.display(),
            offsets.len()
        ));
        if let Some(first) = damaged.first() {
            report.wrong(format!(
                "{} of {} messages cannot be read, the first: {first}",
                damaged.len(),
                offsets.len()
            ));
        }
    }
}

fn check_log(
    dir: &Path,
    groups: Groups,
    places: &mut [Place],
    report: &mut Report,
) -> Result<(), Error> {
    let files = match scan::files(&dir.join("log")) {
        Ok(files) => files,
        Err(error @ Error::Damaged { .. }) => {
            report.wrong(error.to_string());
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let by_region: Vec<u64> = (0..groups.count() as u16)
        .map(|group| groups.region(group))
        .collect();
    for (at, file) in files.iter().enumerate() {
        let mut entries = 0u64;
        let mut problems = Vec::new();
        let scanned = scan::scan(
            file,
            scan::is_last(&files, at),
            &mut |offset, body, footer| {
                let Some(items) = scan::items(body, footer) else {
                    problems.push(format!("the batch at byte {offset} cannot be taken apart"));
                    return;
                };
                for item in items {
                    let Item::Entry(region, index, bytes) = item else {
                        continue;
                    };
                    entries += 1;
                    match by_region.iter().position(|have| *have == region) {
                        Some(group) => {
                            let place = &mut places[group];
                            if !file.rewrite && place.last != 0 && index != place.last + 1 {
                                problems.push(format!(
                                    "at byte {offset}: entry {index} of {} follows entry {}",
                                    name_of_region(region),
                                    place.last
                                ));
                            }
                            place.last = place.last.max(index);
                        }
                        None => problems.push(format!("at byte {offset}: unknown group {region}")),
                    }
                    if let Err(what) = decode(region, bytes, &mut |_| {}) {
                        problems.push(format!("at byte {offset}: entry {index}: {what}"));
                    }
                }
            },
        )?;
        report.say(format!(
            "{}: {} batches with {entries} entries in {} bytes{}",
            file.path.display(),
            scanned.batches,
            scanned.end,
            if scanned.torn && scanned.damage.is_none() {
                ", then a batch that was not written to its end (nothing of it was acknowledged)"
            } else {
                ""
            }
        ));
        for what in problems {
            report.wrong(format!("{}: {what}", file.path.display()));
        }
        if let Some(what) = scanned.damage {
            report.wrong(format!(
                "{} at byte {}: {what}",
                file.path.display(),
                scanned.end
            ));
        }
    }
    Ok(())
}

/// Reads one entry of the log; `each` gets what it holds in words.
fn decode(region: u64, bytes: &[u8], each: &mut dyn FnMut(String)) -> Result<(), String> {
    words(region, bytes.get(HEAD..).ok_or("it has no head")?, each)
}

/// The entries of one group in words.
fn words(region: u64, content: &[u8], each: &mut dyn FnMut(String)) -> Result<(), String> {
    let mut from = Decoder(content);
    let mut step = || -> Result<(), nightjar_broker::shard::CodecError> {
        from.format()?;
        while !from.is_empty() {
            each(if is_session_region(region) {
                format!("{:?}", SessionEntry::decode(&mut from)?)
            } else if is_retained_region(region) {
                format!("{:?}", RetainedEntry::decode(&mut from)?)
            } else {
                match MetaEntry::decode(&mut from)? {
                    // Values may be secrets.
                    MetaEntry::Put { key, value } => format!("Put {key:?}, {} bytes", value.len()),
                    MetaEntry::Delete { key } => format!("Delete {key:?}"),
                }
            });
        }
        Ok(())
    };
    step().map_err(|error| error.to_string())
}

fn dump_snapshot(
    dir: &Path,
    groups: Groups,
    group: u16,
    out: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    let found = snapshot::find(&dir.join("snapshots"), groups, group)?;
    let Some(newest) = found.first() else {
        return Ok(());
    };
    let bytes = snapshot::read(newest, groups, group)?;
    out(&format!(
        "{}: {} up to entry {}",
        newest.path.display(),
        groups.name(group),
        newest.index
    ));
    let unreadable = |error| Error::Damaged {
        path: newest.path.clone(),
        offset: 0,
        what: format!("the snapshot passes its checksum but {error}"),
    };
    if group < groups.sessions {
        let shard = SessionShard::decode(&bytes).map_err(unreadable)?;
        for session in shard.restored() {
            let (queued, dropped) = shard.queue_len(&session.client_id).unwrap_or_default();
            out(&format!(
                "    session {:?}: epoch {}, {}, {queued} queued, {dropped} dropped",
                session.client_id,
                session.epoch,
                if session.connected {
                    "connected"
                } else {
                    "offline"
                }
            ));
            for (filter, sub) in &session.subs {
                out(&format!(
                    "        subscribed to {filter:?} with QoS {}",
                    sub.options.qos() as u8
                ));
            }
        }
        for (number, duty) in shard.duties() {
            out(&format!("    duty {number}: {duty:?}"));
        }
    } else if group < groups.meta() {
        for message in RetainedShard::decode(&bytes)
            .map_err(unreadable)?
            .messages()
        {
            out(&format!(
                "    retained {:?}, {} bytes",
                message.topic(),
                message.payload().len()
            ));
        }
    } else {
        // Values may be secrets.
        for (key, value) in &Meta::decode(&bytes).map_err(unreadable)?.0 {
            out(&format!("    value {key:?}, {} bytes", value.len()));
        }
    }
    Ok(())
}

/// Writes out what the snapshots hold, session by session, and then every entry of the log in the order of the
/// files. Payloads are given by their length.
///
/// # Errors
/// As [`check`]; and the first damage.
pub fn dump(dir: &Path, out: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let Some(identity) = Identity::read(dir)? else {
        return Err(Error::NotOurs {
            dir: dir.to_owned(),
            found: "no file \"identity\"".to_owned(),
        });
    };
    let groups = Groups {
        sessions: identity.session_groups,
        retained: identity.retained_groups,
    };
    for group in 0..groups.count() as u16 {
        dump_snapshot(dir, groups, group, out)?;
    }
    let files = scan::files(&dir.join("log"))?;
    for (at, file) in files.iter().enumerate() {
        out(&file.path.display().to_string());
        let mut line = String::new();
        let scanned = scan::scan(
            file,
            scan::is_last(&files, at),
            &mut |offset, body, footer| {
                for item in scan::items(body, footer).unwrap_or_default() {
                    line.clear();
                    match item {
                        Item::Entry(region, index, bytes) => {
                            let _ =
                                write!(line, "{offset}: {} entry {index}", name_of_region(region));
                            out(&line);
                            if let Err(what) =
                                decode(region, bytes, &mut |words| out(&format!("    {words}")))
                            {
                                out(&format!("    cannot be read: {what}"));
                            }
                        }
                        Item::Compact(region, index) => {
                            let _ = write!(
                                line,
                                "{offset}: {} needs nothing before entry {index}",
                                name_of_region(region)
                            );
                            out(&line);
                        }
                        Item::Other(region) => {
                            let _ = write!(line, "{offset}: {} notes", name_of_region(region));
                            out(&line);
                        }
                    }
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
    }
    member::dump(dir, groups, out)
}
