//! Disks that are full, forbidden or gone, and a port that is taken: it is said what to do, what stood still stands, and the
//! run can be resumed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::mount::Disk;
use crate::support::{Desk, Done, Running, skip};

const RUN: &[&str] = &["--max-steps", "20", "--batch-size", "48", "--set", "checkpoint.every_steps=2"];

/// A run that takes minutes unless somebody stops it, with a checkpoint every few steps.
const LONG: &[&str] =
    &["--epochs", "3000", "--set", "evaluation.every_epochs=0", "--set", "checkpoint.every_steps=5", "--json"];

fn quiet(desk: &Desk) -> String {
    desk.train("quiet", RUN).ok();
    desk.hash("quiet")
}

/// Resumes the run in `out` and checks that it comes to the quiet hash.
fn resumes(desk: &Desk, out: &str) {
    desk.run(&["train", "--data", "images", "--plain", "--resume", "--out", out]).ok();
    assert_eq!(desk.hash(out), quiet(desk));
}

fn says(done: &Done, words: &[&str]) {
    let said = format!("{}{}", done.stdout, done.stderr);
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

#[test]
fn a_full_disk_costs_checkpoints_and_the_run_goes_on_when_there_is_room() {
    let desk = Desk::new();
    // room for two checkpoints, and a run keeps four
    let Some(disk) = Disk::mount(&desk.path("disk"), 1100) else { return };
    let done = desk.train("disk/run", RUN);
    assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
    says(&done, &["no checkpoint of step", "No space left", "room", "not all of it is on the disk"]);
    // what is left of a failed attempt would take the room of the next
    let files = fs::read_dir(desk.path("disk/run/checkpoints")).expect("folder").map(|file| file.expect("file").path());
    let files: Vec<_> = files.collect();
    assert!(files.iter().all(|path| path.extension().is_some_and(|end| end == "safetensors")), "{files:?}");
    disk.resize(16 << 10);
    resumes(&desk, "disk/run");
}

#[test]
fn a_disk_that_is_full_at_the_start_is_told_at_once() {
    let desk = Desk::new();
    let Some(disk) = Disk::mount(&desk.path("disk"), 300) else { return };
    let done = desk.train("disk/run", RUN);
    assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
    says(&done, &["disk/run", "No space left", "room"]);
    drop(disk);
}

/// Where nobody may mount anything: a limit on the length of a file does what a full disk does.
#[test]
fn a_file_that_may_not_grow_is_told_like_a_full_disk() {
    let desk = Desk::new();
    // 400 KiB; the signal that comes with the error would end the program
    let before = ["bash", "-c", "trap '' XFSZ; ulimit -f 400; exec \"$@\"", "bash"];
    let args = [&["train", "--data", "images", "--plain", "--out", "run"], RUN].concat();
    let done = desk.start_under(&before, &args).finish();
    assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
    says(&done, &["run/checkpoints/step-00000000.safetensors", "File too large", "room"]);
}

/// A user without rights, as root has them everywhere.
fn nobody(desk: &Desk) -> Option<[&'static str; 4]> {
    let before = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    // the way to the desk's folder, and to the executable
    fs::set_permissions(desk.path("."), fs::Permissions::from_mode(0o777)).expect("ours");
    let works = desk.command_under(&before, &["--version"]).output();
    if works.is_ok_and(|output| output.status.success()) {
        return Some(before);
    }
    skip("a folder without rights needs a user without them: root, setpriv, and an executable that all may run");
    None
}

#[test]
fn a_folder_without_rights_is_told_before_anything_is_lost() {
    let desk = Desk::new();
    let Some(before) = nobody(&desk) else { return };
    fs::create_dir(desk.path("closed")).expect("folder");
    let args = [&["train", "--data", "images", "--plain", "--out", "closed/run"], RUN].concat();
    let done = desk.start_under(&before, &args).finish();
    done.refused(&["closed/run", "Permission denied", "--out"]);

    // and one that loses them while the run is on its way
    let args = [&["train", "--data", "images", "--out", "run"], LONG].concat();
    let mut running = desk.start_under(&before, &args);
    running.wait_for(|line| line.contains("step-00000005.safetensors").then_some(()));
    let folder = desk.path("run/checkpoints");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).expect("ours to set");
    let warning = running.wait_for(|line| line.contains("no checkpoint of step").then(|| line.to_owned()));
    assert!(warning.contains("Permission denied") && warning.contains("may write there"), "{warning}");
    stopped_with(running, &["not all of it is on the disk", "Permission denied"]);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("ours to set");
    goes_on(&desk, "run");
}

#[test]
fn a_folder_that_vanishes_is_told_and_what_was_kept_elsewhere_goes_on() {
    let desk = Desk::new();
    let mut running = desk.start(&[&["train", "--data", "images", "--out", "run"], LONG].concat());
    running.wait_for(|line| line.contains("step-00000005.safetensors").then_some(()));
    fs::rename(desk.path("run"), desk.path("elsewhere")).expect("moved");
    let warning = running.wait_for(|line| line.contains("no checkpoint of step").then(|| line.to_owned()));
    assert!(warning.contains("folder is gone"), "{warning}");
    stopped_with(running, &["not all of it is on the disk", "folder is gone"]);
    assert!(!desk.path("run").exists(), "nothing that looks like a run and has half of it");
    goes_on(&desk, "elsewhere");
}

#[test]
fn a_file_in_the_place_of_the_checkpoints_is_told() {
    let desk = Desk::new();
    let mut running = desk.start(&[&["train", "--data", "images", "--out", "run"], LONG].concat());
    running.wait_for(|line| line.contains("step-00000005.safetensors").then_some(()));
    fs::rename(desk.path("run/checkpoints"), desk.path("run/kept")).expect("moved");
    fs::write(desk.path("run/checkpoints"), "in the way").expect("written");
    let warning = running.wait_for(|line| line.contains("no checkpoint of step").then(|| line.to_owned()));
    assert!(warning.contains("Not a directory"), "{warning}");
    stopped_with(running, &["not all of it is on the disk"]);
    assert_eq!(fs::read(desk.path("run/checkpoints")).expect("still there"), b"in the way");
    fs::remove_file(desk.path("run/checkpoints")).expect("removed");
    fs::rename(desk.path("run/kept"), desk.path("run/checkpoints")).expect("moved back");
    goes_on(&desk, "run");
}

/// Stops the run politely: it must end with 1 and these words.
fn stopped_with(running: Running, words: &[&str]) {
    running.signal("TERM");
    let done = running.finish();
    assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
    says(&done, words);
}

/// The last good checkpoint of the run in `out` is whole, and can be gone on from.
fn goes_on(desk: &Desk, out: &str) {
    let steps = |path: &Path| fs::read_dir(path.join("checkpoints")).expect("folder").count();
    assert!(steps(&desk.path(out)) >= 1);
    let mut running = desk.start(&["train", "--data", "images", "--json", "--resume", "--out", out]);
    running.wait_for(|line| line.contains("\"resumed_from\":").then_some(()));
    running.wait_for(|line| line.contains("\"event\":\"step\"").then_some(()));
    running.signal("TERM");
    running.finish().ok();
}

#[test]
fn a_port_that_is_taken_is_told_with_the_way_out() {
    let desk = Desk::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("address").to_string();
    let done = desk.run(&["coordinator", "--data", "images", "--listen", &address, "--out", "run"]);
    done.refused(&[&address, "in use", "--listen"]);
    assert!(!desk.path("run").exists(), "a refusal leaves nothing behind");
}
