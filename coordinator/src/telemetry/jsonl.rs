//! `metrics.jsonl`: every event of the run, one JSON object a line; and `summary.json` at its end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::append::AppendFile;
use super::error::TelemetryError;
use super::event::{Event, Record};
use super::replace::replace;
use super::sink::Sink;

/// The file's name in a run's folder.
pub const FILE: &str = "metrics.jsonl";

/// Writes the run's files that are JSON.
pub struct JsonLines {
    folder: PathBuf,
    file: AppendFile,
}

impl JsonLines {
    /// Opens `metrics.jsonl` in `folder`: a new one, or, to `resume`, behind the lines that are there.
    ///
    /// # Errors
    /// The file exists (unless resuming) or can't be opened.
    pub fn open(folder: &Path, resume: bool) -> Result<JsonLines, TelemetryError> {
        let path = folder.join(FILE);
        let file = if resume { AppendFile::append(&path)? } else { AppendFile::create(&path)? };
        Ok(JsonLines { folder: folder.to_path_buf(), file })
    }
}

impl Sink for JsonLines {
    fn record(&mut self, record: &Record) -> Result<(), TelemetryError> {
        if record.event.is_transient() {
            return Ok(());
        }
        let mut line = serde_json::to_vec(record)
            .map_err(|error| TelemetryError::io("encode a record for", &self.folder.join(FILE))(error.into()))?;
        line.push(b'\n');
        self.file.push(&line);
        match &record.event {
            // A run that resumes from this checkpoint finds the lines before it, also after a power cut.
            Event::Checkpoint { .. } => self.file.sync(),
            Event::RunEnded { summary } => summary.write(&self.folder).map(|_| ()),
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), TelemetryError> {
        self.file.flush()
    }

    fn finish(&mut self) -> Result<(), TelemetryError> {
        self.file.close()
    }
}

/// What [`cut_back`] did to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutBack {
    pub kept: u64,
    /// Records after the step.
    pub cut: u64,
    /// Torn or not a record: what a crash leaves behind.
    pub unreadable: u64,
}

#[derive(Deserialize)]
struct Position {
    step: Option<u64>,
}

/// Takes back everything that `path` says about what came after `step`, so that a run resumed there tells it once.
///
/// Lines are in the order of events: the first one of a later step ends what is kept, and with it go the lines without
/// a step behind it. Lines that are no record go too. A file that needs no change is not touched; a missing one is empty.
///
/// # Errors
/// The file can't be read or replaced; it is then as it was.
pub fn cut_back(path: &Path, step: u64) -> Result<CutBack, TelemetryError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(CutBack::default()),
        Err(error) => return Err(TelemetryError::io("read", path)(error)),
    };
    let seen = sift(BufReader::new(file), step, io::sink()).map_err(TelemetryError::io("read", path))?;
    if seen.cut + seen.unreadable > 0 {
        let file = File::open(path).map_err(TelemetryError::io("read", path))?;
        replace(path, |new| sift(BufReader::new(file), step, new).map(|_| ()))?;
    }
    Ok(seen)
}

/// Copies the lines to keep, and counts all.
fn sift(mut lines: impl BufRead, step: u64, mut kept: impl Write) -> io::Result<CutBack> {
    let mut seen = CutBack::default();
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let position = serde_json::from_slice::<Position>(&line).ok().filter(|_| line.ends_with(b"\n"));
        match position {
            None => seen.unreadable += 1,
            Some(position) if seen.cut > 0 || position.step.is_some_and(|at| at > step) => seen.cut += 1,
            Some(_) => {
                kept.write_all(&line)?;
                seen.kept += 1;
            }
        }
        line.clear();
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::summary::Summary;
    use std::fs;

    const HEAD: &str = "{\"event\":\"run_started\",\"steps\":9}\n{\"event\":\"step\",\"step\":1}\n{\"event\":\"step\",\"step\":2}\n{\"event\":\"notice\",\"text\":\"a\"}\n";
    const TAIL: &str = "{\"event\":\"step\",\"step\":3}\n{\"event\":\"notice\",\"text\":\"b\"}\n{\"event\":\"checkpoint\",\"step\":2}\n";

    fn cut(text: &str, step: u64) -> (CutBack, String) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(FILE);
        fs::write(&path, text).expect("write");
        let done = cut_back(&path, step).expect("cut");
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 1, "a file is left over");
        (done, fs::read_to_string(&path).expect("read"))
    }

    #[test]
    fn keeps_what_was_known_at_the_step() {
        let (done, text) = cut(&format!("{HEAD}{TAIL}"), 2);
        assert_eq!(text, HEAD);
        assert_eq!(done, CutBack { kept: 4, cut: 3, unreadable: 0 });
    }

    #[test]
    fn drops_a_torn_last_line_and_one_that_only_lacks_its_end() {
        for torn in ["{\"event\":\"st", "{\"event\":\"step\",\"step\":2}"] {
            let (done, text) = cut(&format!("{HEAD}{torn}"), 9);
            assert_eq!(text, HEAD);
            assert_eq!(done, CutBack { kept: 4, cut: 0, unreadable: 1 });
        }
    }

    #[test]
    fn drops_bytes_that_are_no_text() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(FILE);
        let mut bytes = HEAD.as_bytes().to_vec();
        bytes.extend_from_slice(&[0, 0, 0xff, b'\n']);
        fs::write(&path, &bytes).expect("write");
        assert_eq!(cut_back(&path, 9).expect("cut").unreadable, 1);
        assert_eq!(fs::read_to_string(&path).expect("read"), HEAD);
    }

    #[test]
    fn leaves_a_good_file_untouched_and_a_missing_one_missing() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(FILE);
        assert_eq!(cut_back(&path, 2).expect("missing"), CutBack::default());
        assert!(!path.exists());
        fs::write(&path, HEAD).expect("write");
        let mut permissions = fs::metadata(&path).expect("metadata").permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).expect("read-only");
        assert_eq!(cut_back(&path, 2).expect("whole"), CutBack { kept: 4, cut: 0, unreadable: 0 });
        assert!(fs::metadata(&path).expect("metadata").permissions().readonly(), "it was replaced");
    }

    #[test]
    fn a_resumed_file_can_be_cut_again() {
        let resumed =
            format!("{HEAD}{{\"event\":\"run_started\",\"resumed_from\":2}}\n{{\"event\":\"step\",\"step\":3}}\n");
        assert_eq!(cut(&resumed, 3).1, resumed);
        assert_eq!(cut(&resumed, 1).1, HEAD.lines().take(2).map(|line| format!("{line}\n")).collect::<String>());
    }

    #[test]
    fn the_end_of_the_run_writes_the_summary() {
        let folder = tempfile::tempdir().expect("folder");
        let mut sink = JsonLines::open(folder.path(), false).expect("open");
        let summary = Summary { model: "lenet".into(), ..Default::default() };
        let ended = |event| Record { time: 0.0, seconds: 1.0, event };
        sink.record(&ended(Event::Waiting { what: "nothing".into(), deadline_seconds: 1.0 })).expect("record");
        sink.record(&ended(Event::RunEnded { summary: Box::new(summary.clone()) })).expect("record");
        sink.finish().expect("finish");
        assert_eq!(Summary::read(folder.path()).expect("summary"), summary);
        let lines = fs::read_to_string(folder.path().join(FILE)).expect("lines");
        assert_eq!(lines.lines().count(), 1, "what only concerns the screen is not kept: {lines}");
    }
}
