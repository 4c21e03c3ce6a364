//! The order in which `auto` looks at places, and what it does when one is broken.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;

use super::*;

fn auto(cache: &Path) -> DataRequest {
    DataRequest { cache: Some(cache.to_owned()), offline: true, ..Default::default() }
}

fn nowhere() -> Surroundings {
    Surroundings { named: None, near: PathBuf::from("no such folder") }
}

#[test]
fn the_environment_goes_before_the_near_folder_and_that_before_the_cache() {
    let folder = tempfile::tempdir().expect("temporary");
    let near = folder.path().join("data");
    unpack(&fixture("python2.tar.gz"), &near);
    let set = load_path(&fixture("parquet-bare")).expect("a fixture");
    cache::write(&cache::file(folder.path(), None), &set).expect("written");

    let request = auto(folder.path());
    let mut around = Surroundings { named: Some(fixture("binary.tar.gz")), near };
    let source = |around: &Surroundings| load_from(&request, around, &Silent).expect("there").source;
    assert!(source(&around).ends_with("binary.tar.gz"));
    around.named = None;
    assert!(source(&around).ends_with("cifar-10-batches-py"));
    around.near = PathBuf::from("no such folder");
    assert!(source(&around).ends_with("cifar10.lsdata"));
}

#[test]
fn with_nothing_at_all_the_built_in_set_comes_with_a_loud_warning() {
    let (folder, told) = (tempfile::tempdir().expect("temporary"), Told::default());
    let set = load_from(&auto(folder.path()), &nowhere(), &told).expect("built in");
    assert_eq!(set.name, "builtin");
    let warnings = told.0.borrow().join(" ");
    assert!(warnings.contains("THIS IS NOT CIFAR-10") && warnings.contains("--data PATH"), "{warnings}");
}

#[test]
fn broken_places_stop_the_search() {
    let folder = tempfile::tempdir().expect("temporary");
    let request = auto(folder.path());
    let named = Surroundings { named: Some(folder.path().join("gone")), ..nowhere() };
    let text = load_from(&request, &named, &Silent).expect_err("gone").to_string();
    assert!(text.contains("gone") && text.contains("LOCKSTEP_DATA"), "{text}");

    let near = folder.path().join("data");
    unpack(&fixture("binary.tar.gz"), &near);
    fs::remove_file(near.join("cifar-10-batches-bin/test_batch.bin")).expect("there");
    let text = load_from(&request, &Surroundings { named: None, near: near.clone() }, &Silent)
        .expect_err("broken")
        .to_string();
    assert!(text.contains("test_batch.bin"), "{text}");

    // another program's ./data: said, and passed over
    fs::remove_dir_all(near.join("cifar-10-batches-bin")).expect("there");
    fs::write(near.join("sales.csv"), b"x").expect("written");
    let told = Told::default();
    let set = load_from(&request, &Surroundings { named: None, near }, &told).expect("built in");
    assert_eq!(set.name, "builtin");
    assert!(told.0.borrow()[0].contains("looking elsewhere"), "{:?}", told.0.borrow());

    fs::write(cache::file(folder.path(), None), b"LSDATA1\nxx").expect("written");
    let text = load_from(&request, &nowhere(), &Silent).expect_err("broken cache").to_string();
    assert!(text.contains("cifar10.lsdata") && text.contains("delete"), "{text}");
}

#[test]
fn an_address_is_downloaded_once_and_then_read_from_the_cache() {
    let archive = fs::read(fixture("binary.tar.gz")).expect("a fixture");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/set.tar.gz", listener.local_addr().expect("bound"));
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
        let _ = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).count();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", archive.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&archive)).expect("sent");
    });
    let folder = tempfile::tempdir().expect("temporary");
    let request = DataRequest { url: Some(url.clone()), offline: false, ..auto(folder.path()) };
    // an address that was typed goes before paths that were not
    let around = Surroundings { named: Some(fixture("parquet-bare")), near: PathBuf::new() };
    let first = load_from(&request, &around, &Silent).expect("downloaded");
    assert_eq!((first.source.as_str(), first.hash()), (url.as_str(), expected().hash()));
    served.join().expect("no panic");
    // the server is gone
    let second = load_from(&request, &around, &Silent).expect("kept");
    assert_eq!((second.hash(), second.name), (first.hash(), first.name));
    assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 1, "the archive is not kept beside its images");
}

#[test]
fn an_address_that_gives_nothing_is_an_error_never_the_built_in_set() {
    let folder = tempfile::tempdir().expect("temporary");
    let request = DataRequest { url: Some("http://127.0.0.1:9/x".into()), ..auto(folder.path()) };
    let error = load_from(&request, &nowhere(), &Silent).expect_err("offline");
    assert!(matches!(error, DataError::Unavailable { .. }), "{error}");
}
