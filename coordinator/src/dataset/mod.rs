//! Labelled 32×32 colour images: from whatever layout the user has to canonical records in memory.
//!
//! | file | holds |
//! |---|---|
//! | `load` | what was asked for, and the order in which places are looked at |
//! | `layout` | which layout a path has |
//! | `batches`, `binary`, `python`, `pickle`, `archive` | the official layouts, as folders and archives |
//! | `parquet`, `folder`, `picture`, `jpeg` | Hugging Face's files, folders of PNG and JPEG files |
//! | `download`, `cache` | the official archive, and what is kept of it |
//! | `builtin`, `shapes` | the procedural set |
//! | `set`, `known`, `statistics` | a loaded set, its name and its numbers |
//! | `select` | subsets and the validation split |

mod archive;
mod batches;
mod binary;
mod builtin;
mod cache;
mod download;
mod error;
mod folder;
mod jpeg;
mod known;
mod layout;
mod load;
mod parquet;
mod pickle;
pub mod picture;
mod progress;
mod python;
mod select;
mod set;
mod shapes;
mod statistics;

pub use builtin::{CLASSES as BUILTIN_CLASSES, NAME as BUILTIN};
pub use error::DataError;
pub use known::CIFAR10_CLASSES;
pub use load::{DataRequest, Source, load};
pub use lockstep_proto::records::{PIXELS, Records, Split};
pub use progress::{Progress, Silent};
pub use select::{Selection, select};
pub use set::Dataset;
pub use statistics::{channel_moments, class_counts};

#[cfg(test)]
mod tests;
