//! A model file → [`ModelSpec`], with errors that name the file, the layer, the key and the nearest known key.

use serde::Deserialize;
use toml::Value;

use super::super::{nearest, text};
use super::strict::{Problem, Strict};
use super::{LayerKind, LayerSpec, ModelSpec};

/// Residuals in each other. Every network that is known does with two; reading, planning and computing a residual each call
/// themselves for the inner one.
const DEEPEST: usize = 16;

/// A model file that can't be read as one.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    #[error("{origin}: not a TOML file: {message}")]
    Toml { origin: String, message: String },
    #[error("{origin}: {place}: {problem}")]
    Content { origin: String, place: String, problem: String },
}

/// The file's outermost table; `layers` stays raw so that each error can say which layer it is about.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    name: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    prefix: String,
    layers: Vec<Value>,
}

impl ModelSpec {
    /// Reads the text of a model file; `origin` is what errors call it (a path, or "built-in model lenet").
    ///
    /// # Errors
    /// Text that is not TOML, an unknown or missing key or type, a value of the wrong kind. Shapes are checked later,
    /// when the data are known.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ModelFileError> {
        let content = |place: &str, problem: String| ModelFileError::Content {
            origin: origin.to_owned(),
            place: place.to_owned(),
            problem,
        };
        text::check(text).map_err(|problem| content("the whole file", problem))?;
        let document: toml::Table = toml::from_str(text)
            .map_err(|error| ModelFileError::Toml { origin: origin.to_owned(), message: error.to_string() })?;
        let head = Head::deserialize(Strict(Value::Table(document)))
            .map_err(|problem| content("top of the file", explain(&problem, &[])))?;
        if head.name.is_empty() {
            return Err(content("top of the file", "`name` is empty; results and files are called by it".to_owned()));
        }
        let layers = layers(head.layers, "layer ", 0).map_err(|(place, problem)| content(&place, problem))?;
        Ok(Self { name: head.name, source: head.source, prefix: head.prefix, layers })
    }
}

/// Reads a chain inside `depth` residuals; `numbering` comes before each layer's number. An error is a place and a problem.
fn layers(items: Vec<Value>, numbering: &str, depth: usize) -> Result<Vec<LayerSpec>, (String, String)> {
    let numbered = items.into_iter().enumerate();
    numbered.map(|(index, item)| layer(item, format!("{numbering}{index}"), depth)).collect()
}

fn layer(item: Value, place: String, depth: usize) -> Result<LayerSpec, (String, String)> {
    let Value::Table(mut table) = item else {
        return Err((place, format!("{item} is not a layer; write {{ type = \"relu\" }}, for instance")));
    };
    let place = match table.get("type") {
        Some(Value::String(name)) => format!("{place} ({name})"),
        _ => place,
    };
    let prefix = match table.remove("prefix") {
        None => None,
        Some(Value::String(name)) => Some(name),
        Some(other) => return Err((place, format!("`prefix = {other}` is not a text; write prefix = \"features\""))),
    };
    let is_residual = matches!(table.get("type"), Some(Value::String(name)) if name == "residual");
    if is_residual && depth == DEEPEST {
        return Err((place, format!("it is in {depth} other residuals; at most {DEEPEST} stand in each other")));
    }
    let inner = match table.get_mut("layers") {
        // taken out and read here, so that an inner layer's error has the inner layer's place
        Some(Value::Array(items)) if is_residual => {
            layers(std::mem::take(items), &format!("{place}, inner layer "), depth + 1)?
        }
        _ => Vec::new(),
    };
    let mut kind = match LayerKind::deserialize(Strict(Value::Table(table))) {
        Ok(kind) => kind,
        Err(problem) => return Err((place, explain(&problem, &["prefix"]))),
    };
    if let LayerKind::Residual { layers } = &mut kind {
        *layers = inner;
    }
    Ok(LayerSpec { prefix, kind })
}

/// The problem with what is known instead, and the nearest of it.
fn explain(problem: &Problem, also_known: &[&str]) -> String {
    let (given, known, also) = match problem {
        Problem::UnknownKey { key, known } => (key, known, also_known),
        Problem::UnknownType { name, known } => (name, known, &[] as &[&str]),
        Problem::MissingKey(_) | Problem::Value(_) => return problem.to_string(),
    };
    let known: Vec<&str> = known.iter().chain(also).copied().collect();
    let list = known.join(", ");
    match nearest_word(given, &known) {
        Some(name) => format!("{problem}; did you mean `{name}`? (known: {list})"),
        None => format!("{problem}; known: {list}"),
    }
}

/// The known word that `given` most likely is a slip of.
fn nearest_word<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    if given.len() > nearest::LONGEST {
        return None;
    }
    // 0.7 takes `kernel` for `kernel_size` and `maxpool` for `max_pool`, but not `width` for anything
    let scored = known.iter().map(|word| (strsim::jaro_winkler(given, word), *word));
    scored.filter(|(score, _)| *score > 0.7).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        ModelSpec::parse(text, "my.toml").expect_err("a bad file").to_string()
    }

    fn with_layer(layer: &str) -> String {
        error(&format!("name = \"m\"\nlayers = [{{ type = \"relu\" }}, {layer}]"))
    }

    #[test]
    fn a_good_file_gets_pytorchs_defaults() {
        let text = r#"
            name = "m"
            prefix = "net"
            layers = [
              { type = "conv", out_channels = 6, kernel_size = 5 },
              { type = "batch_norm" },
              { type = "dropout", p = 0 },
              { prefix = "tail", type = "residual", layers = [{ type = "max_pool", kernel_size = 2 }] },
            ]"#;
        let spec = ModelSpec::parse(text, "my.toml").expect("a good file");
        let plain = |kind| LayerSpec { prefix: None, kind };
        let pool = LayerKind::MaxPool { kernel_size: 2, stride: 0, padding: 0 };
        assert_eq!(
            spec.layers,
            [
                plain(LayerKind::Conv { out_channels: 6, kernel_size: 5, stride: 1, padding: 0, bias: true }),
                plain(LayerKind::BatchNorm { eps: 1e-5, momentum: 0.1 }),
                plain(LayerKind::Dropout { p: 0.0 }),
                LayerSpec { prefix: Some("tail".to_owned()), kind: LayerKind::Residual { layers: vec![plain(pool)] } },
            ]
        );
    }

    #[test]
    fn what_is_written_is_read_again_by_both_readers() {
        let text = "name = \"m\"\nlayers = [{ prefix = \"a\", type = \"residual\", layers = [{ type = \"relu\" }] }]";
        let spec = ModelSpec::parse(text, "my.toml").expect("a good file");
        let written = toml::to_string(&spec).expect("a spec is a table");
        assert_eq!(ModelSpec::parse(&written, "written").expect("written"), spec);
        assert_eq!(toml::from_str::<ModelSpec>(&written).expect("serde"), spec);
    }

    #[test]
    fn sixteen_residuals_in_each_other_are_read_and_printed_and_seventeen_are_named() {
        let nested = |depth: usize| {
            let (open, close) = ("{ type = \"residual\", layers = [".repeat(depth), "] }".repeat(depth));
            format!("name = \"m\"\nlayers = [{open}{{ type = \"relu\" }}{close}]")
        };
        let spec = ModelSpec::parse(&nested(16), "my.toml").expect("as deep as can be");
        let written = toml::to_string(&spec).expect("a spec is a table");
        assert_eq!(ModelSpec::parse(&written, "written").expect("what was printed"), spec);
        assert!(error(&nested(17)).contains("in 16 other residuals; at most 16"), "{}", error(&nested(17)));
    }

    #[test]
    fn serde_alone_refuses_unknown_keys_too() {
        // recipes hold models inline: they are read by serde, without the better errors
        let text = "name = \"m\"\nlayers = [{ type = \"relu\", slope = 1 }]";
        let message = toml::from_str::<ModelSpec>(text).expect_err("unknown key").to_string();
        assert!(message.contains("slope"), "{message}");
    }

    #[test]
    fn errors_name_file_layer_key_and_the_nearest_key() {
        assert_eq!(
            with_layer("{ type = \"conv\", out_channels = 6, kernel = 5 }"),
            "my.toml: layer 1 (conv): unknown key `kernel`; did you mean `kernel_size`? \
             (known: out_channels, kernel_size, stride, padding, bias, prefix)"
        );
        let message = with_layer("{ type = \"maxpool\", kernel_size = 5 }");
        assert!(message.starts_with("my.toml: layer 1 (maxpool): unknown type `maxpool`; did you mean `max_pool`?"));
        assert_eq!(
            with_layer("{ type = \"conv\", kernel_size = 5 }"),
            "my.toml: layer 1 (conv): the key `out_channels` is missing"
        );
        assert_eq!(with_layer("{ p = 0.5 }"), "my.toml: layer 1: the key `type` is missing");
        let message = with_layer("{ type = \"conv\", kernel_size = -5, out_channels = 1 }");
        assert!(message.contains("layer 1 (conv)") && message.contains("`-5`"), "{message}");
        let message = with_layer("7");
        assert!(message.contains("layer 1: 7 is not a layer"), "{message}");
        let message = with_layer("{ type = \"residual\", layers = [{ type = \"relu\", p = 1 }] }");
        assert!(message.starts_with("my.toml: layer 1 (residual), inner layer 0 (relu): unknown key `p`"), "{message}");
        let message = with_layer("{ type = \"residual\" }");
        assert!(message.contains("`layers` is missing"), "{message}");
    }

    #[test]
    fn errors_of_the_outermost_table_are_told() {
        let message = error("name = \"m\"\nlayer = []");
        assert!(message.contains("unknown key `layer`; did you mean `layers`?"), "{message}");
        assert!(error("name = \"\"\nlayers = []").contains("`name` is empty"));
        assert!(error("layers = []").contains("`name` is missing"));
        let message = error("name = ");
        assert!(message.starts_with("my.toml: not a TOML file") && message.contains("line 1"), "{message}");
    }
}
