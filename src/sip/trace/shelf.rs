//! The folder of traces: one file for each call, the oldest taken away when there are too many.

use super::file::{self, BadTrace};
use super::{Trace, TraceSettings, masked_call_id};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Ends a file's name; what was refused has `.refused` before it.
const ENDING: &str = ".trace";
const REFUSED: &str = ".refused.trace";
/// Refused messages get this part of the room: who knocks all night must not push the calls out.
const REFUSED_SHARE: usize = 4;
/// Most bytes of a file that are read for its head.
const HEAD: u64 = 64 * 1024;

/// A trace that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its file.
    pub path: PathBuf,
    /// Its head; no messages.
    pub head: Trace,
}

/// The folder, to be looked into.
#[derive(Debug, Clone)]
pub struct Shelf {
    dir: PathBuf,
}

impl Shelf {
    /// The traces of a folder, which need not be there.
    pub fn new(dir: impl Into<PathBuf>) -> Shelf {
        Shelf { dir: dir.into() }
    }

    /// All that can be read, newest first.
    pub fn list(&self) -> std::io::Result<Vec<Found>> {
        let mut names = match names(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        names.sort_by(|a, b| b.cmp(a));
        let found = |name: String| {
            let path = self.dir.join(name);
            let mut bytes = Vec::new();
            std::fs::File::open(&path).ok()?.take(HEAD).read_to_end(&mut bytes).ok()?;
            Some(Found { head: file::read(&bytes, true).ok()?, path })
        };
        Ok(names.into_iter().filter_map(found).collect())
    }

    /// Traces whose id, or a leg's Call-ID, is `name` or begins with it; those that are it exactly come alone.
    pub fn find(&self, name: &str) -> std::io::Result<Vec<Found>> {
        let masked = masked_call_id(name);
        let hit = |f: &Found, is: fn(&str, &str) -> bool| {
            is(&f.head.id.to_ascii_lowercase(), &name.to_ascii_lowercase())
                || f.head.legs.iter().any(|l| is(&l.call_id, &masked) || is(&l.call_id, name))
        };
        let all = self.list()?;
        let exact: Vec<Found> = all.iter().filter(|f| hit(f, |a, b| a == b)).cloned().collect();
        if !exact.is_empty() {
            return Ok(exact);
        }
        Ok(all.into_iter().filter(|f| hit(f, |a, b| a.starts_with(b))).collect())
    }

    /// A trace with its messages.
    pub fn read(found: &Found) -> std::io::Result<Result<Trace, BadTrace>> {
        Ok(file::read(&std::fs::read(&found.path)?, false))
    }
}

fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let entries = std::fs::read_dir(dir)?.filter_map(Result::ok);
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    Ok(names.filter(|n| n.ends_with(ENDING)).collect())
}

/// Files of one kind with their sizes. Their names sort by age: a call's id begins with its time.
#[derive(Debug, Default)]
struct Row {
    files: BTreeMap<String, u64>,
    bytes: u64,
}

impl Row {
    fn put(&mut self, name: &str, size: u64) {
        let before = self.files.insert(name.to_string(), size).unwrap_or(0);
        self.bytes = self.bytes - before + size;
    }

    fn too_many(&mut self, calls: usize, bytes: u64) -> Option<String> {
        if self.files.len() <= calls && self.bytes <= bytes {
            return None;
        }
        let (name, size) = self.files.pop_first()?;
        self.bytes -= size;
        Some(name)
    }
}

/// The folder, to be written into: it never holds more than it may.
#[derive(Debug)]
pub(super) struct Filing {
    settings: TraceSettings,
    calls: Row,
    refused: Row,
}

impl Filing {
    /// Makes the folder where it is missing, and counts what is in it.
    pub fn open(settings: TraceSettings) -> std::io::Result<Filing> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&settings.dir)?;
        let names = names(&settings.dir)?;
        let mut filing = Filing { settings, calls: Row::default(), refused: Row::default() };
        for name in names {
            let size = std::fs::metadata(filing.settings.dir.join(&name)).map_or(0, |m| m.len());
            filing.row(&name).put(&name, size);
        }
        filing.prune();
        Ok(filing)
    }

    fn row(&mut self, name: &str) -> &mut Row {
        if name.ends_with(REFUSED) { &mut self.refused } else { &mut self.calls }
    }

    /// Writes a trace, or writes it anew.
    pub fn put(&mut self, trace: &Trace) -> std::io::Result<()> {
        let name = format!("{}{}", trace.id, if trace.refused { REFUSED } else { ENDING });
        let bytes = file::write(trace);
        // Whoever reads it sees all of it or nothing.
        let (path, half) = (self.settings.dir.join(&name), self.settings.dir.join(format!("{name}.new")));
        let mut how = std::fs::File::options();
        let mut file = how.create(true).write(true).truncate(true).mode(0o600).open(&half)?;
        std::io::Write::write_all(&mut file, &bytes)?;
        std::fs::rename(&half, path)?;
        self.row(&name).put(&name, bytes.len() as u64);
        self.prune();
        Ok(())
    }

    fn prune(&mut self) {
        let (calls, bytes) = (self.settings.calls, self.settings.bytes);
        let share = REFUSED_SHARE as u64;
        let more = [(&mut self.calls, calls, bytes), (&mut self.refused, calls.div_ceil(REFUSED_SHARE), bytes / share)];
        for (row, calls, bytes) in more {
            while let Some(name) = row.too_many(calls, bytes) {
                let _gone_already = std::fs::remove_file(self.settings.dir.join(name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::trace::{Ending, LegTrace, Role};

    fn trace(id: &str, refused: bool, why: &str) -> Trace {
        Trace {
            id: id.into(),
            refused,
            began: 1,
            ending: Ending { why: why.into(), ..Ending::default() },
            lost: 0,
            legs: vec![LegTrace { role: Role::Caller, call_id: masked_call_id(&format!("{id}-13800138000@h")) }],
            messages: Vec::new(),
        }
    }

    fn ids(shelf: &Shelf) -> Vec<String> {
        shelf.list().unwrap().into_iter().map(|f| f.head.id).collect()
    }

    #[test]
    fn the_oldest_calls_give_way_and_refused_ones_only_to_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let settings = TraceSettings { dir: dir.path().join("traces"), calls: 4, bytes: 1 << 20 };
        let mut filing = Filing::open(settings.clone()).unwrap();
        for n in 1..=6 {
            filing.put(&trace(&format!("A{n}"), false, "")).unwrap();
            filing.put(&trace(&format!("B{n}"), true, "")).unwrap();
        }
        filing.put(&trace("A6", false, "written anew")).unwrap();
        let shelf = Shelf::new(&settings.dir);
        assert_eq!(ids(&shelf), ["B6", "A6", "A5", "A4", "A3"]);
        assert_eq!(shelf.find("A6").unwrap()[0].head.ending.why, "written anew");
        drop(filing);
        // A smaller bound holds from the next start on, for bytes as well.
        Filing::open(TraceSettings { calls: 2, ..settings.clone() }).unwrap();
        assert_eq!(ids(&shelf), ["B6", "A6", "A5"]);
        Filing::open(TraceSettings { bytes: 0, ..settings }).unwrap();
        assert!(ids(&shelf).is_empty());
    }

    #[test]
    fn a_call_is_found_by_its_id_or_call_id_or_what_either_begins_with() {
        let dir = tempfile::tempdir().unwrap();
        let settings = TraceSettings { dir: dir.path().into(), calls: 10, bytes: 1 << 20 };
        let mut filing = Filing::open(settings).unwrap();
        for id in ["01AA", "01AB", "01ABC"] {
            filing.put(&trace(id, false, "")).unwrap();
        }
        let shelf = Shelf::new(dir.path());
        let found = |name: &str| shelf.find(name).unwrap().into_iter().map(|f| f.head.id).collect::<Vec<_>>();
        assert_eq!(found("01ab"), ["01AB"], "the whole id comes before what it begins");
        assert_eq!(found("01A"), ["01ABC", "01AB", "01AA"]);
        assert_eq!(found("01AA-13800138000@h"), ["01AA"], "a Call-ID as another system's log has it");
        assert!(found("nothing").is_empty());
        assert!(Shelf::new("/no/such/folder").list().unwrap().is_empty());
    }
}
