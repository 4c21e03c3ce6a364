//! A data set in memory.

use lockstep_proto::records::{self, Records, RecordsError, Split};

use super::{DataError, builtin, known};

/// Images and labels, what results call them, and where they came from.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What every result calls the data: `cifar10` only for the official images, byte for byte.
    pub name: String,
    /// The path, address or seed that it came from.
    pub source: String,
    /// What the labels mean: label i is `classes[i]`.
    pub classes: Vec<String>,
    pub train: Split,
    pub test: Split,
}

impl Dataset {
    /// Checks `records` and finds out what they are: known images by their hash, others by what is said of them
    /// (`fallback`, for instance `images:flowers`).
    pub(super) fn identify(mut records: Records, source: String, fallback: &str) -> Result<Self, DataError> {
        for (name, split) in [("training", &records.train), ("test", &records.test)] {
            if split.is_empty() {
                return Err(DataError::content(
                    source,
                    format!("the {name} split has no images; both need at least one"),
                ));
            }
        }
        records::check(&records.classes, &records.train, &records.test)
            .map_err(|e| DataError::content(source.as_str(), e.to_string()))?;
        let name = known::recognise(&mut records).unwrap_or_else(|| {
            if records.classes == known::CIFAR10_CLASSES {
                format!("cifar10-like ({} train / {} test)", records.train.len(), records.test.len())
            } else {
                fallback.to_owned()
            }
        });
        let Records { classes, train, test } = records;
        Ok(Self { name, source, classes, train, test })
    }

    /// Whether these are the procedural images.
    #[must_use]
    pub fn is_builtin(&self) -> bool {
        self.name == builtin::NAME
    }

    /// BLAKE3 over the labels and pixels of both splits: one set of images has one hash, in whatever layout it came.
    #[must_use]
    pub fn hash(&self) -> String {
        records::hash(&self.train, &self.test)
    }

    /// The canonical file (see [`lockstep_proto::records`]), which workers decode with
    /// [`Records::decode`](lockstep_proto::records::Records::decode).
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordsError> {
        let mut out = Vec::with_capacity(self.train.pixels.len() + self.test.pixels.len() + (1 << 17));
        records::write(&self.classes, &self.train, &self.test, &mut out)?;
        Ok(out)
    }

    /// Reads [`Dataset::to_bytes`]; `source` says where the bytes came from.
    pub fn from_bytes(bytes: &[u8], source: &str) -> Result<Self, DataError> {
        let records = Records::decode(bytes).map_err(|e| DataError::content(source, e.to_string()))?;
        Self::identify(records, source.to_owned(), &format!("records:{source}"))
    }
}
