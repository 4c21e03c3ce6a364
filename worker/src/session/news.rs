//! What a worker has to tell whoever started it.

use std::time::Duration;

/// Told of what happens to a worker, on its network thread.
pub type OnNews = Box<dyn Fn(&News) + Send + Sync>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It has joined a run and has all that it needs. `again`: it is the run that it was lost to.
    Joined { joined: Joined, again: bool },
    /// Its coordinator can't be reached: said once, then it tries again and again until `deadline` is over. `lost`: it had one.
    Looking { address: String, lost: bool, reason: String, deadline: Duration },
}

/// The run that a worker has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub run: String,
    pub model: String,
    /// Training and test images.
    pub images: (usize, usize),
    pub data_hash: String,
}
