//! The real executable, in private folders: what a user types, and what comes of it.

mod advance;
mod bad_answers;
mod bad_input;
mod chaos;
mod disk;
mod exactness;
mod faults;
#[cfg(feature = "cuda")]
mod gpu;
mod load;
mod map;
mod models;
#[cfg(feature = "nccl")]
mod nccl;
mod network;
mod own_steps;
mod predict;
mod real_images;
mod recipes;
mod reconnect;
mod report;
mod reproduce;
mod resume;
mod roles;
mod support;
mod suspects;
mod train;
