//! `lockstep report`: runs as one HTML page, and its pictures as files.
//!
//! | file | holds |
//! |---|---|
//! | `run` | what a run's folder says, as far as it can be read |
//! | `samples` | test images and what the run's weights take them for |
//! | `facts`, `differences` | numbers as words; settings in which runs differ |
//! | `curves`, `bars`, `confusion`, `axis` | what is drawn, and where |
//! | `picture`, `gallery` | one picture, all of them |
//! | `markup`, `page` | text that is safe in HTML, the page |

mod axis;
mod bars;
mod confusion;
mod curves;
mod differences;
mod facts;
mod gallery;
mod markup;
mod page;
mod picture;
mod run;
mod samples;

pub use gallery::Gallery;
pub use page::write;
pub use run::{Run, tell_apart};
pub use samples::Sampler;

/// What a page or picture says of itself, and what we know one of ours by.
pub const BY: &str = "lockstep report";
