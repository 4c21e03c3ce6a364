//! The arguments of the commands that look at pictures, or draw some: `predict` and `report`.

use std::path::PathBuf;

use clap::Args;

use super::ComputeArgs;
use super::values::{count, threads};

#[derive(Args, Debug)]
pub struct PredictArgs {
    /// A checkpoint of a run, a run's folder, or a model.safetensors
    pub checkpoint: PathBuf,
    /// PNG or JPEG files of any size; resized to 32×32 (bilinear, antialiased) without regard to their shape
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// Classes to show, the likeliest first
    #[arg(long, default_value = "5", value_parser = count)]
    pub top: usize,
    /// The model of a model.safetensors that lies in no run's folder
    #[arg(long)]
    pub model: Option<String>,
    /// Compute threads [default: all cores]
    #[arg(long, value_parser = threads)]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// One line of JSON a picture
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Folders of runs, finished or not
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// The page; an older report there is replaced, another file is not
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    pub out: PathBuf,
    /// Also write every picture as an SVG file of its own into this folder
    #[arg(long, value_name = "DIR")]
    pub pictures: Option<PathBuf>,
    /// Where the runs' images are, if they have moved: they are needed for samples only
    #[arg(long, value_name = "PATH")]
    pub data: Option<String>,
    #[command(flatten)]
    pub compute: ComputeArgs,
}
