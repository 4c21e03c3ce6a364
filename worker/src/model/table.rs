//! What `lockstep model show` prints: the layers, what each makes of an image, and what it costs.

use super::Model;
use super::layer::{Layer, Op};

/// One layer's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `3`, or `5.1` inside a residual.
    pub place: String,
    /// What its tensors' names begin with.
    pub name: String,
    /// Type and arguments.
    pub layer: String,
    /// The output for one example, for instance `16×10×10`.
    pub output: String,
    /// Trained values.
    pub parameters: usize,
    /// Multiply-adds of one example's forward pass, of convolutions and linear layers.
    pub multiply_adds: u64,
}

impl Model {
    /// One row a layer, inner layers after their residual (whose own counts are theirs, so its row shows none).
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        collect(self.layers(), &mut rows);
        rows
    }

    /// The rows and totals as aligned text, ending in a newline.
    #[must_use]
    pub fn table(&self) -> String {
        let head = ["#", "tensors", "layer", "output", "parameters", "multiply-adds"].map(str::to_owned);
        let input = ["", "", "input", &self.input().to_string(), "", ""].map(str::to_owned);
        let rows = self.rows().into_iter().map(|row| {
            let [parameters, multiply_adds] = [row.parameters as u64, row.multiply_adds].map(count);
            let name = if parameters.is_empty() { String::new() } else { row.name };
            [row.place, name, row.layer, row.output, parameters, multiply_adds]
        });
        let parameters = self.schema().parameters();
        let multiply_adds = self.layers().iter().map(|layer| layer.multiply_adds).sum();
        let total = ["", "", "total", "", &count(parameters as u64), &count(multiply_adds)].map(str::to_owned);
        let lines: Vec<[String; 6]> = [head, input].into_iter().chain(rows).chain([total]).collect();

        let mut widths = [0; 6];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = format!("{}, for {} classes", self.name(), self.classes());
        if !self.source().is_empty() {
            text += &format!(": {}", self.source());
        }
        text.push('\n');
        for line in &lines {
            let mut padded = String::new();
            for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
                padded += &if column < 4 { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") };
            }
            text += padded.trim_end();
            text.push('\n');
        }
        let buffers = self.schema().len() - parameters;
        if buffers > 0 {
            text += &format!(
                "and {} running statistics, which travel and are saved but are not trained\n",
                grouped(buffers as u64)
            );
        }
        text
    }
}

fn collect(layers: &[Layer], rows: &mut Vec<Row>) {
    for layer in layers {
        let inner: &[Layer] = match &layer.op {
            Op::Residual { layers } => layers,
            _ => &[],
        };
        let own = |total: u64| if inner.is_empty() { total } else { 0 };
        rows.push(Row {
            place: layer.number.clone(),
            name: layer.name.clone(),
            layer: layer.summary.clone(),
            output: layer.output.to_string(),
            parameters: own(layer.parameters as u64) as usize,
            multiply_adds: own(layer.multiply_adds),
        });
        collect(inner, rows);
    }
}

/// The number, or nothing for 0: most layers have no parameters, and the eye should find those that do.
fn count(number: u64) -> String {
    if number == 0 { String::new() } else { grouped(number) }
}

/// With commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::{LENET_DROPOUT_BN, model};
    use super::*;

    /// Oracle: the LeNet's counts by hand, convolutions out × in × k² × h × w, linear layers out × in.
    #[test]
    fn the_table_counts_a_lenet() {
        let table = model(LENET_DROPOUT_BN).table();
        let line = |start: &str| {
            let found =
                table.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {table}"));
            found.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(line("0 "), ["0", "net.0", "conv", "6", "@", "5×5", "6×28×28", "456", "352,800"]);
        assert_eq!(line("3 "), ["3", "net.3", "conv", "16", "@", "5×5", "16×10×10", "2,416", "240,000"]);
        assert_eq!(line("4 "), ["4", "net.4", "batch_norm", "16×10×10", "32"]);
        assert_eq!(line("6 "), ["6", "max_pool", "2×2", "16×5×5"]);
        assert_eq!(line("8 "), ["8", "net.8", "linear", "120", "120", "48,120", "48,000"]);
        assert_eq!(line("10"), ["10", "dropout", "p=0.5", "120"]);
        let total: u64 = 352_800 + 240_000 + 48_000 + 120 * 84 + 84 * 10;
        assert!(table.contains("62,038") && table.contains(&grouped(total)), "{table}");
        assert!(table.contains("and 32 running statistics"), "{table}");
    }

    #[test]
    fn thousands_are_grouped() {
        let texts = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }
}
