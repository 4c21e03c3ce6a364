//! Too much of everything: crowds, silence, garbage and floods. The run goes on, and the coordinator's memory stays within
//! the bounds of docs/faults.md.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockstep_proto::keys::Key;
use lockstep_proto::wire::coordinator_client::CoordinatorClient;
use lockstep_proto::wire::{self, Evaluation, Failed, Goodbye, Gradient, StatePart, from_worker, to_worker};
use tonic::codegen::tokio_stream;
use tonic::transport::Endpoint;

use crate::support::Desk;
use crate::support::cluster::{Coordinator, follow_memory, worker};
use crate::support::peer::{Peer, connect, hello};

const RUN: &[&str] = &["--max-steps", "20", "--batch-size", "48", "--allow-foreign-workers", "--plane", "grpc"];

/// The bound of docs/faults.md for guests: what 640 connections and 64 streams without Hello may cost.
const GUESTS_KIB: u64 = 64 << 10;

/// And for a session with lenet's gradient.
const SESSION_KIB: u64 = 1536;

/// The hash of the same run without trouble, and the most memory that its coordinator had, in KiB.
fn quiet(desk: &Desk) -> (String, u64) {
    let coordinator = Coordinator::start(desk, "quiet", RUN);
    let memory = follow_memory(coordinator.running.child.id());
    let worker = worker(desk, &coordinator.address, &[]);
    coordinator.finish().ok();
    worker.finish().ok();
    (desk.hash("quiet"), memory.join().expect("followed"))
}

/// Lets an honest worker finish the run that is in trouble, and checks hash and memory.
fn finish(desk: &Desk, coordinator: Coordinator, bound: u64) {
    let (hash, before) = quiet(desk);
    let memory = follow_memory(coordinator.running.child.id());
    let worker = worker(desk, &coordinator.address, &[]);
    coordinator.finish().ok();
    worker.finish().ok();
    let peak = memory.join().expect("followed");
    assert_eq!(desk.hash("run"), hash);
    eprintln!("peak {peak} KiB, without trouble {before} KiB");
    assert!(peak < before + bound, "{peak} KiB, {before} KiB without trouble; {bound} KiB more are allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sixty_four_workers_that_join_at_once_all_get_work() {
    let desk = Desk::new();
    let run = ["--allow-foreign-workers", "--max-steps", "10", "--batch-size", "64", "--shards", "64"];
    let one = Coordinator::start(&desk, "one", &run);
    let alone = follow_memory(one.running.child.id());
    tokio::spawn(Peer::join(connect(&one.address).await, "echo").await.expect("let in").echo(1e-3));
    one.finish().ok();

    let many = Coordinator::start(&desk, "many", &[&run[..], &["--min-workers", "64"]].concat());
    let memory = follow_memory(many.running.child.id());
    let join = |number| {
        let address = many.address.clone();
        async move {
            let channel = connect(&address).await;
            Peer::join(channel, &format!("echo-{number}")).await.expect("let in").echo(1e-3).await
        }
    };
    let crowd: Vec<_> = (0..64).map(|number| tokio::spawn(join(number))).collect();
    many.finish().ok();
    for peer in crowd {
        assert!(peer.await.expect("no panic").contains("every step"));
    }
    // Oracle: an echo's answers do not depend on who gives them.
    assert_eq!(desk.hash("many"), desk.hash("one"));
    assert_eq!(desk.summary("many")["workers"], 64, "64 shards for 64 workers");
    let (peak, alone) = (memory.join().expect("followed"), alone.join().expect("followed"));
    eprintln!("64 sessions: peak {peak} KiB, one session {alone} KiB");
    // a session has a gradient (242 KiB) and a part or two in its connection's buffers
    assert!(peak < alone + 64 * SESSION_KIB, "{peak} KiB, {alone} KiB with one worker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_silent_peers_keep_nobody_out() {
    let desk = Desk::new();
    let coordinator = Coordinator::start(&desk, "run", RUN);
    let over = Arc::new(AtomicBool::new(false));
    // a thousand at once, and a few hundred more each second
    let (stop, address) = (Arc::clone(&over), coordinator.address.clone());
    let (tell, told) = std::sync::mpsc::channel();
    let silence = std::thread::spawn(move || {
        let mut silent = std::collections::VecDeque::new();
        while !stop.load(Ordering::Relaxed) {
            silent.extend(TcpStream::connect(&address));
            if silent.len() > 1000 {
                let _ = tell.send(());
                silent.pop_front();
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    told.recv_timeout(Duration::from_secs(60)).expect("a thousand connections; ulimit -n must allow as many");
    // and a thousand calls that never say Hello
    let calls: Vec<_> = (0..1000)
        .map(|number| {
            let address = coordinator.address.clone();
            tokio::spawn(async move {
                // 16 are what one connection may have
                let channel = Endpoint::from_shared(format!("http://{address}")).expect("address").connect_lazy();
                let mut client = CoordinatorClient::new(channel);
                let work = client.work(tokio_stream::pending::<wire::FromWorker>()).await;
                let first = work.map_err(|status| (number, status.to_string()))?.into_inner().message().await;
                match first.map_err(|status| (number, status.to_string()))?.and_then(|message| message.message) {
                    Some(to_worker::Message::Refused(refused)) => Ok(refused.reason),
                    other => Err((number, format!("{other:?}"))),
                }
            })
        })
        .collect();
    finish(&desk, coordinator, GUESTS_KIB);
    over.store(true, Ordering::Relaxed);
    silence.join().expect("no panic");
    let mut crowded = 0;
    for call in calls {
        if let Ok(reason) = call.await.expect("no panic") {
            assert!(reason.contains("64 other streams") || reason.contains("no Hello"), "{reason}");
            crowded += 1;
        }
    }
    // how many get so far before the run is over is the machine's affair
    assert!(crowded > 0, "nobody was told why they were not let in");
}

/// An HTTP/2 connection up to the first bytes of a call to Work.
fn http2_work() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut bytes, 4, 0, 0, &[]);
    // HPACK, RFC 7541: POST and http are in the static table, the rest stands in plain
    let mut headers = vec![0x83, 0x86];
    let literal = |name: &[u8], value: &str| [name, &[value.len() as u8], value.as_bytes()].concat();
    headers.extend(literal(&[0x04], "/lockstep.v1.Coordinator/Work"));
    headers.extend(literal(&[0x01], "lockstep"));
    headers.extend(literal(&[0x0f, 0x10], "application/grpc"));
    headers.extend(literal(b"\x00\x02te", "trailers"));
    frame(&mut bytes, 1, 4, 1, &headers);
    bytes
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    bytes.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
}

#[test]
fn garbage_and_huge_messages_are_turned_away() {
    let desk = Desk::new();
    let coordinator = Coordinator::start(&desk, "run", RUN);
    let mut dice = Key::new(1, "garbage", "").stream(0, 0, 0);
    let noise: Vec<u8> = (0..100_000).map(|_| dice.bits() as u8).collect();
    let with = |mut bytes: Vec<u8>, more: &[u8]| {
        bytes.extend(more);
        bytes
    };
    let mut two_gib = http2_work();
    frame(&mut two_gib, 0, 0, 1, &[&[0, 0x80, 0, 0, 0], &noise[..16_000]].concat());
    let mut unknown = http2_work();
    frame(&mut unknown, 0, 0, 1, &[&[0, 0, 0, 0, 200][..], &noise[..200]].concat());
    let mut headers = http2_work();
    frame(&mut headers, 1, 0, 3, &[0x83]);
    for _ in 0..2000 {
        frame(&mut headers, 9, 0, 3, &[b"\x00\x01x\x7f\x81\x3e", &[b'y'; 8000][..]].concat());
    }
    let peers: Vec<(&str, Vec<u8>, &str)> = vec![
        ("noise", noise.clone(), ""),
        ("HTTP/1", b"GET / HTTP/1.1\r\nHost: lockstep\r\n\r\n".to_vec(), ""),
        ("TLS", with(vec![22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], &noise[..507]), ""),
        ("noise after the preface", with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &noise), ""),
        ("a frame of 16 MB", with(http2_work(), &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]), ""),
        ("headers without end", headers, ""),
        ("a message of 2 GiB", two_gib, "the limit is: 524288 bytes"),
        ("noise for a message", unknown, "the first message can't be read"),
    ];
    for (what, bytes, word) in &peers {
        for _ in 0..50 {
            let mut stream = TcpStream::connect(&coordinator.address).expect("connected");
            stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
            // it may be turned away before it has said all
            let _ = stream.write_all(bytes);
            let mut answer = Vec::new();
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut piece) {
                answer.extend(&piece[..count]);
                if !word.is_empty() && String::from_utf8_lossy(&answer).contains(word) {
                    break;
                }
            }
            assert!(String::from_utf8_lossy(&answer).contains(word), "{what}: {}", String::from_utf8_lossy(&answer));
        }
    }
    finish(&desk, coordinator, GUESTS_KIB);
}

/// Sends `count` messages that `make` makes, and returns how the session ended.
async fn flood(address: &str, count: u64, make: impl Fn(u64) -> from_worker::Message) -> String {
    let mut peer = Peer::join(connect(address).await, "flood").await.expect("let in");
    for number in 0..count {
        peer.send(make(number));
    }
    peer.lease().await.expect_err("no work without Ready")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn floods_from_a_worker_end_its_session() {
    let desk = Desk::new();
    let coordinator = Coordinator::start(&desk, "run", RUN);
    let address = &coordinator.address;
    let part = |lease, offset, values: usize| {
        from_worker::Message::Gradient(Gradient {
            lease,
            offset,
            data: vec![0; values * 4].into(),
            ..Gradient::default()
        })
    };
    let (asked, ended) = ("answers that nobody asked for", "gradients and ended none");
    let failed = |lease| from_worker::Message::Failed(Failed { lease, reason: "x".repeat(100_000) });
    let evaluation = |lease| {
        from_worker::Message::Evaluation(Evaluation { lease, confusion: vec![1; 100_000], ..Evaluation::default() })
    };
    let goodbye = |_| from_worker::Message::Goodbye(Goodbye { reason: "y".repeat(100_000) });
    let state =
        |lease| from_worker::Message::State(StatePart { lease, data: vec![0; 4000].into(), ..StatePart::default() });
    let reasons = [
        (asked, flood(address, 1000, failed).await),
        ("nobody asked for that", flood(address, 1000, state).await),
        (asked, flood(address, 1000, evaluation).await),
        ("Goodbye twice", flood(address, 1000, goodbye).await),
        // a new gradient each time, and none ever whole
        (ended, flood(address, 1000, |n| part(n, 0, 0)).await),
        // the same one, from where it never was
        (ended, flood(address, 100_000, |_| part(7, u64::MAX, 1)).await),
        (asked, flood(address, 1000, |n| part(n, u64::MAX, 1)).await),
        ("Hello twice", flood(address, 1000, |_| hello("again").message.expect("set")).await),
    ];
    for (word, reason) in reasons {
        assert!(reason.contains(word), "{reason}");
    }
    let long = Peer::join(connect(address).await, &"n".repeat(1000)).await.err().expect("refused");
    assert!(long.contains("1000 bytes") && long.contains("160"), "{long}");
    finish(&desk, coordinator, GUESTS_KIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_worker_that_never_reads_loses_its_lease() {
    let desk = Desk::new();
    let waits = ["--min-workers", "2", "--worker-timeout", "1"];
    let coordinator = Coordinator::start(&desk, "run", &[RUN, &waits[..]].concat());
    // room for Welcome, and not for the parameters
    let narrow = Endpoint::from_shared(format!("http://{}", coordinator.address)).expect("address");
    let channel = narrow.initial_stream_window_size(16 << 10).connect().await.expect("connected");
    let slow = Peer::join(channel, "slow").await.expect("let in");
    slow.ready();
    finish(&desk, coordinator, GUESTS_KIB);
    let left = desk.events("run", "worker_left");
    let told = left.iter().any(|event| event["reason"].as_str().is_some_and(|reason| reason.contains("took nothing")));
    assert!(told, "{left:?}");
}
