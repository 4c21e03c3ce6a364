//! Everything that touches pixels and candle.
//!
//! [`work`] joins a coordinator and computes what it is given; [`gradient`](mod@gradient) and [`evaluate`](mod@evaluate)
//! are what it computes, with no network in sight. [`predict`](mod@predict) is for whoever asks about single images.

#[cfg(feature = "cuda")]
pub mod cuda;
pub mod dataset;
pub mod device;
mod error;
pub mod evaluate;
pub mod gradient;
pub mod layers;
pub mod model;
mod node;
pub mod predict;
mod ring;
mod session;

pub use error::WorkerError;
pub use session::{Farewell, Joined, News, Settings, work};
