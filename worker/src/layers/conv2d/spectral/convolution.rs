//! The three convolutions of a layer: forward, gradient of the input, gradient of the weights.

use super::super::super::kernels::KernelSet;
use super::super::super::window::Window;
use super::super::super::{scratch, simd, sums, threads};
use super::axis::Axis;
use super::correlate::{self, Correlate};
use super::mix::{self, Mix};
use super::planes::{Forward, Frame, Grid, Inverse, Planes};
use super::spectra::Spectra;
use super::weights::{Taps, Transpose};

/// Examples that are transformed before they are multiplied: enough to be worth a kernel's transform, few enough for the
/// memory. A constant, since it decides the bits of the weights' gradient.
const GROUP: usize = 32;
/// Channels to a task of the weights' gradient: its products stay in the second cache.
const CHANNELS: usize = 48;
/// The longest axis: a transform takes N / 4 to N / 2 multiplications a pixel and axis.
const LONGEST: usize = 40;
/// Fewer channels than this leave too much of a register empty and are not worth the transforms.
const FEWEST: usize = 8;

pub(in super::super) struct Spectral {
    set: KernelSet,
    window: Window,
    outputs: usize,
    grid: Grid,
    image: Frame,
    output: Frame,
}

/// Which way a convolution goes.
#[derive(Clone, Copy)]
enum Way {
    Forward,
    InputGradient,
}

/// The axes of a convolution that is best done here. The number of examples has no say in it: an example's bits must not
/// depend on it.
fn axes(window: &Window, outputs: usize) -> Option<(Axis, Axis)> {
    let &Window { channels, height, width, kernel, stride, padding, out_height, out_width, .. } = window;
    let longest = height.max(width).checked_add(padding)?;
    let fits = stride == 1 && matches!(kernel, 3 | 5 | 7) && padding < kernel && longest <= LONGEST;
    if !fits || channels.min(outputs) < FEWEST || channels.max(outputs) < 2 * FEWEST {
        return None;
    }
    // multiplications of forward and backward for a place: four for each frequency, channel and output, three times; and
    // two transforms of half as many terms as places, three times for each channel, twice for each output
    let (mixing, transforms) = (12 * channels * outputs, 3 * channels + 2 * outputs);
    let axis = |size: usize| Axis::new((size + padding).max(kernel), mixing, transforms);
    let (y, x) = (axis(height), axis(width));
    // four multiplications a frequency, and half as many again for the transforms
    let frequencies = y.size * x.real_frequencies();
    (6 * frequencies <= kernel * kernel * out_height * out_width).then_some((y, x))
}

impl Spectral {
    /// Whether [`Self::new`] gives one.
    pub(in super::super) fn fits(window: &Window, outputs: usize) -> bool {
        axes(window, outputs).is_some()
    }

    /// None where another way is better.
    pub(in super::super) fn new(set: KernelSet, window: Window, outputs: usize) -> Option<Self> {
        let (y, x) = axes(&window, outputs)?;
        let grid = Grid::new(y, x);
        let Window { height, width, kernel, padding, out_height, out_width, .. } = window;
        let image = Frame::new(&grid, (height, width), 0);
        // kernels lie around place 0: the output moves instead
        let offset = (kernel / 2) as isize - padding as isize;
        let output = Frame::new(&grid, (out_height, out_width), offset);
        Some(Self { set, window, outputs, grid, image, output })
    }

    /// y = weight ⋆ x (+ bias).
    pub(in super::super) fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        let (channels, outputs) = (self.window.channels, self.outputs);
        self.with_taps(weight, Way::Forward, |taps| {
            for group in self.groups() {
                let x =
                    &x[group.start * channels * self.window.plane()..][..group.len() * channels * self.window.plane()];
                let plane = self.window.out_plane();
                let y = &mut y[group.start * outputs * plane..][..group.len() * outputs * plane];
                self.with_spectra(group.len(), channels, |from| {
                    self.with_spectra(group.len(), outputs, |to| {
                        self.transform(&self.image, x, from);
                        self.mix(Way::Forward, taps, from, to);
                        self.transform_back(&self.output, to, bias, y);
                    });
                });
            }
        });
    }

    /// (dx if `weight` is given, dweight, dbias)
    pub(in super::super) fn backward(
        &self,
        x: &[f32],
        weight: Option<&[f32]>,
        dy: &[f32],
    ) -> (Option<Vec<f32>>, Vec<f32>, Vec<f32>) {
        let w = &self.window;
        let (channels, outputs) = (w.channels, self.outputs);
        let mut dx = weight.map(|_| vec![0.0; w.examples * channels * w.plane()]);
        let mut sums = self.tasks();
        self.with_taps(weight.unwrap_or(&[]), Way::InputGradient, |taps| {
            for group in self.groups() {
                let (example, out_example) = (channels * w.plane(), outputs * w.out_plane());
                let x = &x[group.start * example..][..group.len() * example];
                let dy = &dy[group.start * out_example..][..group.len() * out_example];
                self.with_spectra(group.len(), outputs, |gradients| {
                    self.transform(&self.output, dy, gradients);
                    self.with_spectra(group.len(), channels, |images| {
                        if let Some(dx) = &mut dx {
                            self.mix(Way::InputGradient, taps, gradients, images);
                            let dx = &mut dx[group.start * example..][..group.len() * example];
                            self.transform_back(&self.image, images, None, dx);
                        }
                        self.transform(&self.image, x, images);
                        self.correlate(images, gradients, &mut sums);
                    });
                });
            }
        });
        (dx, self.collect(sums), self.bias_gradient(dy))
    }

    fn groups(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let examples = self.window.examples;
        (0..examples).step_by(GROUP).map(move |first| first..examples.min(first + GROUP))
    }

    fn lanes(&self, channels: usize) -> usize {
        channels.next_multiple_of(simd::lanes(self.set))
    }

    /// Channels that a task multiplies at once.
    fn block(&self) -> usize {
        simd::lanes(self.set) * if self.set == KernelSet::V4 { 2 } else { 1 }
    }

    fn with_spectra(&self, examples: usize, channels: usize, body: impl FnOnce(Spectra)) {
        let (frequencies, lanes) = (self.grid.frequencies(), self.lanes(channels));
        scratch::with(Spectra::len(frequencies, examples, lanes), |memory| {
            body(Spectra::new(memory, frequencies, examples, channels, lanes));
        });
    }

    /// The weights tap by tap, with the channels of the result side by side.
    fn with_taps(&self, weight: &[f32], way: Way, body: impl FnOnce(&[f32])) {
        let (channels, outputs, area) = (self.window.channels, self.outputs, self.window.kernel * self.window.kernel);
        if weight.is_empty() {
            return body(&[]);
        }
        let (parts, rows, from_step, columns) = match way {
            Way::Forward => (1, outputs, channels * area, channels * area),
            Way::InputGradient => (outputs, channels, area, area),
        };
        let to_step = self.lanes(rows);
        let part = to_step * columns;
        scratch::with(parts * part, |taps| {
            threads::for_each_chunk(taps, part, |i, to| {
                let from = &weight[i * channels * area..];
                simd::run(self.set, Transpose { from, rows, from_step, columns, to, to_step });
            });
            body(taps);
        });
    }

    /// Calls `work` with each example, first channel and count of channels that fill a register.
    fn each_register(&self, spectra: &Spectra, work: impl Fn(usize, usize, usize) + Sync + Send) {
        let lanes = simd::lanes(self.set);
        let blocks = spectra.channels.div_ceil(lanes);
        threads::map(spectra.examples * blocks, |task| {
            let (example, first) = (task / blocks, task % blocks * lanes);
            work(example, first, lanes.min(spectra.channels - first));
        });
    }

    fn transform(&self, frame: &Frame, images: &[f32], to: Spectra) {
        let plane = frame.height * frame.width;
        self.each_register(&to, |example, first, channels| {
            let image = &images[(example * to.channels + first) * plane..][..channels * plane];
            let (grid, spectrum) = (&self.grid, to.spectrum(example, first));
            scratch::with(self.grid.memory(frame, simd::lanes(self.set)), |memory| {
                let planes = Planes { grid, frame, channels, spectrum, memory };
                simd::run(self.set, Forward { planes, image });
            });
        });
    }

    fn transform_back(&self, frame: &Frame, from: Spectra, bias: Option<&[f32]>, images: &mut [f32]) {
        let (plane, lanes) = (frame.height * frame.width, simd::lanes(self.set));
        threads::for_each_chunk(images, from.channels * plane, |example, images| {
            for (block, image) in images.chunks_mut(lanes * plane).enumerate() {
                let (first, channels) = (block * lanes, image.len() / plane);
                let (grid, spectrum) = (&self.grid, from.spectrum(example, first));
                let bias = bias.map(|bias| &bias[first..first + channels]);
                scratch::with(self.grid.memory(frame, lanes), |memory| {
                    let planes = Planes { grid, frame, channels, spectrum, memory };
                    simd::run(self.set, Inverse { planes, bias, image });
                });
            }
        });
    }

    fn mix(&self, way: Way, taps: &[f32], from: Spectra, to: Spectra) {
        // forward is a correlation, the way back a convolution
        let sign = match way {
            Way::Forward => 1.0,
            Way::InputGradient => -1.0,
        };
        let (kernel, block) = (self.window.kernel, self.block());
        let (x, y) =
            (Taps::all(&self.grid.x, kernel / 2, (1.0, sign)), Taps::all(&self.grid.y, kernel / 2, (1.0, sign)));
        let blocks = to.lanes.div_ceil(block);
        threads::map(self.grid.x.real_frequencies() * blocks, |task| {
            let (column, first) = (task / blocks, task % blocks * block);
            let (axis, frequency, x, y) = (&self.grid.y, self.grid.x.frequency(column), &x[column], &y[..]);
            scratch::with(mix::memory(axis, from.channels, block), |memory| {
                simd::run(self.set, Mix { kernel, axis, column, frequency, x, y, taps, from, to, first, memory });
            });
        });
    }

    /// Channels and outputs of each task of the weights' gradient, and its sums.
    fn tasks(&self) -> Vec<Task> {
        let area = self.window.kernel * self.window.kernel;
        let (lanes, block) = (self.lanes(self.outputs), self.block());
        let (channels, parts) = (self.window.channels, self.window.channels.div_ceil(CHANNELS));
        let task = |first: usize, part: usize| {
            let channels = part * channels / parts..(part + 1) * channels / parts;
            let sums = vec![0.0; channels.len() * area * block.min(lanes - first)];
            Task { channels, first, sums }
        };
        (0..lanes).step_by(block).flat_map(|first| (0..parts).map(move |part| task(first, part))).collect()
    }

    fn correlate(&self, images: Spectra, gradients: Spectra, tasks: &mut [Task]) {
        let kernel = self.window.kernel;
        let size = (self.grid.x.size * self.grid.y.size) as f64;
        // a frequency with a conjugate that is not among these counts for both
        let weight = |at| if self.grid.x.frequency(at).1 == 0 { 1.0 / size } else { 2.0 / size };
        let frequencies = 0..self.grid.x.real_frequencies();
        let middle: Vec<_> = frequencies.clone().map(|at| weight(at) as f32).collect();
        let taps = |at| Taps::new(&self.grid.x, self.grid.x.frequency(at), kernel / 2, (weight(at), 1.0));
        let x: Vec<_> = frequencies.map(taps).collect();
        let y = Taps::all(&self.grid.y, kernel / 2, (1.0, 1.0));
        threads::for_each_chunk(tasks, 1, |_, tasks| {
            for Task { channels, first, sums } in tasks {
                let (axis, x_axis) = (&self.grid.y, &self.grid.x);
                let (x, y, middle) = (&x[..], &y[..], &middle[..]);
                let (channels, first) = (channels.clone(), *first);
                scratch::with(correlate::memory(axis, channels.len(), self.block()), |memory| {
                    let task = Correlate {
                        kernel,
                        axis,
                        x_axis,
                        x,
                        middle,
                        y,
                        images,
                        gradients,
                        channels,
                        first,
                        sums,
                        memory,
                    };
                    simd::run(self.set, task);
                });
            }
        });
    }

    /// The tasks' sums as a tensor (out, in, k, k).
    fn collect(&self, tasks: Vec<Task>) -> Vec<f32> {
        let (channels, area) = (self.window.channels, self.window.kernel * self.window.kernel);
        let mut weight = vec![0.0; self.outputs * channels * area];
        for Task { channels: range, first, sums } in tasks {
            let rows = range.len() * area;
            let (from_step, columns) = (sums.len() / rows, (sums.len() / rows).min(self.outputs - first));
            let (to, to_step) = (&mut weight[(first * channels + range.start) * area..], channels * area);
            simd::run(self.set, Transpose { from: &sums, rows, from_step, columns, to, to_step });
        }
        weight
    }

    fn bias_gradient(&self, dy: &[f32]) -> Vec<f32> {
        let plane = self.window.out_plane();
        threads::map(self.outputs, |o| {
            let planes = dy.chunks(plane).skip(o).step_by(self.outputs);
            planes.map(|plane| sums::sum(self.set, plane)).sum::<f64>() as f32
        })
    }
}

/// A part of the weights' gradient.
struct Task {
    channels: std::ops::Range<usize>,
    first: usize,
    sums: Vec<f32>,
}
