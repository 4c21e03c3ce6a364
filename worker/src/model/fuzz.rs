//! Model files of any sizes, numbers, names and nesting, from text to a planned model: no panic, no sum that overflows, and
//! memory in proportion to the text, however large the network is that it asks for.

use lockstep_fuzz::{Bound, cases, damaged, numbers};
use lockstep_proto::recipe::catalogue;
use lockstep_proto::recipe::model::{LayerKind, LayerSpec, ModelSpec};
use proptest::prelude::*;

use super::{Model, ModelError};

/// A layer is 14 bytes of text at least, and its place, twice, up to 2.7 KB where it is in 16 residuals.
const MODEL: Bound = Bound { each: 1024, constant: 1 << 20 };

/// Plans what the text says, on images of CIFAR's shape and others.
fn plan(spec: &ModelSpec, length: usize, input: [usize; 3], classes: usize) {
    let model: Result<Model, ModelError> = MODEL.hold(length, || Model::new(spec, input, classes));
    match model {
        Ok(model) => {
            let tensors: usize = model.schema().tensors().iter().map(|tensor| tensor.len()).sum();
            assert!(model.schema().len() == tensors && tensors <= 1 << 30, "{tensors} values");
            assert!(model.table().contains("total"));
        }
        Err(error) => assert!(error.to_string().len() < 8000 + spec.name.len() * 6, "{error}"),
    }
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 1..8_usize, 2 => 0..70_usize, 2 => numbers().prop_map(|n| n as usize)]
}

fn fractions() -> impl Strategy<Value = f64> {
    prop_oneof![3 => 0.0..1.0_f64, 1 => any::<f64>()]
}

fn layers() -> impl Strategy<Value = LayerSpec> {
    let plain = prop_oneof![
        (sizes(), sizes(), sizes(), sizes(), any::<bool>()).prop_map(
            |(out_channels, kernel_size, stride, padding, bias)| {
                LayerKind::Conv { out_channels, kernel_size, stride, padding, bias }
            }
        ),
        (fractions(), fractions()).prop_map(|(eps, momentum)| LayerKind::BatchNorm { eps, momentum }),
        Just(LayerKind::Relu {}),
        fractions().prop_map(|negative_slope| LayerKind::LeakyRelu { negative_slope }),
        (sizes(), sizes(), sizes()).prop_map(|(kernel_size, stride, padding)| LayerKind::MaxPool {
            kernel_size,
            stride,
            padding
        }),
        (sizes(), sizes(), sizes()).prop_map(|(kernel_size, stride, padding)| LayerKind::AvgPool {
            kernel_size,
            stride,
            padding
        }),
        Just(LayerKind::Flatten {}),
        (sizes(), any::<bool>()).prop_map(|(out_features, bias)| LayerKind::Linear { out_features, bias }),
        fractions().prop_map(|p| LayerKind::Dropout { p }),
        fractions().prop_map(|p| LayerKind::Dropout2d { p }),
    ];
    let prefix = || prop::option::weighted(0.2, "[a-z_.0-9]{0,6}|\\PC{0,4}|a{120,200}");
    let leaf = (prefix(), plain).prop_map(|(prefix, kind)| LayerSpec { prefix, kind });
    leaf.prop_recursive(8, 40, 4, move |inner| {
        (prefix(), prop::collection::vec(inner, 0..4))
            .prop_map(|(prefix, layers)| LayerSpec { prefix, kind: LayerKind::Residual { layers } })
    })
}

fn specs() -> impl Strategy<Value = ModelSpec> {
    let ending = prop_oneof![
        Just(vec![]),
        Just(vec![LayerKind::Flatten {}, LayerKind::Linear { out_features: 10, bias: true }]),
    ];
    ("\\PC{1,10}", "[a-z.]{0,6}|a{128,300}", prop::collection::vec(layers(), 0..6), ending).prop_map(
        |(name, prefix, mut layers, ending)| {
            layers.extend(ending.into_iter().map(|kind| LayerSpec { prefix: None, kind }));
            ModelSpec { name, source: String::new(), prefix, layers }
        },
    )
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn fuzz_model_files(bytes in damaged(catalogue::MODELS.iter().map(|file| file.text.as_bytes().to_vec()).collect())) {
        if let Ok(spec) = ModelSpec::parse(&String::from_utf8_lossy(&bytes), "fuzz") {
            plan(&spec, bytes.len(), [3, 32, 32], 10);
        }
    }

    #[test]
    fn fuzz_models(spec in specs(), input in prop_oneof![4 => Just([3, 32, 32]), 1 => [sizes(), sizes(), sizes()]], classes in sizes()) {
        // 14 bytes are the shortest layer's text, and there are 200 layers at most
        plan(&spec, 200 * 14, input, classes);
    }
}

/// Each took memory, or time, in proportion to the square of the text.
#[test]
fn long_names_and_many_layers_are_refused() {
    let error = |prefix: &str, layers: &str, count: usize| {
        let text = format!("name = \"m\"\nprefix = \"{prefix}\"\nlayers = [{}]", layers.repeat(count));
        let spec = ModelSpec::parse(&text, "test").expect("a readable file");
        MODEL.hold(text.len(), || Model::new(&spec, [3, 32, 32], 10)).expect_err("refused").to_string()
    };
    let text = error(&"a".repeat(10_000), "{ type = \"relu\" },", 1000);
    assert!(text.contains("layer 0 (relu): its prefix has 10000 bytes; at most 128"), "{text}");
    let text = error("", &format!("{{ prefix = \"{}\", type = \"relu\" }},", "b".repeat(129)), 1);
    assert!(text.contains("layer 0 (relu): its prefix has 129 bytes; at most 128"), "{text}");
    let text = error("net", "{ type = \"relu\" },", 10_001);
    assert!(text.contains("layer 10000 (relu, net.10000): it is one more than 10000"), "{text}");
}
