//! A bad network: a TCP proxy that delays, throttles, cuts and corrupts, on a seeded schedule.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep_proto::keys::{Key, Stream};

/// What goes wrong. The default is a good network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Before each piece of up to 64 KiB, both ways.
    pub delay: Duration,
    /// Each way of each connection.
    pub bytes_per_second: Option<u64>,
    /// Cuts a connection within so many bytes of it, at any.
    pub cut_within: Option<u64>,
    /// Flips a bit within so many bytes of what HTTP/2 frames carry as data.
    pub flip_data_within: Option<u64>,
    /// Flips a bit within so many bytes of HTTP/2 frames' headers, which have nine each.
    pub flip_header_within: Option<u64>,
    /// Cuts and flips in all: after these the network is good.
    pub most: u32,
    pub seed: u32,
}

/// Runs until dropped.
pub struct Proxy {
    pub address: String,
    shared: Arc<Shared>,
}

struct Shared {
    faults: Faults,
    done: AtomicU32,
    over: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub fn start(target: &str, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let shared = Arc::new(Shared {
            faults,
            done: AtomicU32::new(0),
            over: AtomicBool::new(false),
            sockets: Mutex::default(),
        });
        let (theirs, target) = (Arc::clone(&shared), target.to_owned());
        std::thread::spawn(move || {
            for (number, inner) in listener.incoming().map_while(Result::ok).enumerate() {
                if theirs.over.load(Ordering::Relaxed) {
                    return;
                }
                // a coordinator that is gone refuses; so do we
                let Ok(outer) = TcpStream::connect(&target) else { continue };
                for (way, from, to) in [(0, &inner, &outer), (1, &outer, &inner)] {
                    let _ = from.set_nodelay(true);
                    let (from, to) = (from.try_clone().expect("cloned"), to.try_clone().expect("cloned"));
                    theirs.sockets.lock().expect("no panic").push(from.try_clone().expect("cloned"));
                    let shared = Arc::clone(&theirs);
                    std::thread::spawn(move || Pump::new(&shared, number as u32, way).run(&from, &to));
                }
            }
        });
        Self { address, shared }
    }

    /// Cuts and flips so far.
    pub fn faults(&self) -> u32 {
        self.shared.done.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // wakes the listener
        let _ = TcpStream::connect(&self.address);
        for socket in self.shared.sockets.lock().expect("no panic").iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    /// Counts a fault, if there may be one more.
    fn may(&self) -> bool {
        let one_more = |done| (done < self.faults.most).then_some(done + 1);
        self.done.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }
}

/// One way of one connection.
struct Pump<'a> {
    shared: &'a Shared,
    dice: Stream,
    /// Bytes, bytes of data and bytes of headers until the fault.
    cut: Option<u64>,
    flip_data: Option<u64>,
    flip_header: Option<u64>,
    frame: Frame,
}

/// Where in an HTTP/2 connection a byte is.
struct Frame {
    /// Bytes of the client's preface still to come; a server sends none.
    preface: usize,
    header: [u8; 9],
    filled: usize,
    payload: usize,
}

impl<'a> Pump<'a> {
    fn new(shared: &'a Shared, connection: u32, way: u32) -> Self {
        let mut dice = Key::new(u64::from(shared.faults.seed), "proxy", "").stream(connection, way, 0);
        let mut within = |most: Option<u64>| most.map(|most| u64::from(dice.below(most as u32)));
        let faults = &shared.faults;
        let (cut, flip_data) = (within(faults.cut_within), within(faults.flip_data_within));
        let flip_header = within(faults.flip_header_within);
        let preface = if way == 0 { 24 } else { 0 };
        let frame = Frame { preface, header: [0; 9], filled: 0, payload: 0 };
        Self { shared, dice, cut, flip_data, flip_header, frame }
    }

    fn run(mut self, mut from: &TcpStream, mut to: &TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let bytes = &mut buffer[..count];
            self.corrupt(bytes);
            std::thread::sleep(self.shared.faults.delay);
            if let Some(rate) = self.shared.faults.bytes_per_second {
                std::thread::sleep(Duration::from_secs_f64(count as f64 / rate as f64));
            }
            let until_cut = self.cut.filter(|left| *left < count as u64 && self.shared.may());
            let whole = until_cut.map_or(count, |left| left as usize);
            if to.write_all(&bytes[..whole]).is_err() || until_cut.is_some() {
                break;
            }
            self.cut = self.cut.map(|left| left.saturating_sub(count as u64));
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }

    fn corrupt(&mut self, bytes: &mut [u8]) {
        if self.flip_data.is_none() && self.flip_header.is_none() {
            return;
        }
        for byte in bytes {
            let frame = &mut self.frame;
            if frame.preface > 0 {
                frame.preface -= 1;
            } else if frame.payload > 0 {
                frame.payload -= 1;
                // type 0: what a stream carries
                if frame.header[3] == 0 {
                    Self::count(&mut self.flip_data, self.shared, &mut self.dice, byte);
                }
            } else {
                frame.header[frame.filled] = *byte;
                frame.filled += 1;
                if frame.filled == 9 {
                    let [a, b, c, ..] = frame.header;
                    (frame.filled, frame.payload) = (0, u32::from_be_bytes([0, a, b, c]) as usize);
                }
                Self::count(&mut self.flip_header, self.shared, &mut self.dice, byte);
            }
        }
    }

    /// Flips a bit of `byte` if it is the one.
    fn count(left: &mut Option<u64>, shared: &Shared, dice: &mut Stream, byte: &mut u8) {
        match left {
            Some(0) => {
                if shared.may() {
                    *byte ^= 1 << dice.below(8);
                }
                *left = None;
            }
            Some(more) => *more -= 1,
            None => {}
        }
    }
}
