//! A wire between a worker and its coordinator that a test can cut, and join again.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const FLOWS: u8 = 0;
const SILENT: u8 = 1;
const CUT: u8 = 2;

/// Forwards connections to one address.
pub struct Wire {
    pub address: String,
    shared: Arc<Shared>,
}

struct Shared {
    target: String,
    state: AtomicU8,
    /// Both ends of every connection by number, to be cut.
    open: Mutex<BTreeMap<u64, [TcpStream; 2]>>,
    next: AtomicU64,
}

impl Wire {
    pub fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("address").to_string();
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            state: AtomicU8::new(FLOWS),
            open: Mutex::default(),
            next: AtomicU64::new(0),
        });
        let theirs = Arc::clone(&shared);
        // lives as long as the test process: nobody waits for it
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                theirs.forward(near);
            }
        });
        Self { address, shared }
    }

    /// Connections break, and no new one comes to anything.
    pub fn cut(&self) {
        self.shared.state.store(CUT, Ordering::SeqCst);
        for end in self.shared.open.lock().expect("no panic").values().flatten() {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Nothing arrives any more, in either direction, and nobody is told. What is sent meanwhile arrives late.
    pub fn silence(&self) {
        self.shared.state.store(SILENT, Ordering::SeqCst);
    }

    pub fn heal(&self) {
        self.shared.state.store(FLOWS, Ordering::SeqCst);
    }
}

impl Shared {
    fn forward(self: &Arc<Self>, near: TcpStream) {
        // dropped otherwise: the worker sees its connection end
        if self.state.load(Ordering::SeqCst) != CUT
            && let Ok(far) = TcpStream::connect(&self.target)
            && let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone())
            && let (Ok(near_end), Ok(far_end)) = (near.try_clone(), far.try_clone())
        {
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            self.open.lock().expect("no panic").insert(number, [near_end, far_end]);
            for (from, to) in [(near, far_too), (far, near_too)] {
                let shared = Arc::clone(self);
                std::thread::spawn(move || {
                    shared.copy(from, to);
                    shared.open.lock().expect("no panic").remove(&number);
                });
            }
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut bytes) {
            self.wait_while_silent();
            if to.write_all(&bytes[..n]).is_err() {
                break;
            }
        }
        // the end of a connection is word, too
        self.wait_while_silent();
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    fn wait_while_silent(&self) {
        while self.state.load(Ordering::SeqCst) == SILENT {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
