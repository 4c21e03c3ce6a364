//! Walks a list of layers: names and numbers each, hands it to the rules, and keeps the tensors that they declare.

use std::collections::HashMap;

use lockstep_proto::recipe::model::LayerSpec;
use lockstep_proto::schema::Kind;

use super::Shape;
use super::init::Init;
use super::layer::{Layer, Op, Slot};
use super::plan::Tensor;
use super::rules::{self, Planned};
use super::shape::product;

/// Values of all tensors together: 4 GiB of f32. Beyond it the flat vector is a slip of the pen, not a CIFAR model.
const MOST_WEIGHTS: usize = 1 << 30;

/// Layers of a model, inner ones included. The deepest networks that anybody trained on CIFAR have some 4,000.
const MOST_LAYERS: usize = 10_000;

/// Bytes of a layer's name. Each layer keeps its own, and the places of inner ones hold those around them.
const LONGEST_NAME: usize = 128;

/// What is declared while the layers are walked.
#[derive(Default)]
pub(super) struct Planner {
    /// In the order of declaration; their ranges are not known yet.
    pub(super) tensors: Vec<Tensor>,
    weights: usize,
    /// Each layer's tensor name and its place: no two layers may share tensors or dropout masks.
    names: HashMap<String, String>,
}

/// A place and a problem.
type Mistake = (String, String);

impl Planner {
    /// Plans a list of layers; `base` is what tensor names begin with, `outer` the residual that the list is in.
    pub(super) fn chain(
        &mut self,
        specs: &[LayerSpec],
        input: Shape,
        base: &str,
        outer: Option<(&str, &str)>,
    ) -> Result<(Vec<Layer>, Shape), Mistake> {
        let mut layers = Vec::with_capacity(specs.len());
        let mut shape = input;
        // the prefix of the nn.Sequential that the layer is in, and its index there
        let (mut prefix, mut index) = (base.to_owned(), 0);
        for (at, spec) in specs.iter().enumerate() {
            let own = spec.prefix.as_ref();
            // before it is copied into a name and a place
            if let Some(long) = own.into_iter().chain([&prefix]).find(|prefix| prefix.len() > LONGEST_NAME) {
                let (kind, length) = (spec.kind.name(), long.len());
                let place = outer.map_or_else(String::new, |(place, _)| format!("{place}, inner "));
                let problem = format!("its prefix has {length} bytes; at most {LONGEST_NAME}: shorten it");
                return Err((format!("{place}layer {at} ({kind})"), problem));
            }
            if let Some(own) = own {
                // within a residual a prefix is an attribute of that module
                (prefix, index) = (if outer.is_some() { join(base, own) } else { own.clone() }, 0);
            }
            let name = join(&prefix, &index.to_string());
            let layer = self.layer(spec, at, name, shape, outer)?;
            shape = layer.output;
            layers.push(layer);
            index += 1;
        }
        Ok((layers, shape))
    }

    fn layer(
        &mut self,
        spec: &LayerSpec,
        at: usize,
        name: String,
        input: Shape,
        outer: Option<(&str, &str)>,
    ) -> Result<Layer, Mistake> {
        let kind = &spec.kind;
        let (place, number) = match outer {
            None => (format!("layer {at} ({}, {name})", kind.name()), at.to_string()),
            Some((place, number)) => {
                (format!("{place}, inner layer {at} ({}, {name})", kind.name()), format!("{number}.{at}"))
            }
        };
        let named = |problem: String| (place.clone(), problem);
        check_name(&name).map_err(named)?;
        if self.names.len() == MOST_LAYERS {
            return Err(named(format!("it is one more than {MOST_LAYERS}, which a model has at most")));
        }
        if let Some(taken) = self.names.insert(name.clone(), place.clone()) {
            return Err(named(format!(
                "the name {name:?} is already that of {taken}: give one of them another prefix"
            )));
        }
        let first = self.tensors.len();
        let planned = match rules::inner(kind) {
            None => rules::plan(kind, input, &mut Declare { planner: self, layer: &name }).map_err(named)?,
            Some(inner) => {
                let (layers, output) = self.chain(inner, input, &name, Some((&place, &number)))?;
                if layers.is_empty() {
                    return Err(named("`layers` is empty: x + x is not a layer".to_owned()));
                }
                if output != input {
                    let problem = format!("x + inner(x) needs one shape, but x is {input} and inner(x) is {output}");
                    return Err(named(problem + ": change the last inner layers"));
                }
                let multiply_adds = layers.iter().map(|layer| layer.multiply_adds).sum();
                Planned { op: Op::Residual { layers }, output, multiply_adds, summary: "residual".to_owned() }
            }
        };
        let Planned { op, output, multiply_adds, summary } = planned;
        let values = output.bounded_len().ok_or_else(|| named(format!("the output {output} is beyond all bounds")))?;
        if values == 0 {
            return Err(named(format!("nothing is left of {input}: the output is {output}")));
        }
        let own = self.tensors[first..].iter().filter(|tensor| tensor.kind == Kind::Parameter);
        let parameters = own.map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        Ok(Layer { place, number, name, summary, op, output, parameters, multiply_adds })
    }
}

/// Lets the rules of one layer declare its tensors.
pub(super) struct Declare<'a> {
    planner: &'a mut Planner,
    layer: &'a str,
}

impl Declare<'_> {
    /// A trained tensor.
    pub(super) fn parameter(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Slot, String> {
        self.tensor(name, shape, Kind::Parameter, init)
    }

    /// A running statistic, which starts at `value`.
    pub(super) fn buffer(&mut self, name: &str, shape: &[usize], momentum: f64, value: f32) -> Result<Slot, String> {
        self.tensor(name, shape, Kind::Buffer { momentum }, Init::Constant(value))
    }

    fn tensor(&mut self, name: &str, shape: &[usize], kind: Kind, init: Init) -> Result<Slot, String> {
        let weights = product(shape).map_or(usize::MAX, |len| len.saturating_add(self.planner.weights));
        if weights > MOST_WEIGHTS {
            return Err(format!("its {name} of shape {shape:?} is beyond all bounds: make the layer smaller"));
        }
        self.planner.weights = weights;
        let name = format!("{}.{name}", self.layer);
        // the range is known when all tensors are
        self.planner.tensors.push(Tensor { name, shape: shape.to_vec(), range: 0..0, kind, init });
        Ok(self.planner.tensors.len() - 1)
    }
}

/// `a.b`, where either may be empty.
fn join(a: &str, b: &str) -> String {
    match (a, b) {
        ("", name) | (name, "") => name.to_owned(),
        (a, b) => format!("{a}.{b}"),
    }
}

/// Names become attributes of PyTorch modules and keys of files: dotted words of letters, digits and underscores.
fn check_name(name: &str) -> Result<(), String> {
    let word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if name.split('.').all(word) {
        return Ok(());
    }
    Err(format!(
        "the name {name:?} can't be a PyTorch module's: write a prefix of letters, digits, `_` and single dots"
    ))
}
