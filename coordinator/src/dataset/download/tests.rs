//! Against a small HTTP server of our own: it answers each request in turn by a list of behaviours.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use super::*;
use crate::dataset::Silent;

/// How one request is answered.
#[derive(Clone, Copy)]
enum Answer {
    /// Honours `Range`.
    Honest,
    /// Announces everything that was asked for and closes after so many bytes.
    CutAfter(usize),
    /// The whole file, whatever was asked for.
    IgnoresRange,
    Status(u16),
}

/// Serves `content` to as many requests as there are answers; joining gives the `Range` headers that came.
fn serve(content: Vec<u8>, answers: Vec<Answer>) -> (String, JoinHandle<Vec<Option<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/a.tar.gz", listener.local_addr().expect("bound"));
    let served = thread::spawn(move || {
        answers.into_iter().map(|answer| respond(listener.accept().expect("a client").0, &content, answer)).collect()
    });
    (url, served)
}

fn respond(mut stream: TcpStream, content: &[u8], answer: Answer) -> Option<String> {
    let mut range = None;
    for line in BufReader::new(stream.try_clone().expect("a socket")).lines() {
        let line = line.expect("a header").to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        range = line.strip_prefix("range: ").map(str::to_owned).or(range);
    }
    let start = range.as_ref().and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let start = start.filter(|_| !matches!(answer, Answer::IgnoresRange));
    let body = &content[start.unwrap_or(0).min(content.len())..];
    let (status, sent) = match answer {
        Answer::Status(status) => (status, 0),
        _ if start.is_some_and(|start| start >= content.len()) => (416, 0),
        Answer::CutAfter(n) => (if start.is_some() { 206 } else { 200 }, n),
        _ => (if start.is_some() { 206 } else { 200 }, body.len()),
    };
    let length = if status < 300 { body.len() } else { 0 };
    let mut head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n");
    if status == 206 {
        let start = start.unwrap_or(0);
        head += &format!("Content-Range: bytes {start}-{}/{}\r\n", content.len() - 1, content.len());
    }
    // a client that gave up closes early: no matter
    drop(stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(&body[..sent])));
    range
}

fn content() -> Vec<u8> {
    (0..300_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn md5(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

fn address(url: &str, md5: &str) -> Address {
    Address::parse(Some(&format!("{url}#md5={md5}"))).expect("well formed")
}

#[test]
fn a_download_that_breaks_twice_is_resumed_where_it_broke() {
    let (content, folder) = (content(), tempfile::tempdir().expect("temporary"));
    let answers = vec![Answer::CutAfter(100_000), Answer::CutAfter(50_000), Answer::Honest];
    let (url, served) = serve(content.clone(), answers);
    let path = fetch(&address(&url, &md5(&content)), folder.path(), &Silent).expect("third time");
    assert_eq!(fs::read(path).expect("there"), content);
    let ranges = served.join().expect("no panic");
    assert_eq!(ranges, [None, Some("bytes=100000-".to_owned()), Some("bytes=150000-".to_owned())]);
    assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 1, "no .part is left");
}

#[test]
fn what_an_earlier_run_kept_is_continued_or_replaced() {
    for (answers, asked) in [(vec![Answer::Honest], 1), (vec![Answer::IgnoresRange], 1)] {
        let (content, folder) = (content(), tempfile::tempdir().expect("temporary"));
        let (url, served) = serve(content.clone(), answers);
        let address = address(&url, &md5(&content));
        fs::write(folder.path().join(address.file_name() + ".part"), &content[..1234]).expect("written");
        let path = fetch(&address, folder.path(), &Silent).expect("the rest");
        assert_eq!(fs::read(path).expect("there"), content);
        assert_eq!(served.join().expect("no panic"), vec![Some("bytes=1234-".to_owned()); asked]);
    }
}

#[test]
fn a_range_that_the_server_lacks_means_from_the_start() {
    let (content, folder) = (content(), tempfile::tempdir().expect("temporary"));
    let (url, served) = serve(content.clone(), vec![Answer::Honest, Answer::Honest]);
    let address = address(&url, &md5(&content));
    fs::write(folder.path().join(address.file_name() + ".part"), vec![0; content.len() + 5]).expect("written");
    let path = fetch(&address, folder.path(), &Silent).expect("all of it");
    assert_eq!(fs::read(path).expect("there"), content);
    assert_eq!(served.join().expect("no panic").len(), 2);
}

#[test]
fn a_wrong_checksum_is_named_and_nothing_is_kept() {
    let (content, folder) = (content(), tempfile::tempdir().expect("temporary"));
    let (url, served) = serve(content.clone(), vec![Answer::Honest]);
    let address = address(&url, "00000000000000000000000000000000");
    let error = fetch(&address, folder.path(), &Silent).expect_err("another file");
    let text = error.to_string();
    assert!(text.contains(&md5(&content)) && text.contains("300000 bytes") && text.contains(&"0".repeat(32)), "{text}");
    assert!(error.is_users_mistake() && text.contains("#md5="), "{text}");
    assert_eq!(fs::metadata(folder.path().join(address.file_name() + ".part")).expect("there").len(), 0);
    served.join().expect("no panic");
}

#[test]
fn no_byte_at_all_is_unavailable() {
    let folder = tempfile::tempdir().expect("temporary");
    let (url, served) = serve(content(), vec![Answer::Status(503)]);
    let error = fetch(&Address::parse(Some(&url)).expect("well formed"), folder.path(), &Silent).expect_err("503");
    assert!(matches!(&error, DataError::Unavailable { reason, .. } if reason.contains("503")), "{error}");
    served.join().expect("no panic");
    // the server is gone now: nobody listens
    let error = fetch(&Address::parse(Some(&url)).expect("well formed"), folder.path(), &Silent).expect_err("refused");
    assert!(matches!(error, DataError::Unavailable { .. }), "{error}");
}

#[test]
fn an_address_that_was_typed_and_leads_nowhere_is_a_mistake_and_the_official_one_is_not() {
    let folder = tempfile::tempdir().expect("temporary");
    for typed in [true, false] {
        let (url, served) = serve(content(), vec![Answer::Status(404)]);
        let address = Address { typed, ..Address::parse(Some(&url)).expect("well formed") };
        let error = fetch(&address, folder.path(), &Silent).expect_err("404");
        assert!(error.is_users_mistake() == typed && error.to_string().contains("404"), "{error}");
        served.join().expect("no panic");
    }
}

#[test]
fn a_server_that_dies_midway_is_an_error_that_keeps_what_came() {
    let folder = tempfile::tempdir().expect("temporary");
    let dead = [Answer::Status(503); BARREN_TRIES as usize];
    let (url, served) = serve(content(), [vec![Answer::CutAfter(1000)], dead.to_vec()].concat());
    let error = fetch(&Address::parse(Some(&url)).expect("well formed"), folder.path(), &Silent).expect_err("dead");
    assert!(
        matches!(&error, DataError::Download { problem, .. } if problem.contains("1000 bytes are kept")),
        "{error}"
    );
    served.join().expect("no panic");
}

#[test]
fn one_download_at_a_time() {
    let folder = tempfile::tempdir().expect("temporary");
    let address = Address::parse(Some("http://127.0.0.1:9/a")).expect("well formed");
    let part = File::create(folder.path().join(address.file_name() + ".part")).expect("created");
    part.lock().expect("free");
    let text = fetch(&address, folder.path(), &Silent).expect_err("locked").to_string();
    assert!(text.contains("another process"), "{text}");
}

#[test]
fn addresses_are_checked() {
    assert_eq!(Address::parse(None).expect("ours").md5.as_deref(), Some(BINARY_ARCHIVE_MD5));
    for wrong in ["ftp://x/y", "/tmp/a.tar.gz", "http://x/y#sha=1", "http://x/y#md5=12"] {
        assert!(matches!(Address::parse(Some(wrong)), Err(DataError::Setting { .. })), "{wrong}");
    }
}
