//! The real executable, in private folders: what a user types, and what comes of it.

mod bad_input;
mod exactness;
mod faults;
mod map;
mod real_images;
mod resume;
mod roles;
mod support;
mod suspects;
mod train;
