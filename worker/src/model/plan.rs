//! From a model file's layer list to layers of known sizes. Every mistake in a model is found here, before anything runs.

use std::collections::HashMap;
use std::ops::Range;

use lockstep_proto::recipe::model::ModelSpec;
use lockstep_proto::schema::{Kind, Schema, TensorSpec};

use super::init::Init;
use super::layer::{Layer, Op};
use super::planner::Planner;
use super::{ModelError, Shape};

/// A checked network: its layers, its tensors and where they lie in the flat vector.
#[derive(Clone, Debug)]
pub struct Model {
    name: String,
    source: String,
    input: Shape,
    classes: usize,
    layers: Vec<Layer>,
    schema: Schema,
    tensors: Vec<Tensor>,
}

/// A tensor as its layer declares it.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// Where it lies in the flat vector.
    pub(crate) range: Range<usize>,
    pub(crate) kind: Kind,
    pub(super) init: Init,
}

impl Model {
    /// Checks `spec` on images of `input` = \[channels, height, width\] and infers every size that it leaves out.
    ///
    /// # Errors
    /// The first layer that does not fit what comes before it, by number, type and tensor name.
    pub fn new(spec: &ModelSpec, input: [usize; 3], classes: usize) -> Result<Self, ModelError> {
        let error = |(place, problem)| ModelError { model: spec.name.clone(), place, problem };
        let whole = |problem: String| error(("as a whole".to_owned(), problem));
        let [channels, height, width] = input;
        let image = Shape::Image { channels, height, width };
        if image.bounded_len().unwrap_or(0) == 0 {
            return Err(whole(format!("the input {image} is empty or beyond all bounds")));
        }
        let mut planner = Planner::default();
        let (layers, output) = planner.chain(&spec.layers, image, &spec.prefix, None).map_err(error)?;
        check_end(spec, layers.last(), output, classes).map_err(error)?;
        let specs = planner.tensors.iter().map(|tensor| TensorSpec {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            kind: tensor.kind,
        });
        let schema = Schema::new(specs.collect()).map_err(|duplicate| whole(duplicate.to_string()))?;
        // a search for each would take seconds where there are thousands
        let ranges: HashMap<&str, Range<usize>> =
            schema.iter().map(|(spec, range)| (spec.name.as_str(), range)).collect();
        let mut tensors = planner.tensors;
        for tensor in &mut tensors {
            let range = ranges.get(tensor.name.as_str()).cloned();
            tensor.range = range.ok_or_else(|| whole(format!("{} got lost", tensor.name)))?;
        }
        let (name, source) = (spec.name.clone(), spec.source.clone());
        Ok(Self { name, source, input: image, classes, layers, schema, tensors })
    }

    /// The name that the file gives.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the file says that the network comes from; may be empty.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// One example's shape.
    #[must_use]
    pub fn input(&self) -> Shape {
        self.input
    }

    /// How many logits an example gets.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// All tensors, named as PyTorch's `state_dict` names them, and their places in the flat vector.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Where the first BatchNorm stands, if any, that has a single value of each channel in an example (1×1 places, or a
    /// vector): a shard of one example gives it no variance.
    #[must_use]
    pub fn norm_of_single_values(&self) -> Option<&str> {
        find_norm(&self.layers)
    }

    /// Tensors in the order of declaration: a [`Slot`] is an index here.
    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
    }
}

fn find_norm(layers: &[Layer]) -> Option<&str> {
    layers.iter().find_map(|layer| match (&layer.op, layer.output) {
        (Op::Residual { layers, .. }, _) => find_norm(layers),
        (Op::BatchNorm { .. }, Shape::Vector { .. } | Shape::Image { height: 1, width: 1, .. }) => Some(&layer.place),
        _ => None,
    })
}

/// The chain must end in one logit a class.
fn check_end(spec: &ModelSpec, last: Option<&Layer>, output: Shape, classes: usize) -> Result<(), (String, String)> {
    let ending = match output {
        Shape::Vector { features } if features == classes && classes > 0 => return Ok(()),
        Shape::Vector { .. } => format!("{{ type = \"linear\", out_features = {classes} }}"),
        Shape::Image { .. } => {
            format!("{{ type = \"flatten\" }} and {{ type = \"linear\", out_features = {classes} }}")
        }
    };
    let Some(last) = last else {
        return Err(("as a whole".to_owned(), "`layers` is empty: a model has at least one layer".to_owned()));
    };
    if classes == 0 {
        return Err(("as a whole".to_owned(), format!("the data of {:?} have no classes to tell apart", spec.name)));
    }
    let problem =
        format!("the last layer gives {output} an example; {classes} classes need {classes} logits: end with {ending}");
    Err((last.place.clone(), problem))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) const LENET_DROPOUT_BN: &str = include_str!("../../../recipes/models/lenet-dropout-bn.toml");
    const LENET_DROPOUT: &str = include_str!("../../../recipes/models/lenet-dropout.toml");
    const LENET: &str = include_str!("../../../recipes/models/lenet.toml");

    fn plan(text: &str) -> Result<Model, ModelError> {
        let text = if text.contains("name =") { text.to_owned() } else { format!("name = \"m\"\n{text}") };
        Model::new(&ModelSpec::parse(&text, "test").expect("a readable file"), [3, 32, 32], 10)
    }

    pub(crate) fn model(text: &str) -> Model {
        plan(text).expect("a model that fits")
    }

    fn names(text: &str) -> Vec<String> {
        model(text).tensors().iter().map(|tensor| tensor.name.clone()).collect()
    }

    /// Oracle: `list(state_dict())` of the seed's classes (`self.net = nn.Sequential(…)`), less `num_batches_tracked`.
    #[test]
    fn lenets_have_pytorchs_names_and_shapes() {
        let conv = ["net.0.weight", "net.0.bias", "net.3.weight", "net.3.bias"];
        let tail = |numbers: [usize; 3]| {
            numbers.into_iter().flat_map(|n| [format!("net.{n}.weight"), format!("net.{n}.bias")]).collect::<Vec<_>>()
        };
        let statistics = ["net.4.weight", "net.4.bias", "net.4.running_mean", "net.4.running_var"];
        assert_eq!(names(LENET), [&conv.map(str::to_owned)[..], &tail([7, 9, 11])].concat());
        assert_eq!(names(LENET_DROPOUT), [&conv.map(str::to_owned)[..], &tail([7, 10, 12])].concat());
        let with_bn = [&conv.map(str::to_owned)[..], &statistics.map(str::to_owned), &tail([8, 11, 13])].concat();
        assert_eq!(names(LENET_DROPOUT_BN), with_bn);
        let shapes: Vec<Vec<usize>> = model(LENET).tensors().iter().map(|tensor| tensor.shape.clone()).collect();
        let expected: [&[usize]; 10] =
            [&[6, 3, 5, 5], &[6], &[16, 6, 5, 5], &[16], &[120, 400], &[120], &[84, 120], &[84], &[10, 84], &[10]];
        assert_eq!(shapes, expected);
        assert_eq!(model(LENET).schema().parameters(), 62_006);
        let schema = model(LENET_DROPOUT_BN).schema().clone();
        assert_eq!((schema.parameters(), schema.len()), (62_038, 62_070));
        assert_eq!(schema.tensors()[12].kind, Kind::Buffer { momentum: 0.1 });
    }

    /// Oracle: parameters, buffers and the names of weights of the same classes in PyTorch (tests/oracle/load_weights.py), counted
    /// and listed there.
    #[test]
    fn the_other_models_fit_and_have_pytorchs_counts_and_names() {
        let all = |prefix: &str, numbers: &[usize]| -> Vec<String> {
            numbers.iter().map(|number| format!("{prefix}.{number}.weight")).collect()
        };
        let (features, classifier) = (all("feature_extractor", &[0, 3, 5]), |n: &[usize]| all("classifier", n));
        let convnet = [0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16, 18, 21, 23, 25];
        let convolutions = all("conv_layer", &[0, 1, 3, 6, 7, 9, 13, 14, 16]);
        for (text, parameters, buffers, weights) in [
            (include_str!("../../../recipes/models/lenet-4x4.toml"), 60_980, 0, all("net", &[0, 3, 7, 9, 11])),
            (
                include_str!("../../../recipes/models/lenet-bn-leaky.toml"),
                62_050,
                44,
                all("net", &[0, 1, 4, 5, 9, 11, 13]),
            ),
            (
                include_str!("../../../recipes/models/lenet5.toml"),
                65_156,
                0,
                [features.clone(), classifier(&[0, 2, 4])].concat(),
            ),
            (
                include_str!("../../../recipes/models/lenet5-dropout.toml"),
                65_156,
                0,
                [features, classifier(&[0, 3, 6])].concat(),
            ),
            (include_str!("../../../recipes/models/base.toml"), 418_908, 0, all("net", &[0, 3, 5, 9, 11, 13])),
            (include_str!("../../../recipes/models/base-dropout.toml"), 418_908, 0, all("net", &[0, 3, 5, 10, 13, 16])),
            (include_str!("../../../recipes/models/convnet.toml"), 1_334_624, 1_200, all("model", &convnet)),
            (
                include_str!("../../../recipes/models/convnet-bn4.toml"),
                1_333_624,
                200,
                all("model", &[0, 2, 4, 6, 7, 9, 11, 13, 16, 18, 20]),
            ),
            (
                include_str!("../../../recipes/models/net6.toml"),
                5_852_170,
                832,
                [convolutions, all("fc_layer", &[1, 3, 6])].concat(),
            ),
        ] {
            let model = model(text);
            let schema = model.schema();
            assert_eq!((schema.parameters(), schema.len() - schema.parameters()), (parameters, buffers), "{text}");
            let found = names(text).into_iter().filter(|name| name.ends_with(".weight"));
            assert_eq!(found.collect::<Vec<_>>(), weights);
        }
    }

    #[test]
    fn a_prefix_starts_a_new_sequential_and_residuals_nest() {
        let text = r#"
            prefix = "features"
            layers = [
              { type = "conv", out_channels = 4, kernel_size = 3, padding = 1, bias = false },
              { type = "residual", layers = [
                { type = "conv", out_channels = 4, kernel_size = 1 },
                { prefix = "tail", type = "relu" },
                { type = "conv", out_channels = 4, kernel_size = 3, padding = 1, bias = false },
              ] },
              { type = "max_pool", kernel_size = 32 },
              { type = "flatten" },
              { prefix = "head", type = "linear", out_features = 5 },
              { type = "linear", out_features = 10 },
            ]"#;
        let expected = [
            "features.0.weight",
            "features.1.0.weight",
            "features.1.0.bias",
            "features.1.tail.1.weight",
            "head.0.weight",
            "head.0.bias",
            "head.1.weight",
            "head.1.bias",
        ];
        assert_eq!(names(text), expected);
        assert_eq!(
            model(text).rows().iter().map(|row| row.place.as_str()).collect::<Vec<_>>(),
            ["0", "1", "1.0", "1.1", "1.2", "2", "3", "4", "5"]
        );
    }

    #[test]
    fn mistakes_name_the_layer_the_number_and_the_way_out() {
        let relu = r#"{ type = "relu" }"#;
        let error =
            |layers: &str| plan(&format!("prefix = \"net\"\nlayers = [{layers}]")).expect_err(layers).to_string();
        for (layers, wanted) in [
            (
                format!("{relu}, {{ type = \"conv\", out_channels = 6, kernel_size = 35 }}"),
                "model \"m\", layer 1 (conv, net.1): kernel 35 does not fit input 3×32×32 with padding 0: use a kernel of at most 32",
            ),
            ("{ type = \"conv\", out_channels = 0, kernel_size = 3 }".into(), "out_channels is 0"),
            ("{ type = \"conv\", out_channels = 6, kernel_size = 0 }".into(), "kernel_size is 0"),
            ("{ type = \"conv\", out_channels = 6, kernel_size = 3, stride = 0 }".into(), "stride is 0"),
            ("{ type = \"conv\", out_channels = 6, kernel_size = 3, padding = 9223372036854775807 }".into(), "padding"),
            ("{ type = \"conv\", out_channels = 99999999, kernel_size = 3 }".into(), "layer 0 (conv, net.0)"),
            ("{ type = \"max_pool\", kernel_size = 2, padding = 2 }".into(), "padding 2 is more than half of kernel 2"),
            ("{ type = \"max_pool\", kernel_size = 33 }".into(), "kernel 33 does not fit input 3×32×32"),
            ("{ type = \"linear\", out_features = 10 }".into(), "put { type = \"flatten\" } before it"),
            (
                "{ type = \"flatten\" }, { type = \"linear\", out_features = 0 }".into(),
                "layer 1 (linear, net.1): out_features is 0",
            ),
            ("{ type = \"flatten\" }, { type = \"linear\", out_features = 9999999999 }".into(), "beyond all bounds"),
            ("{ type = \"flatten\" }, { type = \"conv\", out_channels = 1, kernel_size = 1 }".into(), "needs an image"),
            ("{ type = \"flatten\" }, { type = \"dropout2d\" }".into(), "needs an image"),
            ("{ type = \"dropout\", p = 1.0 }".into(), "p is 1"),
            ("{ type = \"dropout2d\", p = -0.1 }".into(), "p is -0.1"),
            ("{ type = \"dropout\", p = nan }".into(), "p is NaN"),
            ("{ type = \"batch_norm\", eps = 0 }".into(), "eps is 0"),
            ("{ type = \"batch_norm\", momentum = 1.5 }".into(), "momentum is 1.5"),
            ("{ type = \"leaky_relu\", negative_slope = inf }".into(), "negative_slope is inf"),
            (
                "{ type = \"residual\", layers = [{ type = \"conv\", out_channels = 3, kernel_size = 3 }] }".into(),
                "layer 0 (residual, net.0): x + inner(x) needs one shape, but x is 3×32×32 and inner(x) is 3×30×30",
            ),
            (
                "{ type = \"residual\", layers = [{ type = \"max_pool\", kernel_size = 0 }] }".into(),
                "layer 0 (residual, net.0), inner layer 0 (max_pool, net.0.0): kernel_size is 0",
            ),
            ("{ type = \"residual\", layers = [] }".into(), "`layers` is empty"),
            (
                format!("{relu}, {{ prefix = \"net\", type = \"relu\" }}"),
                "the name \"net.0\" is already that of layer 0 (relu, net.0)",
            ),
            ("{ prefix = \"a..b\", type = \"relu\" }".into(), "the name \"a..b.0\""),
            (relu.into(), "end with { type = \"flatten\" } and { type = \"linear\", out_features = 10 }"),
            (
                "{ type = \"flatten\" }, { type = \"linear\", out_features = 9 }".into(),
                "layer 1 (linear, net.1): the last layer gives 9 an example; 10 classes need 10 logits",
            ),
            (String::new(), "`layers` is empty"),
        ] {
            let message = error(&layers);
            assert!(message.contains(wanted), "{layers}\n  gave  {message}\n  not   {wanted}");
        }
    }
}
