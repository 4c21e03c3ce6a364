//! Answers from the wire: put together, and checked for length, checksum and finiteness before anybody uses them.

use lockstep_proto::schema::Schema;
use lockstep_proto::tensors::Assembly;
use lockstep_proto::tree::Node;
use lockstep_proto::wire::{Evaluation, Failed, Gradient, GradientSummary};

use crate::actor::Answer;
use crate::engine::LeaseId;
use crate::evaluation::SliceCounts;

/// A whole answer to a lease.
pub(super) type Answered = (LeaseId, Answer);

/// Gradients on their way in, one at a time.
#[derive(Debug)]
pub(super) struct Inbox {
    schema: Schema,
    open: Option<(LeaseId, Assembly)>,
}

impl Inbox {
    pub(super) fn new(schema: Schema) -> Self {
        Self { schema, open: None }
    }

    /// Takes in a part. Returns the answer if it was the last one, or if something is wrong with it.
    pub(super) fn gradient(&mut self, mut part: Gradient) -> Option<Answered> {
        let lease = part.lease;
        let summary = part.summary.take();
        let (_, mut assembly) = match self.open.take() {
            Some(open) if open.0 == lease => open,
            // an unfinished one is given up: the engine re-issues its lease when the worker's session ends
            _ => (lease, Assembly::new(self.schema.len())),
        };
        if let Err(error) = assembly.add(part.offset, &part.data) {
            return Some((lease, Answer::Failed { reason: format!("its gradient was refused: {error}") }));
        }
        let Some(summary) = summary else {
            self.open = Some((lease, assembly));
            return None;
        };
        let answer = self.complete(&part, assembly, summary);
        Some((lease, answer.unwrap_or_else(|reason| Answer::Failed { reason })))
    }

    fn complete(&self, part: &Gradient, assembly: Assembly, summary: GradientSummary) -> Result<Answer, String> {
        let node = part.node.ok_or("its gradient names no node")?;
        let values = assembly.finish(summary.digest).map_err(|error| format!("its gradient was refused: {error}"))?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let tensor = self.schema.at(at).map_or("?", |tensor| &tensor.name);
            return Err(format!("its gradient has {} in tensor {tensor}", values[at]));
        }
        if let Some(outcome) = summary.outcomes.iter().find(|outcome| !outcome.loss_sum.is_finite()) {
            return Err(format!("its loss of shard {} is {}", outcome.shard, outcome.loss_sum));
        }
        Ok(Answer::Gradient {
            version: part.version,
            node: Node { level: node.level, index: node.index },
            values,
            outcomes: summary.outcomes,
            compute_us: summary.compute_us,
            wait_us: summary.wait_us,
        })
    }
}

pub(super) fn evaluation(message: Evaluation) -> Answered {
    let Evaluation { lease, version, loss_sum, correct, count, confusion } = message;
    (lease, Answer::Slice { version, counts: SliceCounts { loss_sum, correct, count, confusion } })
}

pub(super) fn failed(message: Failed) -> Answered {
    (message.lease, Answer::Failed { reason: message.reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_proto::schema::{Kind, TensorSpec};
    use lockstep_proto::tensors::{digest, to_bytes};
    use lockstep_proto::wire;

    fn inbox() -> Inbox {
        let tensor = |name: &str| TensorSpec { name: name.to_owned(), shape: vec![2], kind: Kind::Parameter };
        Inbox::new(Schema::new(vec![tensor("a"), tensor("b")]).expect("names differ"))
    }

    fn part(values: &[f32], offset: u64, digest: Option<u64>) -> Gradient {
        let summary = digest.map(|digest| GradientSummary { digest, ..Default::default() });
        let node = Some(wire::Node { level: 0, index: 0 });
        Gradient { lease: 1, version: 0, node, offset, data: to_bytes(values), summary }
    }

    fn reason(answered: Option<Answered>) -> String {
        match answered {
            Some((1, Answer::Failed { reason })) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_parts_make_one_answer() {
        let mut inbox = inbox();
        let whole = digest(&to_bytes(&[1.0, 2.0, 3.0, 4.0]));
        assert!(inbox.gradient(part(&[1.0, 2.0], 0, None)).is_none());
        let Some((1, Answer::Gradient { values, .. })) = inbox.gradient(part(&[3.0, 4.0], 2, Some(whole))) else {
            panic!("no answer")
        };
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn nan_is_named_by_tensor_and_length_and_checksum_are_checked() {
        let bad = [1.0, 2.0, f32::NAN, 4.0];
        let text = reason(inbox().gradient(part(&bad, 0, Some(digest(&to_bytes(&bad))))));
        assert!(text.contains("NaN in tensor b"), "{text}");
        let text = reason(inbox().gradient(part(&[1.0; 4], 0, Some(7))));
        assert!(text.contains("checksum"), "{text}");
        let text = reason(inbox().gradient(part(&[1.0; 5], 0, Some(7))));
        assert!(text.contains("ends at value 5"), "{text}");
        let text = reason(inbox().gradient(part(&[1.0; 3], 0, Some(7))));
        assert!(text.contains("has 4"), "{text}");
    }
}
